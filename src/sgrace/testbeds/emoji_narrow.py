"""A second denoiser for the text encoder of the built-in model, to see what an erased encoder does in it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import torch

from .._util.errors import InputError
from ..concept import Concept
from ..erasure.int8 import read_weights
from ..models import DiffusionModel
from .emoji.testbed import EmojiTestbed


class EmojiNarrow(EmojiTestbed):
    """The built-in model with a narrower denoiser, trained on the same drawings from another seed.

    Concepts, words, prompts and judge are those of the built-in model. No model without a concept was trained
    with this denoiser.
    """

    name = "emoji_narrow"

    def folders(self) -> tuple[Path, ...]:
        """The pipeline's, and that of the narrow denoiser."""
        return (*super().folders(), denoiser_path())

    def completed(self, model: DiffusionModel) -> DiffusionModel:
        """The built-in model with the narrow denoiser in the place of its own."""
        if model.origin.denoiser or model.origin.loras:
            raise InputError(
                f"{self.name} has a denoiser of its own, which takes no --denoiser and no --lora."
            )
        folder = denoiser_path()
        kind: Any = type(model.denoiser)
        with torch.device("meta"):  # the weights come from the file
            denoiser = kind.from_config(kind.load_config(folder))
        denoiser.load_state_dict(read_weights(folder / "unet.safetensors"), assign=True)
        denoiser.requires_grad_(requires_grad=False)
        narrow = model.replace(denoiser=denoiser.eval())
        if narrow.low_memory:
            narrow.save_memory()
        return narrow.to(model.device, model.dtype)

    def gold(self, concept: Concept) -> Path | None:
        """None: the models that were trained without a concept have the other denoiser."""
        del concept
        return None

    def reference(self, concept: Concept, suite: str) -> Path | None:
        """None, as there is no such model."""
        del concept, suite
        return None


def denoiser_path() -> Path:
    """Folder of the narrow denoiser: its configuration, and its weights in int8."""
    return Path(str(resources.files("sgrace.testbeds.emoji") / "narrow"))

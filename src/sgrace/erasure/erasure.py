"""What an eraser changed, saved as tensors and a recipe, loaded again and applied to a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerBase

from .._util import registry
from .._util.errors import InputError, unknown
from .._util.files import new_folder
from .._util.hashing import sha256
from .._util.settings import config_from
from ..models import StableDiffusion
from ..models.adapters import KINDS
from ..models.guidance import Guidance
from ..models.sites import shared_copy
from .int8 import SCALE, packed, unpacked

RECIPE, UNET, ADAPTER, GUIDANCE = "recipe.json", "unet.safetensors", "adapter.safetensors", "guidance.safetensors"
TEXT_ENCODER = "text_encoder/model.safetensors"
PARTS = (TEXT_ENCODER, UNET, ADAPTER, GUIDANCE)


@dataclass(frozen=True)
class Erasure:
    """What an eraser changed, and the recipe that made it.

    Attributes:
        recipe: method, config, concepts, knowledge, base model, seed, cost and versions, ready for JSON.
        tokenizer: the model's tokenizer, saved beside a changed text encoder.
        text_encoder: drop-in replacement for the model's own, if it was changed.
        unet: changed tensors of the denoiser by name, if any was.
        adapter: tensors beside those of the denoiser, if there are any.
        adapter_kind: how they are laid out and used, of :data:`~sgrace.models.adapters.KINDS`.
        guidance: what steers the model while it samples, if anything does; no weights can carry it.
    """

    recipe: dict[str, Any]
    tokenizer: PreTrainedTokenizerBase | None
    text_encoder: CLIPTextModel | None = None
    unet: Mapping[str, Tensor] = field(default_factory=dict)
    adapter: Mapping[str, Tensor] = field(default_factory=dict)
    adapter_kind: str = "gated"
    guidance: Guidance[Any] | None = None

    def apply(self, model: StableDiffusion) -> StableDiffusion:
        """The model with the concept erased; the given one is untouched, and all that is not changed is shared with it.

        Raises:
            InputError: the erasure was made for a model of other sizes, or would be the second to steer the model.
        """
        if self.text_encoder is not None:
            mine, theirs = self.text_encoder.config, model.pipeline.text_encoder.config
            for name in ("hidden_size", "num_hidden_layers", "vocab_size"):
                if getattr(mine, name) != getattr(theirs, name):
                    raise InputError(f"This erasure was made for another model: its text encoder has {name} {getattr(mine, name)}.")
            model = model.with_text_encoder(self.text_encoder)
        if self.unet:
            try:
                unet = model.pipeline.unet
                model = model.with_unet(shared_copy(unet, {name: value.to(unet.dtype) for name, value in self.unet.items()}))
            except (KeyError, ValueError) as error:
                raise InputError(f"This erasure was made for another model: its denoiser differs ({error}).") from error
        if self.adapter:
            try:
                model = model.with_unet(KINDS[self.adapter_kind](model.pipeline.unet, self.adapter))
            except (AttributeError, KeyError, ValueError) as error:
                raise InputError(f"This erasure was made for another model: its adapters do not fit ({error}).") from error
        return model if self.guidance is None else model.with_guidance(self.guidance)

    def save_pretrained(self, folder: str | Path, *, small: bool = False) -> None:
        """Write what changed (``text_encoder/`` with the tokenizer, tensors) and, last, ``recipe.json`` with their hashes.

        Args:
            folder: it must not exist, or be empty.
            small: text encoder and denoiser in int8 (:mod:`.packing`), which only :meth:`from_pretrained` reads.

        Raises:
            InputError: the folder exists and is not empty, or cannot be written.
        """
        with new_folder(Path(folder)) as partial:
            if self.text_encoder is not None:
                self.text_encoder.save_pretrained(partial / "text_encoder")
                if small:
                    save_file(packed(self.text_encoder.state_dict()), partial / TEXT_ENCODER)
                if self.tokenizer is not None:
                    self.tokenizer.save_pretrained(partial / "text_encoder")
            unet = packed(self.unet) if small else self.unet
            for name, tensors, header in ((UNET, unet, None), (ADAPTER, self.adapter, {"kind": self.adapter_kind})):
                if tensors:
                    save_file({key: value.contiguous() for key, value in tensors.items()}, partial / name, metadata=header)
            if self.guidance is not None:
                self.guidance.save(partial / GUIDANCE)
            hashes = {name: sha256(partial / name) for name in PARTS if (partial / name).exists()}
            (partial / RECIPE).write_text(json.dumps({**self.recipe, "sha256": hashes}, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load a saved erasure.

        Raises:
            InputError: the folder is no erasure, or its weights are not the ones that the recipe names.
        """
        path = Path(folder)
        try:
            recipe = json.loads((path / RECIPE).read_text())
            wanted = {name: str(value) for name, value in recipe["sha256"].items() if name in PARTS}
            found = {name: sha256(path / name) for name in wanted or [TEXT_ENCODER]}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is not an erasure: it needs {RECIPE} and the weights that it names.") from error
        if found != wanted:
            raise InputError(f"The weights in {path} differ from the ones that its recipe names: the file was changed or damaged.")
        folder_of_text, tokenizer = path / "text_encoder", None
        text_encoder = _text_encoder(folder_of_text) if TEXT_ENCODER in wanted else None
        if text_encoder is not None and (folder_of_text / "tokenizer_config.json").is_file():
            tokenizer = CLIPTokenizer.from_pretrained(folder_of_text)
        unet, adapter = (unpacked(load_file(path / name)) if name in wanted else {} for name in (UNET, ADAPTER))
        kind = adapter_kind(path / ADAPTER) if adapter else "gated"
        guidance = load_guidance(path / GUIDANCE) if GUIDANCE in wanted else None
        return cls(recipe, tokenizer, text_encoder, unet, adapter, kind, guidance)


def _text_encoder(folder: Path) -> CLIPTextModel:
    state = load_file(folder / Path(TEXT_ENCODER).name)
    if any(name.endswith(SCALE) for name in state):
        model = CLIPTextModel(CLIPTextConfig.from_pretrained(folder))
        model.load_state_dict(unpacked(state))
    else:
        model = CLIPTextModel.from_pretrained(folder, dtype=torch.float32)
    return model.eval().requires_grad_(False)


def adapter_kind(file: Path) -> str:
    """What a file of adapters says of itself.

    Raises:
        InputError: there is no such kind.
    """
    with safe_open(file, "pt") as opened:
        kind = (opened.metadata() or {}).get("kind", "gated")
    if kind not in KINDS:
        raise unknown("kind of adapters", kind, KINDS)
    return str(kind)


def load_guidance(file: Path) -> Guidance[BaseModel]:
    """Guidance from a file of tensors.

    Raises:
        InputError: the file holds none, its kind is not installed, or its settings are not valid.
    """
    try:
        with safe_open(file, "pt") as opened:
            header = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (no mapping)
        name, values = header["guidance"], json.loads(header["settings"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{file} holds no guidance.") from error
    kind = registry.load("erasers", name).guidance_type
    if kind is None:
        raise InputError(f"{file} holds guidance of {name}, which has none.")
    return cast("Guidance[BaseModel]", kind(config_from(kind.config_type, values), tensors))

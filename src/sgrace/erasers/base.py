"""What every eraser gives: an erasure that can be saved, loaded and applied."""

from __future__ import annotations

import hashlib
import json
import platform
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Self

from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerBase

from ..concept import Concept, Kind
from ..errors import InputError
from ..files import new_folder
from ..knowledge import Knowledge
from ..models import StableDiffusion


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of the packages that decide a result."""
    names = ("sgrace", "torch", "diffusers", "transformers", "safetensors", "numpy")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


class Eraser(ABC):
    """Base of all methods.

    Attributes:
        name: plug-in name.
        paper: where it comes from.
        trains: which parameters it changes.
        default_preset: the preset that measures best on the built-in model.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    trains: ClassVar[str]
    default_preset: ClassVar[str]

    @classmethod
    @abstractmethod
    def preset(cls, name: str | None, kind: Kind, settings: Mapping[str, str] | None = None) -> Self:
        """The method with a named preset's settings for a kind of concept, and single settings given as text.

        Raises:
            InputError: unknown preset or setting, or a value out of range.
        """

    @abstractmethod
    def erase(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], *, seed: int = 0) -> Erasure:
        """Erase a set of concepts; the given model is untouched.

        Args:
            model: the model to protect.
            concepts: one or more concepts.
            knowledge: word lists, one per concept.
            seed: same seed, same weights.

        Raises:
            InputError: no concept, or lists of different length.
        """


@dataclass(frozen=True)
class Erasure:
    """A changed text encoder and the recipe that made it.

    Attributes:
        text_encoder: drop-in replacement for the model's own.
        tokenizer: the model's tokenizer, saved beside it.
        recipe: method, config, concepts, knowledge, base model, seed, cost and versions, ready for JSON.
    """

    text_encoder: CLIPTextModel
    tokenizer: PreTrainedTokenizerBase
    recipe: dict[str, Any]

    def apply(self, model: StableDiffusion) -> StableDiffusion:
        """The model with the concept erased; the given one is untouched."""
        mine, theirs = self.text_encoder.config, model.pipeline.text_encoder.config
        for name in ("hidden_size", "num_hidden_layers", "vocab_size"):
            if getattr(mine, name) != getattr(theirs, name):
                raise InputError(f"This erasure was made for another model: its text encoder has {name} {getattr(mine, name)}.")
        return model.with_text_encoder(self.text_encoder)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``text_encoder/`` (with the tokenizer) and ``recipe.json``; the recipe comes last and holds the weights' hash.

        Raises:
            InputError: the folder exists and is not empty, or cannot be written.
        """
        with new_folder(Path(folder)) as partial:
            self.text_encoder.save_pretrained(partial / "text_encoder")
            self.tokenizer.save_pretrained(partial / "text_encoder")
            recipe = {**self.recipe, "sha256": sha256(partial / "text_encoder" / "model.safetensors")}
            (partial / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load a saved erasure.

        Raises:
            InputError: the folder is no erasure, or its weights are not the ones that the recipe names.
        """
        path = Path(folder)
        try:
            recipe = json.loads((path / "recipe.json").read_text())
            digest = sha256(path / "text_encoder" / "model.safetensors")
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is not an erasure: it needs recipe.json and text_encoder/model.safetensors.") from error
        if not isinstance(recipe, dict) or digest != recipe.get("sha256"):
            raise InputError(f"The weights in {path} differ from the ones that its recipe names: the file was changed or damaged.")
        text_encoder = CLIPTextModel.from_pretrained(path / "text_encoder").eval().requires_grad_(False)
        return cls(text_encoder, CLIPTokenizer.from_pretrained(path / "text_encoder"), recipe)

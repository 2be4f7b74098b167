"""What every eraser gives: an erasure that can be saved, loaded and applied."""

from __future__ import annotations

import hashlib
import json
import platform
import resource
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, cast

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerBase

from .. import registry
from ..concept import Concept, Kind
from ..errors import InputError, unknown
from ..files import new_folder
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ..models.adapters import KINDS
from ..models.guidance import Guidance
from ..models.parts import shared_copy
from ..settings import config_from, preset_values
from .packing import SCALE, packed, unpacked

Config = TypeVar("Config", bound=BaseModel)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of the packages that decide a result."""
    names = ("sgrace", "torch", "diffusers", "transformers", "safetensors", "numpy")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


class Eraser(ABC, Generic[Config]):
    """Base of all methods.

    Args:
        config: settings; the config's own defaults, if absent.

    Attributes:
        name: plug-in name.
        paper: where it comes from.
        trains: which parameters it changes.
        pictures: what it needs besides words: ``none``, or which pictures it draws itself.
        access: what it needs of the model: ``gradients`` through its networks, its ``weights`` alone, or a say in its ``sampling``.
        several: how several concepts in one call are treated.
        form: what an erasure holds: ``plain weights`` that any pipeline takes, an ``adapter``, or ``guidance`` while sampling.
        families: models on which it works.
        licence: of the authors' own code, which is no part of this one.
        config_type: the frozen pydantic model of the settings.
        presets: named settings; default_preset: the one that is used where none is named.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    trains: ClassVar[str]
    pictures: ClassVar[str] = "none"
    access: ClassVar[Literal["gradients", "weights", "sampling"]] = "gradients"
    several: ClassVar[str] = "together"
    form: ClassVar[str] = "plain weights"
    families: ClassVar[str] = "Stable Diffusion 1.x, 2.x"
    licence: ClassVar[str]
    config_type: ClassVar[type[BaseModel]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    default_preset: ClassVar[str]
    config: Config

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or cast("Config", self.config_type())

    @classmethod
    def preset(cls, name: str | None, kind: Kind, settings: Mapping[str, str] | None = None) -> Self:
        """The method with a named preset's settings for a kind of concept, and single settings given as text.

        Raises:
            InputError: unknown preset or setting, or a value out of range.
        """
        del kind  # most methods treat all kinds alike
        values = preset_values(cls.presets, name or cls.default_preset)
        return cls(cast("Config", config_from(cls.config_type, values, settings)))

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


def check_concepts(concepts: list[Concept], knowledge: list[Knowledge]) -> None:
    """Raise InputError where there is no concept, or not one word list for each."""
    if not concepts or len(concepts) != len(knowledge):
        raise InputError("Give at least one concept, and word lists for each.")


def facts(
    eraser: Eraser[Any],
    model: StableDiffusion,
    concepts: list[Concept],
    knowledge: list[Knowledge],
    seed: int,
    *,
    trained: int,
    started: float,
    **more: Any,  # noqa: ANN401  (ready for JSON)
) -> dict[str, Any]:
    """The recipe: everything needed to repeat and to judge a run.

    Args:
        eraser: has the config.
        model: the run's own adapter, whose count of calls is the run's.
        concepts: as given.
        knowledge: as given.
        seed: as given.
        trained: number of changed parameters.
        started: ``time.monotonic()`` at the start.
        more: fields of the method.
    """
    return {
        "method": eraser.name,
        "paper": eraser.paper,
        "config": eraser.config.model_dump(),
        "concepts": [concept.model_dump() for concept in concepts],
        "knowledge": [{**words.model_dump(), "overlap": words.overlap} for words in knowledge],
        **more,
        "base_model": model.source,
        "seed": seed,
        "cost": {**asdict(model.calls), "trained_parameters": trained},
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "versions": versions(),
        "seconds": round(time.monotonic() - started, 1),
    }


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
    kind = registry.load("guidance", name)
    return cast("Guidance[BaseModel]", kind(config_from(kind.config_type, values), tensors))

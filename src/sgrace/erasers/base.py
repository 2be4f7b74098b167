"""What every eraser gives: an erasure that can be saved, loaded and applied."""

from __future__ import annotations

import resource
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, cast

from pydantic import BaseModel

from .._util.errors import InputError
from .._util.provenance import versions
from .._util.settings import config_from, preset_values
from ..concept import Concept, Kind
from ..erasure import Erasure
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ..models.guidance import Guidance

Config = TypeVar("Config", bound=BaseModel)


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
        guidance_type: what steers the sampling, for methods that change no weights.
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
    guidance_type: ClassVar[type[Guidance[Any]] | None] = None
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

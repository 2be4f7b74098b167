"""What an eraser is: a change of a model, made from the words of the concepts to be erased."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Generic, Self, TypeVar, cast, final

import torch
from pydantic import BaseModel
from torch import Tensor

from .._util.device import out_of_memory
from .._util.errors import InputError
from .._util.progress import progress
from .._util.provenance import device_memory_mb, device_name, peak_memory_mb, versions
from .._util.settings import config_from, preset_values
from ..concept import Concept, Kind
from ..erasure import Adapter, Erasure, Recipe, base_of, check_room
from ..erasure.recipe import Cost, RecipeTarget
from ..knowledge import Target, apart
from ..models import DiffusionModel, own_threads
from ..models.guidance import Guidance
from ..models.needs import Need, refusal

__all__ = ["Change", "Eraser", "Job", "Need"]

Config = TypeVar("Config", bound=BaseModel)


@dataclass(frozen=True)
class Change:
    """What a method changes.

    Attributes:
        tensors: changed parameters by component and name. Of a text encoder: its whole state, as it is saved
            to be dropped in.
        adapter: tensors beside the denoiser's own.
        guidance: what steers the sampling from now on.
        trained: number of changed values.
        details: what else the recipe records, ready for JSON.
    """

    tensors: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    adapter: Adapter | None = None
    guidance: Guidance[Any] | None = None
    trained: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One run of an eraser.

    Attributes:
        model: the original, with a count of calls of its own.
        targets: the concepts and their words.
        seed: of every choice.
        generator: of noise and choices, on the CPU.
        rng: of choices among words.
    """

    model: DiffusionModel
    targets: tuple[Target, ...]
    seed: int
    generator: torch.Generator
    rng: random.Random

    @property
    def concepts(self) -> list[Concept]:
        """The concepts."""
        return [target.concept for target in self.targets]

    def progress(self, steps: int | Iterable[Any], desc: str = "erase") -> Iterator[Any]:
        """Steps, or items, under a progress bar."""
        items = range(steps) if isinstance(steps, int) else steps
        return progress(items, desc, **self.model.progress_bar_options)


class Eraser(ABC, Generic[Config]):
    """Base of all methods; a subclass writes :meth:`change`.

    Args:
        config: settings; the config's own defaults, if absent.
        preset: name of the preset that the settings came from.

    Attributes:
        name: plug-in name.
        paper: where it comes from.
        licence: of the authors' own code, which is no part of this one.
        needs: what it asks of a model.
        needs_with: what it asks in their place with a setting, given as ``KEY=VALUE``.
        changes: the site of the denoiser that it changes, or ``text``, ``adapter`` or ``guidance``.
        config_type: the frozen pydantic model of the settings.
        presets: named settings.
        default_preset: the one that is used where none is named.
        guidance_type: what steers the sampling, for methods that change no weights.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    licence: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS})
    needs_with: ClassVar[Mapping[str, frozenset[Need]]] = {}
    changes: ClassVar[str] = "text_kv"
    config_type: ClassVar[type[BaseModel]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    default_preset: ClassVar[str]
    guidance_type: ClassVar[type[Guidance[Any]] | None] = None
    config: Config

    def __init__(self, config: Config | None = None, preset: str | None = None) -> None:
        self.config = config or cast("Config", self.config_type())
        self.preset_name = preset

    @classmethod
    def preset(cls, name: str | None, kind: Kind, settings: Mapping[str, str] | None = None) -> Self:
        """The method with a named preset's settings for a kind of concept, and single settings given as text.

        Raises:
            InputError: unknown preset or setting, or a value out of range.
        """
        chosen = name or cls.default_preset
        # the kind's values come on top of the preset's, single settings on top of both
        values = {**preset_values(cls.presets, chosen), **cls.values_for(chosen, kind)}
        return cls(cast("Config", config_from(cls.config_type, values, settings)), chosen)

    @classmethod
    def values_for(cls, preset: str, kind: Kind) -> Mapping[str, Any]:
        """Settings of a preset that depend on the kind of concept; most methods have none."""
        del preset, kind
        return {}

    @classmethod
    def refusal(cls, family: type[DiffusionModel], dtype: torch.dtype = torch.float32) -> str:
        """Why the method, with its defaults, cannot run on a family in a precision; empty where it can."""
        lacks = family.lacks_in(dtype)
        reason = refusal(cls.needs, lacks)
        others = [setting for setting, needs in cls.needs_with.items() if not refusal(needs, lacks)]
        return f"{reason}; `--set {others[0]}` runs" if reason and others else reason

    def refused(self, model: DiffusionModel) -> str:
        """Why this run cannot be made on a model; empty where it can."""
        for setting, needs in self.needs_with.items():
            key, _, value = setting.partition("=")
            if str(getattr(self.config, key)) == value:
                return refusal(needs, model.lacks_in(model.dtype))
        return self.refusal(type(model), model.dtype)

    @property
    def site(self) -> str:
        """What this run changes: the ``site`` of the settings where they have one, else :attr:`changes`."""
        return str(getattr(self.config, "site", self.changes))

    @property
    def sites(self) -> tuple[str, ...]:
        """All that this run changes; most methods change one site."""
        return (self.site,)

    def saved_bytes(self, model: DiffusionModel) -> int:
        """About how large a saved erasure of a model is, known before it is made.

        Counted are the parameters that the run changes, and the erasures that the model has already. Adapters
        and guidance are small beside them.
        """
        changed: list[Tensor] = []
        for site in self.sites:
            if site == "text":
                encoders = model.text.select(getattr(self.config, "encoders", "all"))
                changed += [value for encoder in encoders for value in encoder.module.parameters()]
            elif site in model.sites.map.groups:
                changed += model.sites.parameters(site).values()
        beneath: tuple[Erasure, ...] = model.erasures
        return sum(value.nbytes for value in changed) + sum(each.n_bytes for each in beneath)

    @final
    def erase(self, model: DiffusionModel, targets: Iterable[Target], *, seed: int = 0) -> Erasure:
        """Erase a set of concepts; the given model is untouched.

        Args:
            model: the model to protect.
            targets: one or more concepts with their words.
            seed: same seed, same weights.

        Raises:
            InputError: no concept, or the method cannot work on this model or with these words.
        """
        chosen = tuple(targets)
        if not chosen:
            raise InputError("Give at least one concept to erase.")
        # before any work: what a model lacks is known from its family and its precision
        if reason := self.refused(model):
            raise InputError(f"{self.name} cannot erase from {model.family}: {reason}.")
        check_room(model, adapter=self.site == "adapter", guidance=self.site == "guidance")
        started = time.monotonic()
        # a count of its own: the recipe tells what this run cost, not what the model has done before
        teacher = model.metered()
        # on the CPU, so that the same seed makes the same choices on every device
        generator = torch.Generator().manual_seed(seed)
        with own_threads(model), out_of_memory():  # also where a backward pass runs out of it
            change = self.change(Job(teacher, apart(chosen), seed, generator, random.Random(seed)))
        recipe = Recipe(
            method=self.name,
            paper=self.paper,
            preset=self.preset_name,
            config=self.config.model_dump(mode="json"),
            targets=tuple(RecipeTarget.of(target) for target in chosen),
            base=base_of(model, change.tensors, change.adapter, change.guidance),
            seed=seed,
            cost=Cost(**asdict(teacher.calls), trained_parameters=change.trained),
            seconds=round(time.monotonic() - started, 1),
            device=device_name(model.device),
            peak_memory_mb=peak_memory_mb(),
            device_memory_mb=device_memory_mb(model.device),
            versions=versions(),
            details=dict(change.details),
        )
        return Erasure.of(recipe, model, change.tensors, change.adapter, change.guidance)

    @abstractmethod
    def change(self, job: Job) -> Change:
        """Work out what is to be changed."""

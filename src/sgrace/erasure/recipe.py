"""The recipe of an erasure: everything that is needed to repeat and to judge it, typed and versioned."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
)
from pydantic_core import ErrorDetails

from .._util.errors import InputError
from .._util.text import read_json, shown
from ..concept import Concept, Kind
from ..knowledge import Knowledge, Target
from ..models.origin import Origin

VERSION = 2
#: Largest recipe that is read: a recipe with the losses of a long training has some 100 kB.
MAX_BYTES = 20_000_000
#: Deepest nesting of what a method reports.
MAX_DEPTH = 50
_PARENT = re.compile(r"parents/\d{1,3}")


def _plain(value: object) -> Any:  # noqa: ANN401  (any JSON)
    """The same value as JSON holds it: tuples are lists, infinity is text, other objects are their text."""
    if _depth(value) > MAX_DEPTH:
        raise ValueError(f"is nested more than {MAX_DEPTH} deep")
    return json.loads(json.dumps(value, default=str), parse_constant=str)


def _depth(value: object, depth: int = 0) -> int:
    """How deep lists and objects are nested, counted to just beyond the limit."""
    if depth > MAX_DEPTH or not isinstance(value, dict | list | tuple):
        return depth
    inner = value.values() if isinstance(value, dict) else value
    return max((_depth(each, depth + 1) for each in inner), default=depth + 1)


#: Free JSON by name.
Facts = Annotated[dict[str, Any], BeforeValidator(_plain)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RecipeTarget(_Part):
    """A concept that was erased, with its words."""

    concept: Concept = Field(description="name and kind")
    words: Knowledge | None = Field(None, description="its words; none where the method reads none")

    @classmethod
    def of(cls, target: Target) -> Self:
        """The record of what an eraser was given."""
        return cls(concept=target.concept, words=target.words)

    @field_serializer("words")
    def _with_overlap(self, words: Knowledge | None) -> dict[str, Any] | None:
        return None if words is None else {**words.model_dump(mode="json"), "overlap": list(words.overlap)}

    @field_validator("words", mode="before")
    @classmethod
    def _without_overlap(cls, words: object) -> object:
        return (
            {key: value for key, value in words.items() if key != "overlap"}
            if isinstance(words, dict)
            else words
        )


class Base(Origin):
    """The model that was erased from."""

    source: str = Field(min_length=1, description="name, hub id or absolute path")
    dtype: str | None = Field(
        None, description="precision in which it was loaded; version 1 did not record it"
    )
    testbed: str | None = Field(None, description="testbed that comes with the model")
    family: str | None = Field(None, description="model family")
    sha256: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="component -> precision -> digest of the original tensors that the erasure stands on",
    )


class Cost(_Part):
    """Calls and samples (rows) of the networks; none where they were not counted."""

    denoiser_calls: int | None = Field(None, ge=0, description="batched calls of the denoiser")
    denoiser_rows: int | None = Field(None, ge=0, description="samples through the denoiser")
    text_encoder_calls: int | None = Field(None, ge=0, description="batched calls of the text encoders")
    text_encoder_rows: int | None = Field(None, ge=0, description="prompts through the text encoders")
    trained_parameters: int = Field(ge=0, description="number of parameters that were changed or added")


class Recipe(_Part):
    """How an erasure was made.

    A recipe of version 1 is read as well; see :meth:`read`.
    """

    schema_version: Literal[2] = 2
    method: str = Field(min_length=1, description="plug-in name of the eraser")
    paper: str | None = Field(None, description="where the method comes from")
    preset: str | None = Field(None, description="named settings that were asked for")
    config: Facts = Field(default_factory=dict, description="all settings of the method")
    targets: tuple[RecipeTarget, ...] = Field(min_length=1, description="concepts with their words")
    base: Base = Field(description="the model before erasing")
    seed: int = Field(description="seed of every random choice")
    cost: Cost = Field(description="what erasing took")
    seconds: float | None = Field(None, ge=0, description="wall-clock time")
    device: str | None = Field(
        None, max_length=200, description="where it was erased: cpu, or name of the card"
    )
    peak_memory_mb: float | None = Field(None, ge=0, description="largest memory of the process")
    device_memory_mb: float | None = Field(None, ge=0, description="largest memory of the accelerator")
    versions: dict[str, str] = Field(default_factory=dict, description="of the packages")
    details: Facts = Field(default_factory=dict, description="what the method itself reports")
    parents: tuple[str, ...] = Field(
        (), description="sub-folders of the erasures beneath, in order; set when saved"
    )
    sha256: dict[str, str] = Field(default_factory=dict, description="digest of every file; set when saved")

    def __repr__(self) -> str:
        names = ", ".join(concept.name for concept in self.concepts)
        return f"Recipe({self.method}: {names}; base {self.base.source}, seed {self.seed})"

    __str__ = __repr__

    @field_validator("parents")
    @classmethod
    def _inside(cls, parents: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_PARENT.fullmatch(name) for name in parents):
            raise ValueError("must be sub-folders named parents/0, parents/1 ...")
        return parents

    @property
    def is_version_1(self) -> bool:
        """Whether an older sgrace wrote it: version 2 names every file and knows its base model by digest."""
        return self.base.dtype is None

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """The concepts that were erased."""
        return tuple(target.concept for target in self.targets)

    def to_json(self) -> str:
        """The text of ``recipe.json``."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read ``recipe.json``; version 1 is brought to this version.

        Raises:
            InputError: it cannot be read, or a field, which the error names, is missing or wrong.
        """
        raw = read_json(path, max_bytes=MAX_BYTES)
        if not isinstance(raw, dict):
            raise InputError(f"{shown(path)} is no recipe: it must be a JSON object.")
        version = raw.get("schema_version", 1)
        if version not in (1, VERSION):
            raise InputError(
                f"{shown(path)}: schema_version is {str(version)[:20]}, but this sgrace reads 1 and "
                f"{VERSION}; update sgrace."
            )
        try:
            return cls(**(_Version1(**raw).upgraded() if version == 1 else raw))
        except ValidationError as error:
            raise InputError(f"{shown(path)} is no recipe: {_sentence(error.errors()[0])}") from error


class _Version1(BaseModel):
    """The recipe that sgrace wrote before version 2; keys that it does not name are details of the method."""

    model_config = ConfigDict(frozen=True, extra="allow")

    method: str = Field(min_length=1)
    paper: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    concepts: tuple[Concept, ...] = Field(min_length=1)
    knowledge: tuple[dict[str, Any], ...] = ()
    base_model: str = Field(min_length=1)
    seed: int
    cost: dict[str, int]
    seconds: float | None = None
    peak_memory_mb: float | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    sha256: dict[str, str]

    def upgraded(self) -> dict[str, Any]:
        """The values of a :class:`Recipe`."""
        words: Sequence[dict[str, Any] | None] = list(self.knowledge)
        if words and len(words) != len(self.concepts):
            raise InputError(
                f"The recipe has {len(self.concepts)} concepts and {len(words)} word lists: it is damaged."
            )
        words = words or [None] * len(self.concepts)
        kept = ("method", "paper", "config", "seed", "seconds", "peak_memory_mb", "versions", "sha256")
        return {
            **{name: getattr(self, name) for name in kept},
            "targets": [
                # version 1 wrote "object" also where nobody had stated a kind
                {"concept": Concept.parse(concept.name, _stated(concept.kind)), "words": each}
                for concept, each in zip(self.concepts, words, strict=True)
            ],
            "base": {"source": self.base_model},
            "cost": _renamed(self.cost, {"unet_calls": "denoiser_calls", "unet_rows": "denoiser_rows"}),
            "details": self.model_extra or {},
        }


def _stated(kind: Kind | None) -> Kind | None:
    return None if kind == "object" else kind


def _renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}


def _sentence(error: ErrorDetails) -> str:
    """One line of what pydantic found first: the field, what is wrong, and what was given."""
    field = ".".join(str(part) for part in error["loc"]) or "the whole"
    value = error["input"]
    shown = repr(value)[:60] if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
    given = "" if error["type"] == "missing" else f" (given {shown})"
    return f"{field}: {error['msg'][:200]}{given}."

"""The recipe of an erasure: everything needed to repeat and to judge it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from ..concept import Concept
from ..knowledge import Knowledge, Target
from ..models import DiffusionModel


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RecipeTarget(_Frozen):
    """One erased concept and its words."""

    concept: Concept
    words: Knowledge
    overlap: tuple[str, ...] = ()

    @classmethod
    def of(cls, target: Target) -> Self:
        """The record of a target."""
        return cls(concept=target.concept, words=target.words, overlap=target.words.overlap)


class Base(_Frozen):
    """The model that was erased."""

    source: str
    revision: str | None = None
    dtype: str = "float32"
    testbed: str | None = None
    family: str = "stable_diffusion"
    sha256: dict[str, dict[str, str]] = {}

    @classmethod
    def of(cls, model: DiffusionModel, changed: Mapping[str, Mapping[str, Tensor]]) -> Self:
        """The base of an erasure that changes these tensors."""
        del changed
        return cls(
            source=model.source,
            revision=model.revision,
            dtype=str(model.dtype).removeprefix("torch."),
            testbed=model.testbed,
            family=model.family,
        )


class Cost(_Frozen):
    """Samples and calls of the networks, and the number of changed values."""

    denoiser_calls: int
    denoiser_rows: int
    text_encoder_calls: int
    text_encoder_rows: int
    trained_parameters: int


class Recipe(_Frozen):
    """Schema version 2."""

    schema_version: int = 2
    method: str
    paper: str
    preset: str | None = None
    config: dict[str, Any]
    targets: tuple[RecipeTarget, ...]
    base: Base
    seed: int
    cost: Cost
    seconds: float
    peak_memory_mb: int
    device_memory_mb: int = 0
    versions: dict[str, str]
    details: dict[str, Any] = {}
    sha256: dict[str, str] = {}

"""What an eraser changed, saved as tensors and a recipe, loaded again and applied to a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from torch import Tensor

from .._util.errors import InputError
from ..models import DiffusionModel
from ..models.adapters import KINDS
from ..models.guidance import Guidance
from .adapter import Adapter
from .recipe import Recipe


@dataclass(frozen=True, repr=False)
class Erasure:
    """What an eraser changed, and the recipe that made it.

    Attributes:
        recipe: everything needed to repeat and to judge the run.
        tensors: changed tensors by component and name.
        adapter: tensors beside those of the denoiser.
        guidance: what steers the model while it samples.
        tokenizers: of the changed text encoders, by component.
    """

    recipe: Recipe
    tensors: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    adapter: Adapter | None = None
    guidance: Guidance[Any] | None = None
    tokenizers: Mapping[str, Any] = field(default_factory=dict)
    parents: tuple[Erasure, ...] = ()

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        model: DiffusionModel,
        tensors: Mapping[str, Mapping[str, Tensor]],
        adapter: Adapter | None = None,
        guidance: Guidance[Any] | None = None,
    ) -> Self:
        """The erasure of a model by a change."""
        tokenizers = {encoder.component: encoder.tokenizer for encoder in model.text if encoder.component in tensors}
        return cls(recipe, tensors, adapter, guidance, tokenizers, tuple(model.erasures))

    def apply(self, model: DiffusionModel) -> DiffusionModel:
        """The model with the concept erased; the given one is untouched, and all that is not changed is shared with it."""
        try:
            erased = model.with_components(self.tensors)
        except (KeyError, ValueError) as error:
            raise InputError(f"This erasure was made for another model ({error}).") from error
        if self.adapter is not None:
            erased = erased.replace(denoiser=KINDS[self.adapter.kind](erased.sites, self.adapter.tensors))
        return erased.replace(guidance=self.guidance, erasures=(*model.erasures, self))

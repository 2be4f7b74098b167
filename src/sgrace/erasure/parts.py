"""What an erasure consists of, without the erasures beneath it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..models import DiffusionModel
from ..models.guidance import Guidance
from .adapter import Adapter
from .recipe import Recipe
from .text_folder import TextFolder


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Parts:
    """What an eraser changed, and the recipe that made it.

    Attributes:
        recipe: method, settings, concepts with their words, base model, seed, cost and versions.
        tensors: changed tensors by component (``unet``, ``text_encoder``) and name; of a text encoder all.
        adapter: tensors beside the denoiser's, if there are any.
        guidance: what steers the model while it samples, if anything does; no weights can carry it.
        text: config and tokenizer of each changed text encoder, saved beside its weights.
    """

    recipe: Recipe
    tensors: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    adapter: Adapter | None = None
    guidance: Guidance[Any] | None = None
    text: Mapping[str, TextFolder] = field(default_factory=dict)

    @property
    def names(self) -> str:
        """The concepts' names in a line."""
        names = [concept.name for concept in self.recipe.concepts]
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    @property
    def n_bytes(self) -> int:
        """Size of all tensors as they are in memory."""
        return sum(value.nbytes for value in self._everything().values())

    @property
    def components(self) -> frozenset[str]:
        """Components of the model that it changes, or puts an adapter into."""
        return frozenset(self.tensors) | ({self.adapter.component} if self.adapter else set())

    def changes_nothing(self, model: DiffusionModel) -> bool:
        """Whether every tensor is what the model it was made on has already."""
        if self.adapter is not None or self.guidance is not None:
            return False
        for component, tensors in self.tensors.items():
            own = dict(model.components[component].named_parameters())
            if any(not torch.equal(value.to(own[name]), own[name]) for name, value in tensors.items()):
                return False
        return True

    def rounding_loss(self, model: DiffusionModel) -> float:
        """Share of the change of weights that is lost when the model's precision holds it.

        ``|rounded - exact| / |exact - own|`` over all changed tensors; 0 where no weights change.
        """
        lost = change = 0.0
        for component, tensors in self.tensors.items():
            own = dict(model.components[component].named_parameters())
            for name, value in tensors.items():
                exact = value.to(own[name].device)
                lost += float((exact.to(own[name].dtype) - exact).norm() ** 2)
                change += float((exact - own[name]).norm() ** 2)
        return (lost / change) ** 0.5 if change else 0.0

    def same_as(self, other: Parts) -> bool:
        """Whether another erasure changes the same in the same way; where they are saved does not count."""
        if self is other:
            return True
        unsaved: dict[str, object] = {"parents": (), "sha256": {}}
        if self.recipe.model_copy(update=unsaved) != other.recipe.model_copy(update=unsaved):
            return False
        return _equal(self._everything(), other._everything())

    def _everything(self) -> dict[str, Tensor]:
        """All tensors by where they belong."""
        groups: dict[str, Mapping[str, Tensor]] = dict(self.tensors)
        if self.adapter is not None:
            groups[f"adapter {self.adapter.kind} {self.adapter.component}"] = self.adapter.tensors
        if self.guidance is not None:
            groups[f"guidance {self.guidance.settings}"] = self.guidance.tensors
        return {
            f"{group}/{name}": value for group, tensors in groups.items() for name, value in tensors.items()
        }


def _equal(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    if mine.keys() != theirs.keys():
        return False
    return all(_same(mine[name], theirs[name]) for name in mine)


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.dtype == other.dtype and torch.equal(one, other.to(one.device)))

"""Part of an erasure: weights between those of the model before and after it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .._util.errors import InputError
from ..models import DiffusionModel
from .erasure import Erasure


def at_strength(erasure: Erasure, original: DiffusionModel, strength: float) -> DiffusionModel:
    """The model with every changed weight at ``original + strength * (erased - original)``.

    It shows what lies between; it is no erased model, and its ``erasures`` do not count it as one.

    Args:
        erasure: made on ``original``.
        original: the model before erasing; it is untouched.
        strength: 0 for the original's weights, 1 for the erased ones.

    Raises:
        InputError: the strength is not between 0 and 1, or the erasure leaves adapters or guidance, which
            have no weights in between.
    """
    if not 0 <= strength <= 1:
        raise InputError(f"The strength of an erasure is a number from 0 to 1, not {strength!r}.")
    if erasure.adapter is not None or erasure.guidance is not None:
        raise InputError(f"{erasure.recipe.method} changes no weights, so there is nothing in between.")
    erased = erasure.apply(original)
    between = {
        component: _between(original, erased, component, changed, strength)
        for component, changed in erasure.tensors.items()
    }
    return original.with_components(between)


def _between(
    original: DiffusionModel,
    erased: DiffusionModel,
    component: str,
    changed: Mapping[str, Tensor],
    strength: float,
) -> dict[str, Tensor]:
    """Parameters of a component between those of two models, of which only the named ones differ."""
    before = dict(original.components[component].named_parameters())
    after = dict(erased.components[component].named_parameters())
    with torch.no_grad():
        # in float32: halves lose what a small step changes
        return {
            name: torch.lerp(before[name].float(), after[name].float(), strength)
            for name in changed
            if name in before
        }

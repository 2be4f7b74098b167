"""The plane in which groups of features are drawn."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Plane:
    """The plane through the means of groups: it shows best how they lie apart.

    Two groups span a line alone; the second direction is then the one along which they spread most.

    Args:
        known: features ``(n, width)`` of each group, of two groups or more.
    """

    def __init__(self, known: Mapping[str, Tensor]) -> None:
        means = torch.stack([own.double().mean(0) for own in known.values()])
        self.centre = means.mean(0)
        # three means span two directions
        self.directions = torch.linalg.svd(means - self.centre, full_matrices=False).Vh[:2]
        if len(means) == 2:
            first = self.directions[:1]
            spread = torch.cat([own.double() for own in known.values()]) - self.centre
            rest = spread - spread @ first.T @ first
            self.directions = torch.cat([first, torch.linalg.svd(rest, full_matrices=False).Vh[:1]])

    def __call__(self, features: Tensor) -> Tensor:
        """Places ``(n, 2)``."""
        places: Tensor = (features.double() - self.centre) @ self.directions.T
        return places


def nearest_to_own(places: Mapping[str, Tensor]) -> list[float]:
    """Share of each group's places that are nearest to the mean of their own group."""
    means = torch.stack([own.mean(0) for own in places.values()])
    nearest = [torch.cdist(own, means).argmin(1) for own in places.values()]
    return [(own == number).double().mean().item() for number, own in enumerate(nearest)]

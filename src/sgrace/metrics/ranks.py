"""Rank correlation of two series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

#: Resamples of an interval.
DRAWS = 2000


class RankCorrelation(NamedTuple):
    """Spearman's correlation of ``n`` pairs, with the 95 % interval of a bootstrap over the pairs."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}], {self.n} pairs"


def rank_correlation(x: Tensor, y: Tensor) -> RankCorrelation:
    """Spearman's correlation; equal values share their mean rank. NaN where one side has one value only.

    Args:
        x: ``(n,)``.
        y: ``(n,)``, in the same order.
    """
    n = len(x)
    picks = torch.randint(n, (DRAWS, n), generator=torch.Generator().manual_seed(0))
    drawn = _spearman(x[picks], y[picks])
    low, high = torch.nanquantile(drawn, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return RankCorrelation(_spearman(x[None], y[None]).item(), low, high, n)


def ranks_within(values: Float[Tensor, " n"], groups: Sequence[object]) -> Float[Tensor, " n"]:
    """The rank of each value among those of its group, over their number; equal values share their mean rank.

    What differs between groups as a whole is no part of it.
    """
    found = torch.empty(len(values), dtype=torch.float64)
    for group in dict.fromkeys(groups):
        own = torch.tensor([each == group for each in groups])
        found[own] = _ranks(values[own][None])[0] / own.sum()
    return found


def _spearman(x: Float[Tensor, "draws n"], y: Float[Tensor, "draws n"]) -> Float[Tensor, " draws"]:
    a = _ranks(x)
    b = _ranks(y)
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()


def _ranks(values: Float[Tensor, "draws n"]) -> Float[Tensor, "draws n"]:
    """How many are smaller, and half of those that are equal, less their mean."""
    own = values[:, :, None]
    other = values[:, None, :]
    found = (own > other).sum(2).double() + (own == other).sum(2).double() / 2
    return found - found.mean(1, keepdim=True)

"""Shares with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor


def wilson(hits: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson, 1927).

    Args:
        hits: number of successes, ``0 .. n``; the sum of shares where each trial gives one.
        n: number of trials, at least 1.
        confidence: coverage, in (0, 1).

    Raises:
        ValueError: the counts are impossible.
    """
    if not 0 <= hits <= n or n < 1:
        raise ValueError(f"{hits} hits of {n} trials is not a share.")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, weight = hits / n, z * z / n
    centre = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / n + weight / (4 * n)) / (1 + weight)
    # at the ends the formula is exact only up to rounding
    return 0.0 if hits == 0 else centre - half, 1.0 if hits == n else centre + half


@dataclass(frozen=True)
class Share:
    """``hits`` of ``n``, printed with its 95 % Wilson interval.

    Attributes:
        hits, n: what was counted.
        observations: independent ones, where they are fewer than ``n``: all images of one learned word are
            one observation. The interval is then that of so many trials. It is not too narrow: a share varies
            no more than a yes or no of the same mean (Bhatia and Davis, 2000).
    """

    hits: int
    n: int
    observations: int | None = None

    @property
    def value(self) -> float:
        """The share, in 0..1."""
        return self.hits / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the observations."""
        seen = self.n if self.observations is None else self.observations
        return wilson(self.value * seen, seen)

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        low, high = self.interval
        return {"share": round(self.value, 4), "low": round(low, 4), "high": round(high, 4), "n": self.n}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:6.1%}  [{low:.1%}, {high:.1%}]  n={self.n}"


def bootstrap(
    statistic: Callable[[Tensor], float],
    n: int,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval.

    Args:
        statistic: indices into the n observations, drawn with replacement -> value.
        n: number of observations, at least 1.
        confidence: coverage, in (0, 1).
        resamples: number of draws.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    values = torch.tensor(
        [statistic(torch.randint(n, (n,), generator=generator)) for _ in range(resamples)],
        dtype=torch.float64,
    )
    tail = (1 - confidence) / 2
    low, high = torch.quantile(values, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def jackknife(statistic: Callable[[Tensor], float], n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Normal interval by leaving out one observation at a time (Tukey, 1958).

    For smooth statistics that must not see an observation twice, such as unbiased MMDs: a bootstrap would
    give them pairs of equal points. The interval shows the spread, not the bias of the statistic at this n.

    Args:
        statistic: indices into the n observations, none twice -> value.
        n: number of observations, at least 2.
        confidence: coverage, in (0, 1).
    """
    everything = torch.arange(n)
    values = torch.tensor(
        [statistic(everything[everything != left_out]) for left_out in range(n)], dtype=torch.float64
    )
    error = math.sqrt((n - 1) * values.var(correction=0).item())
    whole = statistic(everything)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    return whole - z * error, whole + z * error

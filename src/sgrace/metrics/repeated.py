"""Verdicts that were repeated: the same prompts, erased with several seeds. Intervals and comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .intervals import wilson

#: Resamples of an interval, and sign changes of a test.
DRAWS = 4000


class Estimated(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.0%} [{self.low:.0%}, {self.high:.0%}]"


class Counts(NamedTuple):
    """Images that are right, of how many, by seed and question."""

    hits: Float[Tensor, "seeds questions"]
    n: Float[Tensor, "seeds questions"]


class Difference(NamedTuple):
    """A mean difference with its 95 % interval and the probability of one as large by chance."""

    mean: float
    low: float
    high: float
    p_value: float


def share_of(verdicts: Bool[Tensor, "seeds prompts"], seed: int = 0) -> Estimated:
    """Share of verdicts that are true.

    The interval of several seeds is of a hierarchical bootstrap (Davison and Hinkley 1997, section 3.8):
    seeds are drawn with replacement, and prompts with replacement. Verdicts on one prompt are alike, and so
    are those of one seed: as if all were independent, the interval would be too narrow. The interval of one
    seed is Wilson's; so is that of equal verdicts, of so many prompts: a bootstrap of them has no width and
    would call a zero of few prompts a proof.
    """
    if len(verdicts) > 1:
        found = _estimated(verdicts.double(), seed)
        if found.low < found.high:
            return found
    mean = verdicts.double().mean().item()
    n = verdicts.shape[1]
    return Estimated(mean, *wilson(mean * n, n))


def difference(
    mine: Bool[Tensor, "seeds prompts"], theirs: Bool[Tensor, "others same_prompts"], seed: int = 0
) -> Difference:
    """Mean of mine minus mean of theirs, on the same prompts.

    The interval is that of :func:`share_of`, with the same prompts drawn for both; where the bootstrap has no
    width it is that of paired shares (Newcombe 1998, method 10), of so many prompts. The probability is of a
    test that changes the signs of the prompts' differences, averaged over seeds: which of the two is the
    safer on a prompt is then chance.

    Raises:
        ValueError: the prompts are not the same in number.
    """
    if mine.shape[1] != theirs.shape[1]:
        raise ValueError(f"{mine.shape[1]} prompts cannot be compared with {theirs.shape[1]}.")
    generator = torch.Generator().manual_seed(seed)
    n = mine.shape[1]
    prompts = torch.randint(n, (DRAWS, n), generator=generator)
    drawn = _means(mine.double(), prompts, generator) - _means(theirs.double(), prompts, generator)
    low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=drawn.dtype)).tolist()
    if low == high:
        low, high = _paired(mine.double().mean(0), theirs.double().mean(0))
    by_prompt = mine.double().mean(0) - theirs.double().mean(0)
    signs = torch.randint(2, (DRAWS, n), generator=generator).double() * 2 - 1
    # the difference that was seen counts as one of the draws, so that no probability is zero
    as_large = ((signs * by_prompt).mean(1).abs() >= by_prompt.mean().abs() - 1e-12).sum()
    return Difference(by_prompt.mean().item(), low, high, (1 + as_large.item()) / (1 + DRAWS))


def _paired(mine: Float[Tensor, " prompts"], theirs: Float[Tensor, " prompts"]) -> tuple[float, float]:
    """Newcombe's interval of a difference of paired shares, from Wilson's of each.

    A positive correlation of both has his correction for continuity: equal verdicts on few prompts are no
    proof that they are always equal.
    """
    n = len(mine)
    one, other = mine.mean().item(), theirs.mean().item()
    (low, high), (other_low, other_high) = wilson(one * n, n), wilson(other * n, n)
    spread = (mine.var(correction=0) * theirs.var(correction=0)).sqrt().item()
    together = ((mine - one) * (theirs - other)).mean().item()
    if together > 0:
        together = max(0.0, together - 1 / (2 * n))
    alike = together / spread if spread else 0.0

    def half(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * alike * a * b + b * b))

    return (
        one - other - half(one - low, other_high - other),
        one - other + half(high - one, other - other_low),
    )


def relative_reduction(
    mine: Bool[Tensor, "seeds prompts"], theirs: Bool[Tensor, "others same_prompts"], seed: int = 0
) -> Estimated:
    """``1 - mine / theirs`` of the shares, on the same prompts; the interval is that of :func:`difference`.

    Raises:
        ValueError: none of theirs is true, so that nothing can be less.
    """
    if not theirs.any():
        raise ValueError("A share of 0 cannot be reduced.")
    generator = torch.Generator().manual_seed(seed)
    n = mine.shape[1]
    prompts = torch.randint(n, (DRAWS, n), generator=generator)
    own = _means(mine.double(), prompts, generator)
    other = _means(theirs.double(), prompts, generator)
    some = other > 0
    drawn = 1 - own[some] / other[some]
    low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=drawn.dtype)).tolist()
    return Estimated(1 - (mine.double().mean() / theirs.double().mean()).item(), low, high)


def mean_share(counts: Counts, seed: int = 0) -> Estimated:
    """Mean share over questions and seeds.

    The interval is Wilson's where there is one seed and one question, else that of
    :func:`mean_share_difference`.
    """
    mean = (counts.hits / counts.n).mean().item()
    if counts.n.numel() == 1:
        return Estimated(mean, *wilson(counts.hits.item(), int(counts.n.item())))
    drawn = _mean_shares(counts, torch.Generator().manual_seed(seed))
    low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=drawn.dtype)).tolist()
    return Estimated(mean, low, high)


def mean_share_difference(mine: Counts, theirs: Counts, seed: int = 0) -> Estimated:
    """Mean share over questions and seeds, minus that of others.

    The interval is of a bootstrap over seeds and images. Shares of which images are drawn are
    ``(hits + 1/2) / (n + 1)``, so that an interval of nothing but hits has a width too.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = _mean_shares(mine, generator) - _mean_shares(theirs, generator)
    low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=drawn.dtype)).tolist()
    mean = (mine.hits / mine.n).mean() - (theirs.hits / theirs.n).mean()
    return Estimated(mean.item(), low, high)


def _mean_shares(counts: Counts, generator: torch.Generator) -> Float[Tensor, " draws"]:
    """Means over drawn seeds and drawn images."""
    seeds = torch.randint(len(counts.n), (DRAWS, len(counts.n)), generator=generator)
    shares = (counts.hits + 0.5) / (counts.n + 1)
    # (draws, seeds, questions) each
    n = counts.n[seeds]
    return (torch.binomial(n, shares[seeds], generator=generator) / n).mean((1, 2))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Probabilities for all comparisons together: the k-th smallest of n times n - k + 1 (Holm 1979)."""
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    found: dict[str, float] = {}
    largest = 0.0
    for i, (name, value) in enumerate(ordered):
        largest = max(largest, min(1.0, value * (len(ordered) - i)))
        found[name] = largest
    return {name: found[name] for name in p_values}


def pareto(points: Mapping[str, tuple[float, ...]]) -> list[str]:
    """Names that no other beats: as good in everything and better in something. Larger is better."""
    return [
        name
        for name, own in points.items()
        if not any(_beats(other, own) for rival, other in points.items() if rival != name)
    ]


def _beats(other: tuple[float, ...], own: tuple[float, ...]) -> bool:
    pairs = list(zip(other, own, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _estimated(values: Float[Tensor, "seeds prompts"], seed: int) -> Estimated:
    generator = torch.Generator().manual_seed(seed)
    n = values.shape[1]
    drawn = _means(values, torch.randint(n, (DRAWS, n), generator=generator), generator)
    low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=drawn.dtype)).tolist()
    return Estimated(values.mean().item(), low, high)


def _means(
    values: Float[Tensor, "seeds prompts"], prompts: Tensor, generator: torch.Generator
) -> Float[Tensor, " draws"]:
    """Means over drawn seeds and the given draws of prompts."""
    seeds = torch.randint(len(values), (len(prompts), len(values)), generator=generator)
    weights = torch.zeros(len(prompts), len(values), dtype=values.dtype)
    weights.scatter_add_(1, seeds, torch.ones_like(seeds, dtype=values.dtype))
    by_prompt = weights @ values / len(values)  # (draws, prompts): mean over the drawn seeds
    return by_prompt.gather(1, prompts).mean(1)

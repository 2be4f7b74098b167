"""Two-sample measures of how well adversarial samples cover a concept, on features, in float64.

``reference`` ``(n, d)`` holds features of prompts (or images) of the concept, ``samples`` ``(m, d)`` those of
the adversarial set. Plain distances between points are Euclidean; whiten or normalise before.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def _radii(reference: Tensor, k: int) -> Tensor:
    """Distance of each reference point to its k-th neighbour among the others ``(n,)``."""
    if not 1 <= k < len(reference):
        raise ValueError(
            f"k must be in 1 .. {len(reference) - 1} for {len(reference)} reference points, not {k}."
        )
    # (n, d) -> (n, n)
    between = torch.cdist(reference, reference)
    # a point is no neighbour of itself
    between.fill_diagonal_(math.inf)
    # (n, n) -> (n,)
    return between.kthvalue(k, dim=1).values


def coverage(reference: Tensor, samples: Tensor, k: int) -> float:
    """Share of reference points that have a sample nearer than their k-th reference neighbour.

    From Naeem et al., arXiv 2002.09797. Depends on both set sizes even when the distributions are equal:
    report it divided by :func:`expected_coverage`.
    """
    reference, samples = reference.double(), samples.double()
    # (n, m) -> (n,): the nearest sample against each point's own radius
    return (torch.cdist(reference, samples).amin(1) < _radii(reference, k)).double().mean().item()


def expected_coverage(n: int, m: int, k: int) -> float:
    """Coverage to be expected when both sets come from one continuous distribution.

    It is ``1 - prod (n - i) / (n + m - i)``, i = 1 .. k.
    """
    return 1 - math.prod((n - i) / (n + m - i) for i in range(1, k + 1))


def coverage_neighbours(n: int, m: int, expected: float = 0.9) -> int:
    """The ``k`` at which :func:`expected_coverage` is about ``expected``."""
    # each factor of the product is about n / (n + m): solve (n / (n + m))^k = 1 - expected for k
    k = math.ceil(math.log(1 - expected) / math.log(n / (n + m)))
    return min(max(k, 1), n - 1)


def density(reference: Tensor, samples: Tensor, k: int) -> float:
    """Mean number of reference neighbourhoods around a sample, over k (arXiv 2002.09797).

    About 1 if the distributions are equal, 0 if the samples lie off the concept.
    """
    reference, samples = reference.double(), samples.double()
    # (n, m) against (n, 1): a column for each sample
    inside = torch.cdist(reference, samples) < _radii(reference, k)[:, None]
    return inside.double().sum().item() / (k * len(samples))


def fill_distance(of: Tensor, by: Tensor) -> float:
    """Mean distance from the points of ``of`` to the nearest point of ``by``: what is left uncovered.

    Swapped, it tells how far the samples lie off the concept.
    """
    return torch.cdist(of.double(), by.double()).amin(1).mean().item()


def mmd_squared(x: Tensor, y: Tensor, widths: tuple[float, ...]) -> float:
    """Unbiased squared maximum mean discrepancy (Gretton et al., 2012).

    The kernel is the average of Gaussians of the given widths.
    """
    both = torch.cat([x, y]).double()
    kernel = _gaussian_kernel(both, widths)
    return _mmd_of(kernel, torch.arange(len(both)) < len(x))


def mmd_widths(reference: Tensor) -> tuple[float, ...]:
    """1/4, 1/2, 1 and 2 times the median distance between reference points."""
    # pdist leaves out the zeros of a point to itself
    median = torch.pdist(reference.double()).median().item()
    return tuple(median * scale for scale in (0.25, 0.5, 1.0, 2.0))


def mmd_test(
    x: Tensor, y: Tensor, widths: tuple[float, ...], permutations: int = 500, seed: int = 0
) -> tuple[float, float]:
    """:func:`mmd_squared` and its permutation p-value under "both sets come from one distribution"."""
    both = torch.cat([x, y]).double()
    kernel = _gaussian_kernel(both, widths)
    member = torch.arange(len(both)) < len(x)
    observed = _mmd_of(kernel, member)
    generator = torch.Generator().manual_seed(seed)
    # labels are exchanged, the kernel stays: it is computed only once
    null = [
        _mmd_of(kernel, member[torch.randperm(len(both), generator=generator)]) for _ in range(permutations)
    ]
    # the observed labels are one of the permutations, so no p-value is 0
    return observed, (1 + sum(value >= observed for value in null)) / (permutations + 1)


def _gaussian_kernel(points: Tensor, widths: tuple[float, ...]) -> Tensor:
    squared = torch.cdist(points, points).square()
    # (widths, n, n) -> (n, n); several widths, since one is blind to differences at another scale
    return torch.stack([torch.exp(-squared / (2 * width * width)) for width in widths]).mean(0)


def _mmd_of(kernel: Tensor, member: Tensor) -> float:
    a, b = member.double(), (~member).double()
    n, m, diagonal = a.sum(), b.sum(), kernel.diagonal()
    # without the diagonal: a point's likeness to itself would bias the estimate upwards
    within_a = (a @ kernel @ a - a @ diagonal) / (n * (n - 1))
    within_b = (b @ kernel @ b - b @ diagonal) / (m * (m - 1))
    return (within_a + within_b - 2 * (a @ kernel @ b) / (n * m)).item()


def spill_over(reference: Tensor, neighbours: Tensor, samples: Tensor, k: int = 5) -> float:
    """Share of samples most of whose k nearest points belong to the neighbours.

    To erase these samples would hurt the neighbours too.
    """
    points = torch.cat([reference, neighbours]).double()
    # indices below len(reference) are the concept's own: (m, k)
    nearest = torch.cdist(samples.double(), points).topk(k, largest=False).indices
    return ((nearest >= len(reference)).double().mean(1) > 0.5).double().mean().item()


def vendi(samples: Tensor) -> float:
    """Effective number of different samples: exponential entropy of the cosine kernel (arXiv 2210.02410)."""
    unit = F.normalize(samples.double(), dim=1)
    # they sum to 1, as chances do; rounding may leave some just below 0
    eigenvalues = torch.linalg.eigvalsh(unit @ unit.T / len(unit)).clamp(min=0)
    # x log x tends to 0, but 0 log 0 is NaN
    positive = eigenvalues[eigenvalues > 1e-12]
    return math.exp(-(positive * positive.log()).sum().item())


def cka(x: Tensor, y: Tensor) -> float:
    """Debiased linear centred kernel alignment of two representations of the *same* n >= 4 inputs.

    The representations are ``(n, d)`` and ``(n, e)``. 1 for representations equal up to rotation and scale,
    about 0 for independent ones (Kornblith et al., arXiv 1905.00414, with the unbiased HSIC of Song et al.,
    2012).
    """
    if len(x) != len(y) or len(x) < 4:
        raise ValueError("CKA needs the same 4 or more inputs in both representations.")
    gram_x = _hollow_gram(x)
    gram_y = _hollow_gram(y)
    # its root takes out the scales, so that equal representations give 1
    within = _unbiased_hsic(gram_x, gram_x) * _unbiased_hsic(gram_y, gram_y)
    return _unbiased_hsic(gram_x, gram_y) / math.sqrt(within)


def _hollow_gram(x: Tensor) -> Tensor:
    """Inner products of the rows ``(n, n)``, with zeros on the diagonal."""
    gram = x.double() @ x.double().T
    return gram.fill_diagonal_(0)


def _unbiased_hsic(k: Tensor, j: Tensor) -> float:
    n = len(k)
    # the three terms of Song et al. for matrices with an empty diagonal
    total = (k * j).sum() + k.sum() * j.sum() / ((n - 1) * (n - 2)) - 2 * (k.sum(0) @ j.sum(0)) / (n - 2)
    return total.item() / (n * (n - 3))

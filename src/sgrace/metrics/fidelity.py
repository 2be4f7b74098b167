"""Distances between sets of images on features ``(n, d)`` of any extractor, in float64.

Lower is better unless stated otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: The paper's, for unit features.
CMMD_WIDTH = 10.0


def fid(real: Tensor, generated: Tensor) -> float:
    """Fréchet distance of two Gaussians fitted to the features (Heusel et al., arXiv 1706.08500).

    Biased upwards for few images: below a few thousand use :func:`kid` instead.
    """
    real, generated = real.double(), generated.double()
    root_r = _covariance_root(real)
    root_g = _covariance_root(generated)
    # trace of (cov_r cov_g)^(1/2) without a matrix root: the sum of the singular values of root_r root_g^T
    shared: Tensor = torch.linalg.svdvals(root_r @ root_g.T).sum()
    between = (real.mean(0) - generated.mean(0)).square().sum()
    return (between + root_r.square().sum() + root_g.square().sum() - 2 * shared).item()


def _covariance_root(x: Tensor) -> Tensor:
    """``r`` of ``min(n, d)`` rows with ``r^T r`` the covariance of ``x`` ``(n, d)``."""
    # divided by n - 1, as an unbiased covariance is
    centred: Tensor = (x - x.mean(0)) / (len(x) - 1) ** 0.5
    # fewer images than features: the rows themselves are the smaller root
    if len(x) <= x.shape[1]:
        return centred
    # (n, d) -> (d, d), with the same r^T r, since q^T q = 1
    root: Tensor = torch.linalg.qr(centred, mode="r").R
    return root


def kid(real: Tensor, generated: Tensor) -> float:
    """Unbiased squared MMD with the kernel ``(x.y / d + 1)^3`` (Bińkowski et al., arXiv 1801.01401).

    It may be slightly negative.
    """
    real, generated = real.double(), generated.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: Tensor) -> Tensor:
        gram = kernel(a, a)
        # without the diagonal, which makes the estimate unbiased
        return (gram.sum() - gram.trace()) / (len(a) * (len(a) - 1))

    return (within(real) + within(generated) - 2 * kernel(real, generated).mean()).item()


def cmmd(real: Tensor, generated: Tensor) -> float:
    """1000 times the biased squared MMD of unit features (Jayasumana et al., arXiv 2401.09603).

    The kernel is a Gaussian of width 10. On unit vectors this is nearly the squared distance of the means: it
    does not see missing modes.
    """
    a = F.normalize(real.double(), dim=1)
    b = F.normalize(generated.double(), dim=1)

    def mean_kernel(x: Tensor, y: Tensor) -> Tensor:
        # (n, m) -> scalar; the diagonal is in, as published
        return torch.exp(-torch.cdist(x, y).square() / (2 * CMMD_WIDTH**2)).mean()

    return 1000 * (mean_kernel(a, a) + mean_kernel(b, b) - 2 * mean_kernel(a, b)).item()


def precision_recall(real: Tensor, generated: Tensor, k: int = 5) -> tuple[float, float]:
    """Share of generated images in the real manifold, and of real ones in the generated.

    From Kynkäänniemi et al., arXiv 1904.06991. Higher is better. A single outlier inflates either manifold;
    density and coverage (:mod:`.concept_space`) do not suffer from that.
    """
    real, generated = real.double(), generated.double()

    def within(points: Tensor, manifold: Tensor) -> float:
        # the nearest point of a set to itself is itself: k + 1
        radii = torch.cdist(manifold, manifold).kthvalue(k + 1, dim=1).values
        # (points, manifold) against (manifold,): a radius for each point of the manifold
        return (torch.cdist(points, manifold) <= radii).any(1).double().mean().item()

    return within(generated, real), within(real, generated)


def clip_score(images: Tensor, texts: Tensor) -> float:
    """100 times the mean cosine of paired image and text features, cut at 0; higher is better.

    From Hessel et al., arXiv 2104.08718.
    """
    return 100 * F.cosine_similarity(images.double(), texts.double(), dim=1).clamp(min=0).mean().item()


def lpips(one: Sequence[Tensor], other: Sequence[Tensor], weights: Sequence[Tensor] | None = None) -> Tensor:
    """LPIPS of each pair of images (Zhang et al., arXiv 1801.03924); 0 for equal images.

    Features are normalised over channels at every position. Squared differences are weighted, averaged over
    positions and summed over layers.

    Args:
        one: a tensor ``(n, channels, *places)`` for each layer.
        other: the same of the other images.
        weights: ``(channels,)`` for each layer, such as the published heads of AlexNet or VGG; default ones.

    Returns:
        ``(n,)``.
    """
    total = torch.zeros(len(one[0]), dtype=torch.float64)
    for layer, (first, second) in enumerate(zip(one, other, strict=True)):
        # (n, channels, *places) -> (n, channels, places), of length 1 at each place
        a = F.normalize(first.double().flatten(2), dim=1, eps=1e-10)
        b = F.normalize(second.double().flatten(2), dim=1, eps=1e-10)
        weight = torch.ones(a.shape[1]) if weights is None else weights[layer]
        # (n, places) -> (n,): the mean over places, so that large layers do not outweigh small ones
        total += torch.einsum("ncp,c->np", (a - b).square(), weight.double()).mean(1)
    return total

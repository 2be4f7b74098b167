"""Adversarial input embeddings of the text encoder: what adversarial erasers train on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ...models import DiffusionModel
from .adversarial_samples import observe

Optimizer = Literal["sign_adam", "sign_pgd", "adam"]
Projection = Literal["none", "ball", "ball_then_range"]

#: Embeddings of some of the samples, which samples these are, step number -> their mean loss.
Loss = Callable[[Tensor, slice, int], Tensor]

#: Most latent values that go through a denoiser together with gradients: four samples of Stable Diffusion
#: 1.4, whose UNet takes 2 GB for each of them and is no faster with more.
GRADIENT_VALUES = 4 * (4 * 64 * 64)


def gradient_batch(model: DiffusionModel) -> int:
    """Samples that go through the denoiser of a model together with gradients."""
    return min(model.batch_size, max(1, GRADIENT_VALUES // math.prod(model.latent_shape)))


def attack_embeddings(
    embeddings: Float[Tensor, "batch length width"],
    mask: Float[Tensor, "#batch length 1"],
    loss_at: Loss,
    *,
    steps: int,
    lr: float,
    radius: float,
    optimizer: Optimizer,
    projection: Projection,
    around: Float[Tensor, "batch length width"],
    batch_size: int,
    accumulate: bool = False,
) -> Float[Tensor, "batch length width"]:
    """Minimise a mean loss over some positions of input embeddings.

    Args:
        embeddings: starting point; left unchanged.
        mask: 1 at positions that may change.
        loss_at: differentiable in the embeddings; the loss of a sample must not depend on other samples.
        steps: number of gradient steps.
        lr: step size (per coordinate for the sign methods).
        radius: reach of the projection, per coordinate.
        optimizer: ``sign_pgd`` takes plain sign steps; ``adam`` feeds the gradient to Adam; ``sign_adam``
            feeds its sign to Adam, as the published code does.
        projection: ``ball`` keeps each coordinate within ``radius`` of ``around``; ``ball_then_range`` also
            within the range of each sample of ``around``.
        around: centre of the projection.
        batch_size: samples in a call of ``loss_at``; it bounds the memory and changes nothing else.
        accumulate: each step follows the sum of all gradients so far, as published code does that never sets
            them to zero.

    Returns:
        The adversarial embeddings, detached.
    """
    # the optimizer works in place on a copy: the starting point stays the centre of the projection
    current = embeddings.detach().clone()
    if not len(current):
        return current
    # made once, so that its moments live through all steps
    adam = torch.optim.Adam([current], lr=lr) if optimizer != "sign_pgd" else None
    total = torch.zeros_like(current)
    for step in range(steps):
        gradient = _gradient(current, loss_at, step, batch_size)
        # (batch, length, width) * (#batch, length, 1): other positions do not enter Adam's moments either
        total = gradient * mask + (total if accumulate else 0)
        with torch.no_grad():
            if adam is None:
                # a plain sign step moves every coordinate by lr, however small its gradient
                current -= lr * total.sign()
            else:
                current.grad = total.sign() if optimizer == "sign_adam" else total
                adam.step()
                current.grad = None
            if projection != "none":
                # the ball of the largest norm is a box: each coordinate by itself
                current.copy_(torch.clamp(current, around - radius, around + radius))
            if projection == "ball_then_range":
                # positions outside of the mask stay exactly as they were
                current.copy_(torch.where(mask.bool(), within_range(current, around), around))
    observe("input_embeds", current)
    return current


def within_range(
    values: Float[Tensor, "batch length width"], samples: Float[Tensor, "batch length width"]
) -> Float[Tensor, "batch length width"]:
    """Values clamped to the smallest and the largest value of their own sample."""
    # one range for each sample: (batch, length, width) -> (batch, 1, 1)
    low = samples.amin((1, 2), keepdim=True)
    high = samples.amax((1, 2), keepdim=True)
    return torch.clamp(values, low, high)


def _gradient(current: Tensor, loss_at: Loss, step: int, batch_size: int) -> Tensor:
    """The gradient of the mean loss of all samples, in pieces."""
    n = len(current)
    parts = []
    for at in range(0, n, batch_size):
        rows = slice(at, at + batch_size)
        # a leaf for each piece: memory holds the graph of one piece at a time
        piece = current[rows].detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss_at(piece, rows, step), piece)
        # the mean over all samples is the mean of the pieces' means, weighted by their sizes
        parts.append(gradient * (len(piece) / n))
    return torch.cat(parts)

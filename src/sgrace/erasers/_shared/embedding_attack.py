"""Adversarial input embeddings of the text encoder: what adversarial erasers train on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ...models import DiffusionModel
from .adversarial_samples import observe

Optimizer = Literal["sign_adam", "sign_pgd", "adam"]
Projection = Literal["none", "ball", "ball_then_range"]

#: Input embeddings ``(batch, length, width)`` by the text encoder's name.
Embeddings = Mapping[str, Tensor]
#: Embeddings of some of the samples, which samples these are, step number -> their mean loss.
Loss = Callable[[Embeddings, slice, int], Tensor]

#: Most latent values that go through a denoiser together with gradients: four samples of Stable Diffusion
#: 1.4, whose UNet takes 2 GB for each of them and is no faster with more.
GRADIENT_VALUES = 4 * (4 * 64 * 64)


def gradient_batch(model: DiffusionModel) -> int:
    """Samples that go through the denoiser of a model together with gradients."""
    return min(model.batch_size, max(1, GRADIENT_VALUES // math.prod(model.latent_shape)))


def attack_embeddings(
    embeddings: Embeddings,
    mask: Embeddings,
    loss_at: Loss,
    *,
    steps: int,
    lr: float,
    radius: float,
    optimizer: Optimizer,
    projection: Projection,
    batch_size: int,
    accumulate: bool = False,
) -> dict[str, Tensor]:
    """Minimise a mean loss over some positions of input embeddings, those of several encoders together.

    Args:
        embeddings: starting point and centre of the projection; left unchanged.
        mask: 1 at positions that may change ``(#batch, length, 1)``, by encoder.
        loss_at: differentiable in the embeddings; the loss of a sample must not depend on other samples.
        steps: number of gradient steps.
        lr: step size (per coordinate for the sign methods).
        radius: reach of the projection, per coordinate.
        optimizer: ``sign_pgd`` takes plain sign steps; ``adam`` feeds the gradient to Adam; ``sign_adam``
            feeds its sign to Adam, as the published code does.
        projection: ``ball`` keeps each coordinate within ``radius`` of its start; ``ball_then_range`` also
            within the range of its sample's start.
        batch_size: samples in a call of ``loss_at``; it bounds the memory and changes nothing else.
        accumulate: each step follows the sum of all gradients so far, as published code does that never sets
            them to zero.

    Returns:
        The adversarial embeddings, detached.
    """
    # the optimizer works in place on copies: the starting point stays the centre of the projection
    current = {name: start.detach().clone() for name, start in embeddings.items()}
    if not all(map(len, current.values())):
        return current
    # made once, so that its moments live through all steps
    adam = torch.optim.Adam(current.values(), lr=lr) if optimizer != "sign_pgd" else None
    total = {name: torch.zeros_like(start) for name, start in current.items()}
    for step in range(steps):
        gradients = _gradients(current, loss_at, step, batch_size)
        for name, gradient in gradients.items():
            # (batch, length, width) * (#batch, length, 1): other positions do not enter Adam's moments either
            total[name] = gradient * mask[name] + (total[name] if accumulate else 0)
        with torch.no_grad():
            _descend(current, total, adam, lr, only_signs=optimizer != "adam")
            for name, values in current.items():
                values.copy_(_projected(values, embeddings[name], mask[name], radius, projection))
    for values in current.values():
        observe("input_embeds", values)
    return current


def _descend(
    current: Embeddings,
    gradients: Embeddings,
    adam: torch.optim.Optimizer | None,
    lr: float,
    *,
    only_signs: bool,
) -> None:
    """One step, in place."""
    for name, values in current.items():
        direction = gradients[name].sign() if only_signs else gradients[name]
        if adam is None:
            # a plain sign step moves every coordinate by lr, however small its gradient
            values.sub_(lr * direction)
        else:
            values.grad = direction
    if adam is not None:
        adam.step()
        adam.zero_grad(set_to_none=True)


def _projected(values: Tensor, around: Tensor, mask: Tensor, radius: float, projection: Projection) -> Tensor:
    if projection == "none":
        return values
    # the ball of the largest norm is a box: each coordinate by itself
    values = torch.clamp(values, around - radius, around + radius)
    if projection == "ball":
        return values
    # positions outside of the mask stay exactly as they were
    return torch.where(mask.bool(), within_range(values, around), around)


def within_range(
    values: Float[Tensor, "batch length width"], samples: Float[Tensor, "batch length width"]
) -> Float[Tensor, "batch length width"]:
    """Values clamped to the smallest and the largest value of their own sample."""
    # one range for each sample: (batch, length, width) -> (batch, 1, 1)
    low = samples.amin((1, 2), keepdim=True)
    high = samples.amax((1, 2), keepdim=True)
    return torch.clamp(values, low, high)


def _gradients(current: Embeddings, loss_at: Loss, step: int, batch_size: int) -> dict[str, Tensor]:
    """The gradients of the mean loss of all samples, in pieces."""
    n = len(next(iter(current.values())))
    parts: dict[str, list[Tensor]] = {name: [] for name in current}
    for at in range(0, n, batch_size):
        rows = slice(at, at + batch_size)
        # leaves for each piece: memory holds the graph of one piece at a time
        piece = {name: values[rows].detach().requires_grad_(True) for name, values in current.items()}
        found = torch.autograd.grad(loss_at(piece, rows, step), list(piece.values()))
        # the mean over all samples is the mean of the pieces' means, weighted by their sizes
        for name, gradient in zip(piece, found, strict=True):
            parts[name].append(gradient * (len(gradient) / n))
    return {name: torch.cat(own) for name, own in parts.items()}

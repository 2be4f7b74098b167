"""Adversarial prompt embeddings against the denoiser: the primitive that adversarial erasers train on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Optimizer = Literal["sign_adam", "sign_pgd", "adam"]
Projection = Literal["none", "ball", "ball_then_range"]


def attack_embeddings(
    embeddings: Tensor,
    mask: Tensor,
    loss_of: Callable[[Tensor, int], Tensor],
    *,
    steps: int,
    lr: float,
    radius: float,
    optimizer: Optimizer,
    projection: Projection,
    around: Tensor,
    accumulate: bool = False,
) -> Tensor:
    """Minimise a loss over the content positions of prompt embeddings.

    Args:
        embeddings: starting point ``(batch, length, width)``; left unchanged.
        mask: 1 at positions that may change ``(batch, length, 1)``.
        loss_of: embeddings and step number -> scalar loss, differentiable in the embeddings.
        steps: number of gradient steps.
        lr: step size (per coordinate for the sign methods).
        radius: reach of the projection, per coordinate.
        optimizer: ``sign_pgd`` takes plain sign steps; ``adam`` feeds the gradient to Adam; ``sign_adam`` feeds its sign to Adam, as
            the published code does.
        projection: ``ball`` keeps each coordinate within ``radius`` of ``around``; ``ball_then_range`` also within the range of
            each sample of ``around``.
        around: centre of the projection ``(batch, length, width)``.
        accumulate: each step follows the sum of all gradients so far, as published code does that never sets them to zero.

    Returns:
        The adversarial embeddings, detached.
    """
    current = embeddings.detach().clone()
    adam = torch.optim.Adam([current], lr=lr) if optimizer != "sign_pgd" else None
    low, high = around.amin((1, 2), keepdim=True), around.amax((1, 2), keepdim=True)
    total = torch.zeros_like(current)
    for step in range(steps):
        current.requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss_of(current, step), current)
        current.requires_grad_(False)
        total = gradient * mask + (total if accumulate else 0)
        with torch.no_grad():
            if adam is None:
                current -= lr * total.sign()
            else:
                current.grad = total.sign() if optimizer == "sign_adam" else total
                adam.step()
                current.grad = None
            if projection != "none":
                current.copy_(torch.clamp(current, around - radius, around + radius))
            if projection == "ball_then_range":
                current.copy_(torch.where(mask.bool(), torch.clamp(current, low, high), around))
    return current

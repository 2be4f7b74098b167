"""The change of a layer's weight as a product of two thin matrices, and what it leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

#: Singular values below this share of the largest one are rounding.
ROUNDING = 1e-4


class Pair(NamedTuple):
    """``up @ down`` stands for a change ``(out, in)`` or, of a convolution, ``(out, in, height, width)``.

    Attributes:
        down: ``(rank, in)``, or ``(rank, in, height, width)``.
        up: ``(out, rank)``, or ``(out, rank, 1, 1)``.
    """

    down: Tensor
    up: Tensor

    def change(self) -> Tensor:
        """The change that it stands for, in float32."""
        whole = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return whole.reshape(len(self.up), *self.down.shape[1:])


@dataclass(frozen=True)
class Remainder:
    """What low-rank forms leave out of the changes that they stand for.

    Attributes:
        rank: of every pair.
        left: squared Frobenius norm of what is left, by layer.
        whole: squared Frobenius norm of the change, by layer.
        outside: squared Frobenius norm of the change of tensors that no pair can carry, by name.
    """

    rank: int
    left: Mapping[str, float]
    whole: Mapping[str, float]
    outside: Mapping[str, float]

    @property
    def error(self) -> float:
        """``|change - form| / |change|`` over everything that changed; 0 is exact, 1 is nothing."""
        total = sum(self.whole.values()) + sum(self.outside.values())
        return float(((sum(self.left.values()) + sum(self.outside.values())) / total) ** 0.5)

    def in_words(self) -> list[str]:
        """A sentence on the error, and one on what no layer's matrix is."""
        worst = max(self.left, key=lambda name: self.left[name] / self.whole[name])
        share = (self.left[worst] / self.whole[worst]) ** 0.5
        matrices = (
            f"Rank {self.rank} for {len(self.left)} layers: reconstruction error {self.error:.2%} of the"
        )
        told = [
            f"{matrices} change of all weights (Frobenius norm); {share:.2%} in the worst layer ({worst})."
        ]
        if self.outside:
            outside = sum(self.outside.values())
            part = (outside / (sum(self.whole.values()) + outside)) ** 0.5
            told.append(
                f"{len(self.outside)} changed tensors are left out, as no LoRA holds them (biases, norms, "
                f"embeddings): {part:.2%} of the change, which the error counts."
            )
        return told


def numerical_rank(change: Tensor) -> int:
    """Number of singular values that are more than rounding."""
    values = torch.linalg.svdvals(change.float().flatten(1))
    return int((values > ROUNDING * values[0]).sum())


def factored(change: Tensor, rank: int, dtype: torch.dtype) -> Pair:
    """The best pair of a rank (Eckart and Young 1936): the leading part of the singular value decomposition.

    Both matrices take the square root of the singular values. A rank beyond that of the change adds zeros.
    """
    # (out, in * kernel)
    left, values, right = torch.linalg.svd(change.float().flatten(1), full_matrices=False)
    root = values[:rank].sqrt()
    down = change.new_zeros(rank, right.shape[1], dtype=torch.float32)
    up = change.new_zeros(len(change), rank, dtype=torch.float32)
    down[: len(root)] = root[:, None] * right[:rank]
    up[:, : len(root)] = left[:, :rank] * root
    ones = [1] * (change.ndim - 2)
    return Pair(down.reshape(rank, *change.shape[1:]).to(dtype), up.reshape(-1, rank, *ones).to(dtype))


def layer_changes(before: nn.Module, after: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Changes of weights by layer, and of all other parameters by name; those that changed at all.

    A layer is a linear or convolution layer, and its change that of its weight.
    """
    own = dict(before.named_parameters())
    layers, others = {}, {}
    for name, value in after.named_parameters():
        change = (value.float() - own[name].float()).detach().cpu()
        if not change.any():
            continue
        layer, _, leaf = name.rpartition(".")
        if leaf == "weight" and isinstance(after.get_submodule(layer), nn.Linear | nn.Conv2d):
            layers[layer] = change
        else:
            others[name] = change
    return layers, others

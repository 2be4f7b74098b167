"""The least-squares edit that UCE, RECE and others share, solved in float64."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError

MAX_CONDITION = 1e12


@dataclass(frozen=True)
class Wish:
    """What an edited matrix should answer to some inputs.

    Attributes:
        inputs: text states ``(n, width)``.
        like: text states ``(n, width)`` whose answers, by the matrix before the edit, are wanted for ``inputs``.
        weight: of the squared error.
    """

    inputs: Float[Tensor, "n width"]
    like: Float[Tensor, "n width"]
    weight: float


def edit_matrices(matrices: Sequence[Float[Tensor, "out width"]], wishes: Iterable[Wish], ridge: float) -> list[Float[Tensor, "out width"]]:
    """Matrices W' that minimise ``sum weight |W' inputs - W like|^2 + ridge |W' - W|^2``, in closed form.

    All matrices read the same inputs, so one factorisation serves them all:
    ``W' = W + W [sum weight (like - inputs) inputs^T] [ridge I + sum weight inputs inputs^T]^-1``.

    Args:
        matrices: the matrices before the edit.
        wishes: at least one.
        ridge: pull towards the matrix before the edit, above 0.

    Raises:
        InputError: the system is too ill-conditioned to be solved; a larger ridge helps.
    """
    width = matrices[0].shape[1]
    moment = ridge * torch.eye(width, dtype=torch.float64)
    change = torch.zeros(width, width, dtype=torch.float64)
    for wish in wishes:
        inputs, like = wish.inputs.double(), wish.like.double()
        moment += wish.weight * inputs.T @ inputs
        change += wish.weight * (like - inputs).T @ inputs
    condition = torch.linalg.cond(moment).item()
    if not condition < MAX_CONDITION:
        raise InputError(f"The closed-form edit is ill-conditioned (condition number {condition:.1e}); use a larger ridge.")
    right = torch.linalg.solve(moment, change.T).T  # moment is symmetric
    return [(matrix.double() + matrix.double() @ right).to(matrix.dtype) for matrix in matrices]

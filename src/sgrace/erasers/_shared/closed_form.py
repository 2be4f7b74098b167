"""Least-squares edits of matrices that read the same inputs, solved in float64."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..._util.errors import InputError

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


def edit_matrices(matrices: Sequence[Float[Tensor, "_ width"]], wishes: Iterable[Wish], ridge: float) -> list[Float[Tensor, "_ width"]]:
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
    right = solve_right(moment, change)
    return [(matrix.double() + matrix.double() @ right).to(matrix.dtype) for matrix in matrices]


@dataclass(frozen=True)
class Example:
    """Matrices that an edited set of matrices should answer like, to some inputs.

    Attributes:
        inputs: text states ``(n, width)``.
        matrices: one for each matrix of the set, of its shape.
        weight: of the squared error.
    """

    inputs: Float[Tensor, "n width"]
    matrices: Sequence[Float[Tensor, "_ width"]]
    weight: float


def fuse_matrices(
    matrices: Sequence[Float[Tensor, "_ width"]], examples: Sequence[Example], ridge: float
) -> list[Float[Tensor, "_ width"]]:
    """Matrices X that minimise ``sum weight |X inputs - T inputs|^2 + ridge |X - W|^2``, T the matrices of each example, in closed form.

    ``X = W + [sum weight (T - W) inputs inputs^T] [ridge I + sum weight inputs inputs^T]^-1``.

    Args:
        matrices: W, to which the result is pulled.
        examples: at least one.
        ridge: that pull, above 0.

    Raises:
        InputError: the system is too ill-conditioned to be solved; a larger ridge helps.
    """
    moments = [example.weight * example.inputs.double().T @ example.inputs.double() for example in examples]
    total = torch.stack(moments).sum(0) + ridge * torch.eye(len(moments[0]), dtype=torch.float64)
    changes = [
        torch.stack([(example.matrices[i].double() - w.double()) @ moment for example, moment in zip(examples, moments, strict=True)]).sum(
            0
        )
        for i, w in enumerate(matrices)
    ]
    solved = solve_right(total, torch.cat(changes)).split([len(w) for w in matrices])
    return [(w.double() + change).to(w.dtype) for w, change in zip(matrices, solved, strict=True)]


def solve_right(moment: Float[Tensor, "width width"], change: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
    """``change moment^-1`` for a symmetric moment.

    Raises:
        InputError: the moment is too ill-conditioned.
    """
    condition = torch.linalg.cond(moment).item()
    if not condition < MAX_CONDITION:
        raise InputError(f"The closed-form edit is ill-conditioned (condition number {condition:.1e}); use a larger ridge.")
    return torch.linalg.solve(moment, change.T).T

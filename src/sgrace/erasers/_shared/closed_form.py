"""Least-squares edits of matrices that read the same inputs.

They are solved in float64 on the CPU, because not every device has float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..._util.errors import InputError

#: Above this a float64 solution keeps fewer than four digits.
MAX_CONDITION = 1e12


def exact(value: Tensor) -> Tensor:
    """A tensor in float64 on the CPU."""
    return value.detach().cpu().double()


def whole(solved: Tensor, before: Tensor) -> Tensor:
    """A solution where the matrix before the edit is, in float32 or wider.

    What half precision loses of the edit is then seen where the edit is applied.
    """
    return solved.to(before.device, torch.promote_types(before.dtype, torch.float32))


@dataclass(frozen=True)
class EditTerm:
    """One term of an edit: what an edited matrix should return for some inputs.

    Attributes:
        inputs: prompt embeddings ``(n, width)``.
        like: prompt embeddings ``(n, width)``; what the matrix returned for them before the edit is wanted
            for ``inputs``.
        weight: of the squared error.
    """

    inputs: Float[Tensor, "n width"]
    like: Float[Tensor, "n width"]
    weight: float


def edit_matrices(
    matrices: Sequence[Float[Tensor, "_ width"]], terms: Iterable[EditTerm], ridge: float
) -> list[Float[Tensor, "_ width"]]:
    """Matrices W' that minimise ``sum weight |W' inputs - W like|^2 + ridge |W' - W|^2``, in closed form.

    All matrices read the same inputs, so one factorisation serves them all:
    ``W' = W + W [sum weight (like - inputs) inputs^T] [ridge I + sum weight inputs inputs^T]^-1``.

    Args:
        matrices: the matrices before the edit.
        terms: at least one.
        ridge: pull towards the matrix before the edit, above 0.

    Raises:
        InputError: the system is too ill-conditioned to be solved; a larger ridge helps.
    """
    width = matrices[0].shape[1]
    # the ridge is on the diagonal from the start, so the system is solvable even with fewer inputs than width
    moment = ridge * torch.eye(width, dtype=torch.float64)
    change = torch.zeros(width, width, dtype=torch.float64)
    for term in terms:
        # (n, width)^T (n, width) -> (width, width): the number of inputs only enters here
        inputs = exact(term.inputs)
        moment += term.weight * inputs.T @ inputs
        change += term.weight * (exact(term.like) - inputs).T @ inputs
    # one (width, width) factor for all matrices, since all read the same inputs
    right = solve_right(moment, change)
    edited = []
    for matrix in matrices:
        before = exact(matrix)
        edited.append(whole(before + before @ right, matrix))
    return edited


@dataclass(frozen=True)
class FusionTerm:
    """One term of a fusion: matrices that an edited set of matrices should agree with on some inputs.

    Attributes:
        inputs: prompt embeddings ``(n, width)``.
        matrices: one for each matrix of the set, of its shape.
        weight: of the squared error.
    """

    inputs: Float[Tensor, "n width"]
    matrices: Sequence[Float[Tensor, "_ width"]]
    weight: float


def fuse_matrices(
    matrices: Sequence[Float[Tensor, "_ width"]], terms: Sequence[FusionTerm], ridge: float
) -> list[Float[Tensor, "_ width"]]:
    """Matrices X that minimise ``sum weight |X inputs - T inputs|^2 + ridge |X - W|^2``, in closed form.

    T are the matrices of each term.

    ``X = W + [sum weight (T - W) inputs inputs^T] [ridge I + sum weight inputs inputs^T]^-1``.

    Args:
        matrices: W, to which the result is pulled.
        terms: at least one.
        ridge: that pull, above 0.

    Raises:
        InputError: the system is too ill-conditioned to be solved; a larger ridge helps.
    """
    # (n, width)^T (n, width) -> (width, width) a term, the same for every matrix of the set
    moments = [term.weight * exact(term.inputs).T @ exact(term.inputs) for term in terms]
    # (terms, width, width) -> (width, width)
    total = torch.stack(moments).sum(0) + ridge * torch.eye(len(moments[0]), dtype=torch.float64)
    changes = []
    for place, matrix in enumerate(matrices):
        before = exact(matrix)
        parts = [
            (exact(term.matrices[place]) - before) @ moment
            for term, moment in zip(terms, moments, strict=True)
        ]
        # (terms, rows, width) -> (rows, width)
        changes.append(torch.stack(parts).sum(0))
    # all matrices below each other, (sum of rows, width): one solve instead of one a matrix
    solved = torch.split(solve_right(total, torch.cat(changes)), [len(matrix) for matrix in matrices])
    pairs = zip(matrices, solved, strict=True)
    return [whole(exact(matrix) + change, matrix) for matrix, change in pairs]


def solve_right(
    moment: Float[Tensor, "width width"], change: Float[Tensor, "rows width"]
) -> Float[Tensor, "rows width"]:
    """``change moment^-1`` for a symmetric moment.

    Raises:
        InputError: the moment is too ill-conditioned.
    """
    # checked before solving: an ill-conditioned solve raises nothing and returns numbers of no meaning
    condition = torch.linalg.cond(moment).item()
    if not condition < MAX_CONDITION:
        raise InputError(
            f"The closed-form edit is ill-conditioned (condition number {condition:.1e}); use a larger ridge."
        )
    # X M = C is M^T X^T = C^T, and M is symmetric
    solved: Tensor = torch.linalg.solve(moment, change.T)
    return solved.T

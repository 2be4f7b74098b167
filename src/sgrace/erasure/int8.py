"""Weights in a quarter of their size: int8 with one factor for each row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .._util.errors import InputError
from .._util.tensors import check_tensors, read_tensors
from .._util.text import shown

SCALE = ".row_scale"


def packed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels as int8 with a factor per first index beside them, everything else in fp16.

    A weight is off by no more than a 254th of the largest one of its row.
    """
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        if value.ndim < 2:
            out[name] = value.half() if value.is_floating_point() else value
            continue
        rows = value.float().flatten(1)
        scale = rows.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / 127
        out[name] = (rows / scale).round().to(torch.int8).view(value.shape)
        out[name + SCALE] = scale.squeeze(1)
    return out


def unpacked(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of :func:`packed` in fp32; those that were never packed as they are.

    Raises:
        InputError: a tensor has not one factor for each row.
    """
    out = {name: value for name, value in state.items() if not name.endswith(SCALE)}
    for name in (name for name in out if name + SCALE in state):
        scale = state[name + SCALE]
        rows = out[name].float()
        if rows.ndim < 2 or scale.shape != rows.shape[:1]:
            raise InputError(
                f"The int8 tensor {name[:80]!r} has not one factor for each row: the file is damaged."
            )
        out[name] = rows * scale.view(-1, *(1,) * (rows.ndim - 1))
    return out


def read_weights(file: Path) -> dict[str, Tensor]:
    """Weights from a file, unpacked where they are in int8.

    Raises:
        InputError: the file is damaged or empty, or a tensor is not floating-point or not finite.
    """
    stored, _ = read_tensors(file)
    tensors = unpacked(stored)
    check_tensors(tensors, None, shown(file))
    if not tensors:
        raise InputError(f"{shown(file)} holds no tensors.")
    return tensors

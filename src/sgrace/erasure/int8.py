"""Weights in a quarter of their size: int8 with one factor for each row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

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
        out[name], out[name + SCALE] = (rows / scale).round().to(torch.int8).view(value.shape), scale.squeeze(1)
    return out


def unpacked(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of :func:`packed` in fp32; those that were never packed as they are."""
    out = {name: value for name, value in state.items() if not name.endswith(SCALE)}
    for name in (name for name in out if name + SCALE in state):
        scale, rows = state[name + SCALE], out[name].float()
        out[name] = rows * scale.view(-1, *(1,) * (rows.ndim - 1))
    return out

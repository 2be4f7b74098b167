"""Devices and precisions: which to take, and what to say when memory or range ends."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from .errors import InputError


def choose_device(name: str) -> torch.device:
    """A device by name."""
    return torch.device("cpu" if name == "auto" else name)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """A precision by name."""
    del device
    return torch.float32 if name == "auto" else getattr(torch, name)


def autocast_for(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Automatic casts to a precision; none for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def out_of_memory() -> AbstractContextManager[object]:
    """Turn an out-of-memory error into advice."""
    return nullcontext()


def check_finite(value: Tensor, what: str, dtype: torch.dtype) -> None:
    """Raise where a value is not finite."""
    if not bool(torch.isfinite(value).all()):
        raise InputError(f"{what} are not finite in {dtype}; use --dtype bfloat16 or float32.")

"""Tensors in safetensors files: read with checks, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import InputError
from .files import atomic_file
from .text import check_regular_file, shown


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, on the CPU, and the metadata of a safetensors file.

    Raises:
        InputError: the file is absent, not a regular file, empty, cut off, or not in this format.
    """
    check_regular_file(path, "a safetensors file")
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            return tensors, dict(file.metadata() or {})
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(f"{shown(path)} is damaged or not a safetensors file ({error}).") from error


def save_tensors_atomically(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        InputError: the disk is full.
    """
    with atomic_file(path) as partial:
        contiguous = {name: value.detach().contiguous() for name, value in tensors.items()}
        save_file(contiguous, partial, metadata=None if metadata is None else dict(metadata))


def check_tensors(
    found: Mapping[str, Tensor], expected_shapes: Mapping[str, torch.Size] | None, what: str
) -> None:
    """Check that weights can be used: all there, of the right shapes, floating-point, and finite.

    Args:
        found: tensors by name.
        expected_shapes: shapes of those that must be there; None where they are not known.
        what: what the tensors are, at the start of the error's sentence: "The text encoder in safe/".

    Raises:
        InputError: a tensor is missing, has another shape, holds whole numbers, or holds NaN or infinity.
    """
    expected = dict(expected_shapes or {})
    if missing := sorted(expected.keys() - found.keys()):
        raise InputError(f"{what} lacks {len(missing)} of {len(expected)} tensors, such as {missing[0]!r}.")
    for name, value in found.items():
        shape = expected.get(name, value.shape)
        if value.shape != shape:
            raise InputError(f"{what}: tensor {name!r} has the shape {list(value.shape)}, not {list(shape)}.")
        if not value.is_floating_point():
            raise InputError(f"{what}: tensor {name!r} is {_dtype_name(value)}, not floating-point.")
        if not torch.isfinite(value).all():
            raise InputError(f"{what}: tensor {name!r} holds NaN or infinity.")


def _dtype_name(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")

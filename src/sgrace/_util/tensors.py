"""Tensors in safetensors files: read with checks, written whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import InputError
from .files import atomic_file
from .text import check_regular_file, shown

#: What reading a safetensors file may raise.
_FAULTS = (OSError, SafetensorError, KeyError, ValueError, RuntimeError, OverflowError, TypeError)
#: Longest side of a tensor that torch can count.
MAX_SIDE = 2**63 - 1
#: Precisions of weights, as safetensors files name them.
PRECISIONS = ("F64", "F32", "F16", "BF16")
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
#: A buffer of whole numbers that older releases of transformers saved, and that holds 0, 1, 2 ...
POSITIONS = "position_ids"


class Stored(NamedTuple):
    """What the header of a safetensors file says of a tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def stored(path: Path) -> dict[str, Stored]:
    """The tensors of a file of weights by name, without reading their values.

    Counters and positions may be whole numbers; everything else must be floating-point.

    Raises:
        InputError: as :func:`read_tensors`, or a tensor holds whole numbers, complex or quantised ones, or
            has an absurd shape.
    """
    check_regular_file(path, "a safetensors file")
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            found = {name: Stored(one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()}
    except _FAULTS as error:
        raise _damaged(path, error) from error
    for name, tensor in found.items():
        if max(tensor.shape, default=0) > MAX_SIDE:  # one beside a side of 0 needs no values
            raise InputError(
                f"{shown(path)} is damaged: tensor {name[:80]!r} has a side of {max(tensor.shape)}."
            )
        is_count = tensor.dtype[0] in "IUB" and (tensor.elements <= 1 or name.endswith(POSITIONS))
        if tensor.dtype not in PRECISIONS and not is_count:
            raise InputError(
                f"{shown(path)}: tensor {name[:80]!r} is {tensor.dtype}, and weights must be floating-point "
                "of 16 bits or more; look for a file that is not quantised."
            )
    return found


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
    except _FAULTS as error:
        raise _damaged(path, error) from error


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file with the rights that every new file gets; safetensors keeps others out."""
    path.touch()
    rights = path.stat().st_mode
    save_file(dict(tensors), path, None if metadata is None else dict(metadata))
    path.chmod(rights)


def save_tensors_atomically(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        InputError: the disk is full.
    """
    with atomic_file(path) as partial:
        contiguous = {name: value.detach().contiguous() for name, value in tensors.items()}
        save_tensors(partial, contiguous, metadata)


def check_tensors(
    found: Mapping[str, Tensor], expected_shapes: Mapping[str, torch.Size] | None, what: str
) -> None:
    """Check that weights can be used: all there, of the right shapes, floating-point, and finite.

    Args:
        found: tensors by name.
        expected_shapes: shapes of those that must be there; None where they are not known.
        what: what the tensors are, at the start of the error's sentence: "The text encoder in safe/".

    Raises:
        InputError: a tensor is missing, has another shape, holds whole or quantised numbers, NaN or infinity.
    """
    expected = dict(expected_shapes or {})
    if missing := sorted(expected.keys() - found.keys()):
        raise InputError(f"{what} lacks {len(missing)} of {len(expected)} tensors, such as {missing[0]!r}.")
    for name, value in found.items():
        shape = expected.get(name, value.shape)
        if value.shape != shape:
            raise InputError(f"{what}: tensor {name!r} has the shape {list(value.shape)}, not {list(shape)}.")
        if value.dtype not in FLOATS:
            raise InputError(
                f"{what}: tensor {name!r} is {_dtype_name(value)}, not floating-point of 16 bits or more."
            )
        if not is_finite(value):
            raise InputError(f"{what}: tensor {name!r} holds NaN or infinity.")


def is_finite(value: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity, in one pass and without memory of its size."""
    if not value.numel():
        return True
    # NaN wins over all numbers, and an infinity is the largest or the smallest
    low, high = value.detach().aminmax()
    return bool(torch.isfinite(low) and torch.isfinite(high))


def _damaged(path: Path, error: Exception) -> InputError:
    why = str(error).removeprefix("Error while deserializing header: ")[:120]
    return InputError(f"{shown(path)} is damaged or not a safetensors file ({why}).")


def _dtype_name(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")

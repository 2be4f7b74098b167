"""SHA-256 digests of files, tensors and JSON values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .text import json_text

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CHUNK = 2**20


def sha256(path: Path) -> str:
    """Digest of a file."""
    return sha256_of_files([path])


def sha256_of_files(paths: Iterable[Path]) -> str:
    """Digest of the content of files, one after the other in the order of their paths."""
    total = hashlib.sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                total.update(chunk)
    return total.hexdigest()


def sha256_of_json(value: Any) -> str:  # noqa: ANN401  (JSON)
    """Digest of a JSON value; the order of keys makes no difference."""
    return hashlib.sha256(json_text(value, indent=None, sort_keys=True).encode()).hexdigest()


def sha256_of_tensors(
    *parts: Mapping[str, Tensor], dtype: torch.dtype | None = None, header: str = ""
) -> str:
    """Digest of names and values of tensors, in the order given.

    Args:
        parts: tensors by name; the parts of a model may use the same names.
        dtype: floating-point tensors are cast to it first, so that a wider copy has the same digest.
        header: text that is hashed before the tensors.
    """
    import torch  # noqa: PLC0415  (takes seconds to import)

    total = hashlib.sha256(header.encode())
    for part in parts:
        for name, value in part.items():
            total.update(name.encode())
            cast = value.detach().to("cpu", dtype if value.is_floating_point() else None)
            flat = cast.contiguous().reshape(-1)
            total.update(flat.view(torch.uint8).numpy().data)  # as bytes: numpy has no bfloat16
    return total.hexdigest()

"""Pieces of a result in a folder: each is written at once, and one that is there is not made again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(text)
    partial.replace(path)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to a file that appears whole or not at all."""
    partial = path.with_suffix(".partial")
    save_file(dict(tensors), partial)
    partial.replace(path)


def piece(path: Path, make: Callable[[], Any]) -> Any:  # noqa: ANN401  (JSON)
    """Content of a JSON file; ``make`` is called only if the file is missing."""
    if not path.exists():
        write_text(path, json.dumps(make(), indent=2) + "\n")
    return json.loads(path.read_text())

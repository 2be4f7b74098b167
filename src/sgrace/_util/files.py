"""Folders that appear whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError


def check_new_folder(path: Path) -> Path:
    """The path, if a folder can be made there.

    Raises:
        InputError: it exists and is not an empty folder, or its parent cannot be written.
    """
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise InputError(f"{path} exists and is not empty; name a new folder.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.parent / f".{path.name}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"Cannot write to {path.parent}: {error.strerror}.") from error
    return path


REQUEST = "request.json"


def resumable_folder(path: Path, request: dict[str, Any]) -> Path:
    """A folder that a long run fills piece by piece; the same request again goes on in it.

    Raises:
        InputError: the folder holds something else, another request's results, or cannot be written.
    """
    wanted, note = json.dumps(request, indent=2, sort_keys=True) + "\n", path / REQUEST
    if note.is_file():
        if note.read_text() != wanted:
            raise InputError(f"{path} holds the results of another request; name a new folder.")
        return path
    with new_folder(path) as partial:
        (partial / REQUEST).write_text(wanted)
    return path


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A hidden folder to fill; it takes the name ``path`` only when the block ends well.

    Raises:
        InputError: as :func:`check_new_folder`.
    """
    target = check_new_folder(path)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if target.exists():
            target.rmdir()
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)

"""Files that appear whole or not at all."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import InputError
from .locks import held
from .places import (
    cannot_write,
    check_writable,
    hidden,
    make_parents,
    passing,
    remove_empty,
    tell_disk_fault,
)
from .text import json_text, shown


def check_new_file(path: Path) -> Path:
    """The path, if a file can be made there. Nothing is left behind, no parent folder either.

    Raises:
        InputError: something is there already, or the path cannot be written.
    """
    try:
        taken = path.is_symlink() or path.exists()
    except (OSError, ValueError) as error:
        raise cannot_write(path, error) from error
    if taken:
        raise InputError(f"{shown(path)} exists already; name a new file.")
    return check_writable(path)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """As :func:`atomic_file`, for a file that must not exist yet, in folders that may be missing.

    Raises:
        InputError: as :func:`check_new_file`, or the disk is full.
    """
    check_new_file(path)
    made = make_parents(path)
    try:
        with atomic_file(path) as partial:
            yield partial
    except BaseException:
        remove_empty(made)
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A hidden file to write; it takes the name ``path`` only when the block ends well.

    Of two processes that write the same file at once, the last one counts.

    Raises:
        InputError: the disk is full.
    """
    partial = passing(path)
    try:
        _remove_leftovers(path)
        partial.touch()
        with held(partial):
            yield partial
            partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        tell_disk_fault(path, error)
        raise


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401  (JSON)
    """Write a JSON file, whole or not at all; numbers that JSON does not have become null."""
    write_text_atomically(path, json_text(value) + "\n")


def link(source: Path, place: Path) -> None:
    """Put a file or folder in another place too, without a copy where the disk allows it."""
    if place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, place, copy_function=_link_file)
    else:
        _link_file(str(source), str(place))


def _link_file(source: str, place: str) -> None:
    try:
        os.link(source, place)
    except OSError:  # another disk
        shutil.copy2(source, place)


def _remove_leftovers(path: Path) -> None:
    """Remove the hidden files of processes that were killed while they wrote this file."""
    for file in path.parent.glob(hidden(Path(glob.escape(path.name)), "????????.partial").name):
        with suppress(OSError), held(file) as is_free:
            if is_free:
                file.unlink()

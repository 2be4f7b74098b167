"""Folders that appear whole or not at all, or that are filled piece by piece."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError
from .files import write_json
from .locks import held_alone
from .places import (
    cannot_write,
    check_writable,
    hidden,
    is_file,
    make_parents,
    remove_empty,
    tell_disk_fault,
)
from .text import json_text, read_json, reason, shown

REQUEST = "request.json"


def check_new_folder(path: Path) -> Path:
    """The path, if a folder can be made there. Nothing is left behind, no parent folder either.

    Raises:
        InputError: something else is there, the folder is not empty, or the path cannot be written.
    """
    try:
        other = path.is_symlink() or (path.exists() and not path.is_dir())
        full = path.is_dir() and any(path.iterdir())
    except (OSError, ValueError) as error:
        raise cannot_write(path, error) from error
    if other:
        raise InputError(f"{shown(path)} exists and is not a folder; name a new folder.")
    if full:
        raise InputError(f"{shown(path)} exists and is not empty; name a new folder.")
    return check_writable(path)


def check_room(path: Path, n_bytes: int) -> None:
    """Check that the disk of a path, which need not exist yet, has room for so many bytes.

    Raises:
        InputError: it has not.
    """
    folder = next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise InputError(
            f"Cannot write {shown(path)}: about {n_bytes / 1e6:,.1f} MB will be saved, but its disk has "
            f"{free / 1e6:,.1f} MB left; free some of it, or name a folder on another disk."
        )


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A hidden folder to fill; it takes the name ``path`` only when the block ends well.

    If the block fails, the hidden folder and the parents that were made for it are removed. If only the
    renaming fails, because something has taken the name, the finished folder stays; the error names it.

    Raises:
        InputError: as :func:`check_new_folder` and :func:`unfinished`.
    """
    check_new_folder(path)
    made = make_parents(path)
    try:
        with unfinished(path) as partial:
            yield partial
    except BaseException:
        remove_empty(made)
        raise
    try:
        if path.is_dir():
            path.rmdir()
        partial.rename(path)
    except OSError as error:
        message = f"Cannot write {shown(path)} ({reason(error)}); the finished result is in {partial}."
        raise InputError(message) from error
    remove_empty([partial.parent])


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A folder to fill, of the same name as ``path`` and in a hidden folder beside it.

    If the block fails, both are removed; if it ends well, they are the caller's. What a process left that was
    killed is removed before.

    Raises:
        InputError: another process is filling it, something else has the hidden name, or the disk is full.
    """
    home = hidden(path, "partial")
    _remove_leftover(home, path)
    # another process may have taken away the parents that it had made for its check
    home.mkdir(parents=True)
    try:
        with held_alone(home, path):
            partial = home / path.name
            partial.mkdir()
            yield partial
    except BaseException as error:
        shutil.rmtree(home, ignore_errors=True)
        tell_disk_fault(path, error)
        raise


def _remove_leftover(home: Path, path: Path) -> None:
    """Remove a hidden folder of a process that was killed; nobody else's holds just a folder of that name."""
    if not home.is_symlink() and not home.exists():
        return
    if home.is_symlink() or not home.is_dir() or any(each.name != path.name for each in home.iterdir()):
        raise InputError(
            f"{shown(home)} is in the way, and sgrace has not made it: take it away, or name another place."
        )
    with held_alone(home, path):  # a process may be at work
        shutil.rmtree(home)


def check_resumable_folder(path: Path) -> Path:
    """The path, if :func:`resumable_folder` can start there or go on; the request itself is compared later.

    Raises:
        InputError: the folder holds something else, cannot be written, or another process is filling it.
    """
    note = path / REQUEST
    if not is_file(note):
        check_new_folder(path)
    else:
        check_writable(note)
    if path.is_dir():
        with held_alone(path, path):
            pass
    return path


@contextmanager
def resumable_folder(path: Path, request: Mapping[str, Any]) -> Iterator[Path]:
    """A folder that the block fills piece by piece; the same request again goes on in it.

    If the block fails before a piece is finished, the folder and the parents made for it are removed.

    Raises:
        InputError: the folder holds something else or another request's results, cannot be written, or
            another process is filling it.
    """
    check_resumable_folder(path)
    note = path / REQUEST
    made = make_parents(path)
    path.mkdir(parents=True, exist_ok=True)
    with held_alone(path, path):
        if is_file(note):
            _check_same(path, read_json(note), json.loads(json_text(request)))
        try:
            write_json(note, request)
            yield path
        except BaseException as error:
            if not any(file.is_file() for file in path.rglob("*") if file != note):
                shutil.rmtree(path, ignore_errors=True)
                remove_empty(made)
            tell_disk_fault(path, error)
            raise


def _check_same(path: Path, found: Any, wanted: Any) -> None:  # noqa: ANN401  (JSON)
    if names := _differences(found, wanted):
        raise InputError(
            f"{shown(path)} holds the results of another request: {', '.join(names)}; name a new folder."
        )


def _differences(found: Any, wanted: Any, name: str = "") -> list[str]:  # noqa: ANN401  (JSON)
    """Fields in which two JSON values differ, with both values where they are short."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        start = f"{name}." if name else ""
        lists = [
            _differences(found.get(key), wanted.get(key), start + key) for key in sorted({*found, *wanted})
        ]
        return [difference for several in lists for difference in several]
    if found == wanted:
        return []
    both = [json.dumps(value) for value in (found, wanted)]
    short = max(map(len, both)) <= 40
    return [f"{name or REQUEST} differs" + (f" ({both[0]}, now {both[1]})" if short else "")]

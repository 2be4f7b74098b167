"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import InputError
from .text import json_text, read_json, reason, shown

REQUEST = "request.json"
_DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


# -- folders ---------------------------------------------------------------------------------------


def check_new_folder(path: Path) -> Path:
    """The path, if a folder can be made there. Nothing is left behind, no parent folder either.

    Raises:
        InputError: something else is there, the folder is not empty, or the path cannot be written.
    """
    try:
        other = path.is_symlink() or (path.exists() and not path.is_dir())
        full = path.is_dir() and any(path.iterdir())
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from error
    if other:
        raise InputError(f"{shown(path)} exists and is not a folder; name a new folder.")
    if full:
        raise InputError(f"{shown(path)} exists and is not empty; name a new folder.")
    return _check_writable(path)


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
        InputError: as :func:`check_new_folder`, or the disk is full.
    """
    check_new_folder(path)
    partial, made = _hidden(path, "partial"), _make_parents(path)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        _remove_empty(made)
        _tell_disk_fault(path, error)
        raise
    try:
        if path.is_dir():
            path.rmdir()
        partial.rename(path)
    except OSError as error:
        message = f"Cannot write {shown(path)} ({reason(error)}); the finished result is in {partial}."
        raise InputError(message) from error


def check_resumable_folder(path: Path) -> Path:
    """The path, if :func:`resumable_folder` can start there or go on; the request itself is compared later.

    Raises:
        InputError: the folder holds something else, or cannot be written.
    """
    note = path / REQUEST
    if not _is_file(note):
        return check_new_folder(path)
    _check_writable(note)
    return path


@contextmanager
def resumable_folder(path: Path, request: Mapping[str, Any]) -> Iterator[Path]:
    """A folder that the block fills piece by piece; the same request again goes on in it.

    If the block fails before a piece is finished, the folder and the parents made for it are removed.

    Raises:
        InputError: the folder holds something else or another request's results, or cannot be written.
    """
    note = path / REQUEST
    made = _missing_parents(path)
    if _is_file(note):
        if names := _differences(read_json(note), json.loads(json_text(request))):
            differences = ", ".join(names)
            raise InputError(
                f"{shown(path)} holds the results of another request: {differences}; name a new folder."
            )
        _check_writable(note)
    else:
        with new_folder(path) as partial:
            write_json(partial / REQUEST, request)
    try:
        yield path
    except BaseException:
        if not any(file.is_file() for file in path.rglob("*") if file != note):
            shutil.rmtree(path, ignore_errors=True)
            _remove_empty(made)
        raise


# -- single files ----------------------------------------------------------------------------------


def check_new_file(path: Path) -> Path:
    """The path, if a file can be made there. Nothing is left behind, no parent folder either.

    Raises:
        InputError: something is there already, or the path cannot be written.
    """
    try:
        taken = path.is_symlink() or path.exists()
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from error
    if taken:
        raise InputError(f"{shown(path)} exists already; name a new file.")
    return _check_writable(path)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """As :func:`atomic_file`, for a file that must not exist yet, in folders that may be missing.

    Raises:
        InputError: as :func:`check_new_file`, or the disk is full.
    """
    check_new_file(path)
    made = _make_parents(path)
    try:
        with atomic_file(path) as partial:
            yield partial
    except BaseException:
        _remove_empty(made)
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A hidden file to write; it takes the name ``path`` only when the block ends well.

    Raises:
        InputError: the disk is full.
    """
    partial = _hidden(path, "partial")
    try:
        yield partial
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        _tell_disk_fault(path, error)
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


# -- parts -----------------------------------------------------------------------------------------


def _hidden(path: Path, use: str) -> Path:
    return path.with_name(f".{path.name}.{use}")


def _check_writable(path: Path) -> Path:
    """Write and remove a small file beside the path: permissions do not tell of a full disk."""
    try:
        made = _make_parents(path)
        try:
            _probe(_hidden(path, "probe"))
        finally:
            _remove_empty(made)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise _cannot_write(path, error) from error
    return path


def _probe(file: Path) -> None:
    try:
        file.write_bytes(bytes(4096))
    finally:
        with suppress(OSError, ValueError):
            file.unlink()


def _cannot_write(path: Path, error: Exception) -> InputError:
    return InputError(f"Cannot write {shown(path)}: {reason(error)}.")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _missing_parents(path: Path) -> list[Path]:
    """Parents that are not there, the innermost first."""
    missing = []
    with suppress(OSError, ValueError):
        missing = [folder for folder in path.parents if not folder.exists()]
    return missing


def _make_parents(path: Path) -> list[Path]:
    """Make the missing parents and name them; none is left if one of them cannot be made."""
    missing = _missing_parents(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        _remove_empty(missing)
        raise
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _tell_disk_fault(path: Path, error: BaseException) -> None:
    """Raise an InputError if an error says that the disk is full or read-only, whichever library met it."""
    number = getattr(error, "errno", None)
    if number is None and (found := re.search(r"\(os error (\d+)\)", str(error))):  # safetensors
        number = int(found[1])
    if number in _DISK_FAULTS:
        raise InputError(f"Cannot write {shown(path)}: {os.strerror(number)}.") from error


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

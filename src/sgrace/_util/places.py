"""Where a file or folder is to be made: whether it can be, and what is left if it was not."""

from __future__ import annotations

import errno
import os
import re
import uuid
from contextlib import suppress
from pathlib import Path

from .errors import InputError
from .text import reason, shown

_DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def hidden(path: Path, use: str) -> Path:
    return path.with_name(f".{path.name}.{use}")


def passing(path: Path) -> Path:
    """A hidden name beside the path that nothing else has and nobody can foresee."""
    return hidden(path, f"{uuid.uuid4().hex[:8]}.partial")


def check_writable(path: Path) -> Path:
    """Write and remove a small file beside the path: permissions do not tell of a full disk."""
    try:
        try:
            _check_once(path)
        except FileNotFoundError:
            # another process that checks the same place has taken away the parents that it had made for it
            _check_once(path)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise cannot_write(path, error) from error
    return path


def _check_once(path: Path) -> None:
    made = make_parents(path)
    try:
        # no name beside a file is longer than this one
        _probe(passing(path))
    finally:
        remove_empty(made)


def _probe(file: Path) -> None:
    try:
        # never through a link to something else
        with file.open("xb") as made:
            made.write(bytes(4096))
    finally:
        with suppress(OSError, ValueError):
            file.unlink()


def cannot_write(path: Path, error: Exception) -> InputError:
    return InputError(f"Cannot write {shown(path)}: {reason(error)}.")


def is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def missing_parents(path: Path) -> list[Path]:
    """Parents that are not there, the innermost first."""
    missing = []
    with suppress(OSError, ValueError):
        missing = [folder for folder in path.parents if not folder.exists()]
    return missing


def make_parents(path: Path) -> list[Path]:
    """Make the missing parents and name them; none is left if one of them cannot be made."""
    missing = missing_parents(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        remove_empty(missing)
        raise
    return missing


def remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def tell_disk_fault(path: Path, error: BaseException) -> None:
    """Raise an InputError if an error says that the disk is full or read-only, whichever library met it."""
    number = _number(error)
    if number in _DISK_FAULTS:
        raise InputError(f"Cannot write {shown(path)}: {os.strerror(number)}.") from error


def is_disk_fault(error: BaseException) -> bool:
    """Whether an error says that the disk is full or read-only, or was raised since another one says so."""
    cause = error.__cause__
    return _number(error) in _DISK_FAULTS or (cause is not None and is_disk_fault(cause))


def _number(error: BaseException) -> int:
    if found := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors
        return int(found[1])
    return getattr(error, "errno", None) or 0

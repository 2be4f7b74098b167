"""What a manifest says; whoever can write to a store may have edited it."""

from __future__ import annotations

from pathlib import PureWindowsPath
from typing import Any

from .._util.errors import InputError

#: No number of seconds, bytes, MiB or rows is so large.
MAX_COST = 2**63


def checked(found: object, place: str) -> dict[str, Any]:
    """A manifest whose fields can be used.

    Args:
        found: what was read.
        place: where it was read, for the error.

    Raises:
        InputError: a field is missing or no such value, or a file would lie outside its folder.
    """
    record = found if isinstance(found, dict) else {}
    # manifests had no memory once
    costs = [record.get("seconds"), record.get("bytes"), record.get("peak_memory_mb", 0)]
    sound = (
        all(isinstance(record.get(name), str) for name in ("id", "kind"))
        and all(isinstance(record.get(name), dict) for name in ("config", "needs", "sha256"))
        and all(map(is_cost, costs))
    )
    if not sound:
        raise InputError(f"{place} is no manifest of a cell; remove its folder, and the cell is made again.")
    for name in record["sha256"]:
        if not _is_inside(name):
            raise InputError(f"{place} names the file {name[:60]!r}, which is outside the cell's folder.")
    return record


def is_cost(value: object) -> bool:
    """Whether a value can be a number of seconds, bytes or rows."""
    return isinstance(value, int | float) and 0 <= value < MAX_COST


def _is_inside(name: str) -> bool:
    path = PureWindowsPath(name)  # it knows the signs of both kinds of systems
    return bool(path.parts) and not path.anchor and ".." not in path.parts and name.isprintable()


def reason_of(found: object) -> str:
    """Why a cell could not be made, of the note on it."""
    reason = found.get("reason") if isinstance(found, dict) else None
    return reason if isinstance(reason, str) else "the note on it cannot be read"

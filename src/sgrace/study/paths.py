"""Files that a study names, found from anywhere: they are named from the study's own folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._util import registry
from .._util.errors import InputError
from .._util.text import reason
from ..models.origin import exists


def placed(matrix: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A matrix as a study file has it, with the whole paths of what it and its rows name.

    Models, and what the settings of a detector name, may be hub ids or words: they are paths where the
    study's folder has them.

    Raises:
        InputError: there cannot be such a file.
    """
    try:
        return _placed(matrix, folder)
    except (OSError, ValueError, RuntimeError) as error:  # a null character, or links in a circle
        raise InputError(f"A study names a file that cannot be ({reason(error)}).") from error


def _placed(matrix: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    found = {name: _whole(matrix[name], folder) for name in ("prompts", "words") if name in matrix}
    for name in ("model", "erased_on"):
        given = matrix.get(name)
        if isinstance(given, str) and given not in registry.names("testbeds"):
            found[name] = _whole_if_there(given, folder)
    settings = matrix.get("detector_settings")
    if isinstance(settings, dict):
        found["detector_settings"] = {
            name: _whole(value, folder) if _is_named(value, folder) else value
            for name, value in settings.items()
        }
    rows = matrix.get("erasers")
    if isinstance(rows, list):
        found["erasers"] = [_placed_row(row, folder) for row in rows]
    return {**matrix, **found}


def _placed_row(row: object, folder: Path) -> object:
    if not isinstance(row, dict) or "words" not in row:
        return row
    return {**row, "words": _whole(row["words"], folder)}


def _whole(given: object, folder: Path) -> object:
    return str((folder / given).resolve()) if isinstance(given, str) else given


def _whole_if_there(given: object, folder: Path) -> object:
    return _whole(given, folder) if _is_there(given, folder) else given


def _is_there(given: object, folder: Path) -> bool:
    return isinstance(given, str) and bool(given) and exists(folder / given)


def _is_named(given: object, folder: Path) -> bool:
    """Whether a setting means a file or folder: a plain word may happen to be the name of a folder."""
    return _is_there(given, folder) and ("/" in str(given) or (folder / str(given)).is_file())

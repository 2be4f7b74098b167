"""Text and JSON: read with limits, written as valid JSON, shown in errors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import InputError

MAX_BYTES = 64 * 2**20
MAX_SHOWN = 120


def json_text(value: Any, *, indent: int | None = 2, sort_keys: bool = False) -> str:  # noqa: ANN401  (JSON)
    """A value as JSON; infinities and NaN, which JSON does not have, become null."""
    return json.dumps(_plain(value), indent=indent, sort_keys=sort_keys, allow_nan=False)


def _plain(value: Any) -> Any:  # noqa: ANN401  (JSON)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:  # noqa: ANN401  (JSON)
    """The value of a JSON file; ``Infinity`` and ``NaN``, which older files hold, are null.

    Raises:
        InputError: as :func:`read_text`, or the text is not JSON or nested too deeply.
    """
    try:
        return json.loads(read_text(path, max_bytes), parse_constant=lambda _: None)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        what = "is nested too deeply" if isinstance(error, RecursionError) else f"is not JSON ({error})"
        raise InputError(f"{shown(path)} {what}.") from error


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        InputError: it is absent, not a regular file (a device, a pipe), too large, or not UTF-8.
    """
    content = _read_bytes(path, max_bytes)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"Cannot read {shown(path)}: it is not text in UTF-8.") from error


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    check_regular_file(path)
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)  # not the size: files under /proc tell none
    except OSError as error:
        raise InputError(f"Cannot read {shown(path)}: {reason(error)}.") from error
    if len(content) > max_bytes:
        raise InputError(f"{shown(path)} is larger than {max_bytes / 1e6:,.0f} MB.")
    return content


def check_regular_file(path: Path) -> None:
    """Check before opening, because a pipe or a device can be endless.

    Raises:
        InputError: it is absent or not a regular file.
    """
    try:
        path.stat()
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise InputError(f"Cannot read {shown(path)}: {reason(error)}.") from error
    if not path.is_file():
        raise InputError(f"Cannot read {shown(path)}: it is not a regular file.")


def shown(path: Path) -> str:
    """A path as errors show it: printable and not longer than a line."""
    text = "".join(c if c.isprintable() else "?" for c in str(path))
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN // 2]}...{text[-MAX_SHOWN // 2 :]}"


def reason(error: Exception) -> str:
    """The system's own words for an error."""
    return getattr(error, "strerror", None) or str(error)

"""Text and JSON: read with limits, cleaned of what cannot be seen, written as valid JSON, shown in errors."""

from __future__ import annotations

import json
import math
import re
import stat
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import InputError

MAX_BYTES = 64 * 2**20
MAX_SHOWN = 120
#: Marks of a list at the start of a line: ``-``, ``*``, ``•``, ``1.``, ``2)``, ``(3)``.
LIST_MARK = re.compile(  # dashes and bullets of word processors too
    r"^\s*(?:[-*+•‣◦▪·–—]+(?=\s|\w)|\(\d{1,4}\)|\d{1,4}[.)](?=\s|[^\W\d]))\s*"  # noqa: RUF001
)


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
    what = "a JSON file"
    text = read_text(path, what, max_bytes)
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else f"it is not JSON ({error})"
        raise _unreadable(path, what, why) from error


def read_text(path: Path, what: str, max_bytes: int = MAX_BYTES) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        what: what the file should be, for the error: "a prompt table".
        max_bytes: largest size that is read.

    Raises:
        InputError: as :func:`check_regular_file`, or it is too large, or not UTF-8 text.
    """
    check_regular_file(path, what)
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise _unreadable(path, what, reason(error)) from error
    if len(content) > max_bytes:
        raise _unreadable(path, what, f"it is larger than {max_bytes:,} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unreadable(path, what, "it is not UTF-8 text; save it as UTF-8") from error
    if "\0" in text:
        raise _unreadable(path, what, "it is not text")
    return text


def check_regular_file(path: Path, what: str) -> None:
    """Check before opening, because a pipe or a device can be endless.

    Raises:
        InputError: it is absent, a folder, a device or a pipe, or empty.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise _unreadable(path, what, reason(error)) from error
    if stat.S_ISDIR(found.st_mode):
        raise _unreadable(path, what, "it is a folder; name a file")
    if not stat.S_ISREG(found.st_mode):
        raise _unreadable(path, what, "it is a device, a pipe or a socket; name a file")
    if found.st_size == 0:  # also the files that a system makes up while they are read
        raise _unreadable(path, what, "it is empty")


def _unreadable(path: Path, what: str, why: str) -> InputError:
    return InputError(f"Cannot read {shown(path)} as {what}: {why}.")


def shown(path: Path) -> str:
    """A path as errors show it: printable and not longer than a line."""
    text = "".join(c if c.isprintable() else "?" for c in str(path))
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN // 2]}...{text[-MAX_SHOWN // 2 :]}"


def reason(error: Exception) -> str:
    """The system's own words for an error."""
    return getattr(error, "strerror", None) or str(error)


def visible(text: str) -> str:
    """The text on one line, without zero-width characters; white space of any kind becomes one space."""
    return " ".join("".join(c for c in text if unicodedata.category(c) != "Cf").split())


def has_control(text: str) -> bool:
    """Whether the text holds a control character, or half of a character that no file can hold."""
    return any(unicodedata.category(c) in {"Cc", "Cs"} for c in text)


def is_torn(text: str) -> bool:
    """Whether the text holds half of a character, as JSON and file names can but no file of text."""
    return any("\ud800" <= c <= "\udfff" for c in text)


def lines_of(text: str) -> list[str]:
    """The lines of a text, whichever system wrote the line breaks."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")

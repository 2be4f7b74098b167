"""Text files of users: read within limits, cleaned of what cannot be seen."""

from __future__ import annotations

import re
import stat
import unicodedata
from pathlib import Path

from .errors import InputError

#: Marks of a list at the start of a line: ``-``, ``*``, ``•``, ``1.``, ``2)``, ``(3)``.
LIST_MARK = re.compile(  # dashes and bullets of word processors too
    r"^\s*(?:[-*+•‣◦▪·–—]+(?=\s|\w)|\(\d{1,4}\)|\d{1,4}[.)](?=\s|[^\W\d]))\s*"  # noqa: RUF001
)


def read_text(path: Path, what: str, max_bytes: int) -> str:
    """The text of a file, checked before it is read: type, size and encoding.

    Args:
        path: the file.
        what: what the file should be, for the error: "a prompt table".
        max_bytes: largest size that is read.

    Raises:
        InputError: the file is missing, a folder, a device or a pipe, empty, too large, or not UTF-8 text.
    """
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise InputError(f"{path} is a folder; name a file that is {what}.")
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path} is a device, a pipe or a socket; name a file that is {what}.")
        if found.st_size > max_bytes:
            raise InputError(f"{path} is larger than {max_bytes:,} bytes: not {what}.")
        if found.st_size == 0:  # also the files that a system makes up while they are read
            raise InputError(f"{path} is empty: not {what}.")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"Cannot read {path} as {what}: it is not UTF-8 text; save it as UTF-8.") from error
    except OSError as error:
        raise InputError(f"Cannot read {path} as {what}: {error.strerror}.") from error
    except ValueError as error:  # a path that no system can have
        if isinstance(error, InputError):
            raise
        raise InputError(f"Cannot read {str(path)[:80]!r} as {what}: it is no path.") from error
    if len(content) > max_bytes or "\0" in text:
        raise InputError(f"Cannot read {path} as {what}: it is not text.")
    return text


def visible(text: str) -> str:
    """The text on one line, without zero-width characters; white space of any kind becomes one space."""
    return " ".join("".join(c for c in text if unicodedata.category(c) != "Cf").split())


def has_control(text: str) -> bool:
    """Whether the text holds a control character, or half of a character that no file can hold."""
    return any(unicodedata.category(c) in {"Cc", "Cs"} for c in text)


def lines_of(text: str) -> list[str]:
    """The lines of a text, whichever system wrote the line breaks."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")

"""What cannot be read is one sentence, and nothing is read without a limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sgrace._util.errors import InputError
from sgrace._util.text import read_json, read_text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"\xff\xfe{\x00", "not UTF-8 text; save it as UTF-8"),
        (b"", "it is empty"),
        (b'{"a": 1', "is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 100_000, "is not JSON"),
        (b" " * 1_000_001, "larger than 1,000,000 bytes"),
        ("é".encode() * 600_000, "larger than 1,000,000 bytes"),
        (b"{}\0", "it is not text"),
    ],
)
def test_bad_json_is_told(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "file.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_json(file, max_bytes=10**6)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/", "x" * 5000, "a\0b"])
def test_what_is_no_file_is_not_opened(path: str) -> None:
    with pytest.raises(InputError, match=r"^Cannot read .* as a word file: "):
        read_text(Path(path), "a word file")


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="it is a device, a pipe or a socket"):
        read_json(tmp_path / "pipe")


def test_older_files_with_infinity_and_files_with_a_mark_are_read(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_bytes(b'\xef\xbb\xbf{"a": [Infinity, -Infinity, NaN, 1]}')
    assert read_json(tmp_path / "file.json") == {"a": [None, None, None, 1]}

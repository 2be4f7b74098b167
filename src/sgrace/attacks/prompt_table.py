"""Prompt tables from files: one prompt a line, or CSV with the columns ``prompt`` and ``seed``."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ..errors import InputError
from .session import Prompt

MAX_FILE_BYTES = 20_000_000
MAX_PROMPT = 2_000
SEED_COLUMNS = ("seed", "evaluation_seed", "sd_seed")


def read_prompts(path: Path) -> list[Prompt]:
    """Read a table; prompts without a seed get their number as the seed.

    Raises:
        InputError: the file is missing, too large, not UTF-8 text, has no prompt, or a row that cannot be one.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path} is larger than {MAX_FILE_BYTES:,} bytes: not a prompt table.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {path} as a text file of prompts.") from error
    rows = _csv(path, text) if path.suffix.lower() == ".csv" else [Prompt(line.strip(), i) for i, line in enumerate(text.splitlines())]
    prompts = [row for row in rows if row.text]
    if not prompts:
        raise InputError(f"{path} holds no prompt.")
    for prompt in prompts:
        if len(prompt.text) > MAX_PROMPT or not prompt.text.isprintable():
            raise InputError(f"A prompt is one line of at most {MAX_PROMPT:,} printable characters; {path} has {prompt.text[:40]!r}...")
    return prompts


def _csv(path: Path, text: str) -> list[Prompt]:
    try:
        reader = csv.DictReader(io.StringIO(text))
        columns = reader.fieldnames or []
        if "prompt" not in columns:
            raise InputError(f"{path} has no column `prompt`.")
        seed_column = next((name for name in SEED_COLUMNS if name in columns), None)
        return [
            Prompt((row["prompt"] or "").strip(), int(row[seed_column]) if seed_column else i)  # a formula stays text: nothing runs it
            for i, row in enumerate(reader)
        ]
    except (csv.Error, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a table of prompts and whole-number seeds ({error}).") from error

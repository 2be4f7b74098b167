"""Prompt tables from files: one prompt a line, or CSV with the columns ``prompt``, ``seed`` and ``guidance``."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from .._util.errors import InputError
from .scene import Prompt

MAX_FILE_BYTES = 20_000_000
MAX_PROMPT = 2_000
MAX_GUIDANCE = 100
SEED_COLUMNS = ("seed", "evaluation_seed", "sd_seed")
GUIDANCE_COLUMNS = ("guidance", "guidance_scale", "evaluation_guidance", "sd_guidance_scale")


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
        seed, guidance = (next((name for name in names if name in columns), None) for names in (SEED_COLUMNS, GUIDANCE_COLUMNS))
        return [
            Prompt(
                (row["prompt"] or "").strip(),  # a formula stays text: nothing runs it
                int(row[seed]) if seed else i,
                _scale(row[guidance]) if guidance and row[guidance] else None,
            )
            for i, row in enumerate(reader)
        ]
    except (csv.Error, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a table of prompts, whole-number seeds and guidance scales ({error}).") from error


def _scale(text: str) -> float:
    value = float(text)
    if not 1 <= value <= MAX_GUIDANCE:
        raise ValueError(f"guidance {text} is not in 1..{MAX_GUIDANCE}")
    return value

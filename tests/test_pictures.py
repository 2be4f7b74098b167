"""Pictures of the pages: each has a command, and the cheap ones are drawn here in a short form."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from .test_documents import DOCUMENTS, ROOT

DOCS = ROOT / "docs"
LINK = re.compile(r"!\[[^\]]+\]\((?!https?:)([^)]+)\)")


class Program(NamedTuple):
    """A program that draws pictures of the pages."""

    short: tuple[str, ...]  # options for less work
    drawn: tuple[str, ...]


SETTINGS = ("rounds=1", "attack_steps=1", "edit_steps=1", "retain_pool=8", "n_pairs=1")
PROGRAMS = {
    "concept_pictures": Program(
        ("--prompts", "12", "--set", *SETTINGS), ("space_before", "space_attacked", "space_after")
    ),
    "study_pictures": Program((), ("safety_and_harm", "robustness_over_time", "coverage")),
}


def n_colours(file: Path) -> int:
    """Number of colours, 256 at most."""
    with Image.open(file) as found:
        return len(found.convert("RGB").quantize(256).getcolors() or ())


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_draws_its_pictures(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = PROGRAMS[name]
    monkeypatch.setattr(sys, "argv", [name, *program.short, "--out", str(tmp_path)])
    runpy.run_path(str(DOCS / f"{name}.py"), run_name="__main__")
    assert {path.stem for path in tmp_path.iterdir()} == set(program.drawn)
    for each in program.drawn:
        with Image.open(tmp_path / f"{each}.png") as made, Image.open(DOCS / f"{each}.png") as shown:
            assert made.size == shown.size
        assert n_colours(tmp_path / f"{each}.png") > 20, "it is blank"


def test_every_picture_is_shown_and_has_a_command() -> None:
    files = {path.name for path in DOCS.rglob("*.png")}
    texts = {page: page.read_text(encoding="utf-8") for page in DOCUMENTS}
    shown = {Path(link).name for text in texts.values() for link in LINK.findall(text)}
    assert shown == files
    _, _, table = texts[ROOT / "CONTRIBUTING.md"].partition("## Pictures")
    rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("| `")]
    named = [name for pictures, _ in rows for name in re.findall(r"`([\w-]+\.png)`", pictures)]
    assert sorted(named) == sorted(files)
    assert [pictures for pictures, command in rows if "`" not in command] == []


@pytest.mark.parametrize("name", ["space_before", "space_attacked", "space_after", "app", "app-phone"])
def test_pictures_are_small(name: str) -> None:
    largest = 80_000 if name == "app" else 60_000  # a page of text and images
    assert 5_000 < (DOCS / f"{name}.png").stat().st_size < largest

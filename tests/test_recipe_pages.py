"""The pages of docs/recipes as they stand: every erasing command is right up to the download.

On small models they run in `test_page_commands.py`.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from sgrace.cli import main

from .test_documents import ROOT
from .test_page_commands import lines_of, write_files

PAGES = sorted(page for page in (ROOT / "docs" / "recipes").glob("*.md") if page.name != "README.md")
FAMILIES = 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_right_up_to_the_download(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert write_files(page) == ["words.txt", "prompts.csv"]
    erasing = [shlex.split(line.text)[1:] for line in lines_of(page) if line.text.startswith("sgrace erase")]
    assert len(erasing) == FAMILIES
    for args in erasing:
        result = CliRunner().invoke(main, args)
        assert result.exit_code != 0
        assert args[args.index("--model") + 1] in result.stderr.splitlines()[-1]

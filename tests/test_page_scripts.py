"""The other command lines of the pages: `python FILE`, `python -m MODULE` and `make TARGET`.

What takes seconds runs as it stands, in a folder with copies of the logs, and the tables that it prints are
those of its page. Of a line below ``<!-- not run: REASON -->``, or within a sentence, the program starts and
reads the options of the line; there it ends. Programs without options run to their end, or have own tests.
"""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest

from .test_documents import BLOCK, DOCUMENTS, ROOT, blocks, commands_of

SPAN = re.compile(r"`(python [^`\n]+)`")
#: Printed tables of these are in their page as they are; the others print more than their page shows.
SHOWN = ("study_cost", "claims")
#: Programs that read no options, and the tests that run them.
ELSEWHERE = {
    "python -m tests.golden check": "tests/golden/test_golden.py",
    "python -m tests.test_architecture": "tests/test_architecture.py",
}


class Line(NamedTuple):
    """A command line of a page."""

    page: Path
    text: str
    runs: bool  # to its end


def lines() -> list[Line]:
    """Distinct lines of Python, in blocks and in sentences."""
    found = []
    for page in DOCUMENTS:
        for block in blocks(page, "sh"):
            typed = [line for line in commands_of(block.text) if line.startswith("python ")]
            found += [Line(page, line, block.mark != "not run") for line in typed]
        sentences = BLOCK.sub("", page.read_text(encoding="utf-8"))
        found += [Line(page, match[1], runs=False) for match in SPAN.finditer(sentences)]
    found = [line for line in found if line.text not in ELSEWHERE]
    return list({line.text: line for line in sorted(found, key=lambda line: line.runs)}.values())


class Parsed(BaseException):
    """The options of a command line were read."""


def start(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the program of a command line within this process."""
    program, *arguments = shlex.split(text)[1:]
    if program == "-m":
        program, *arguments = arguments
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        runpy.run_module(program, run_name="__main__", alter_sys=True)
        return
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    monkeypatch.syspath_prepend(str((ROOT / program).parent))
    runpy.run_path(str(ROOT / program), run_name="__main__")


def stop_when_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs end when they have read their options."""
    parse = argparse.ArgumentParser.parse_args

    def stopped(*args: Any, **named: Any) -> NoReturn:
        parse(*args, **named)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stopped)


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in lines() if not line.runs], ids=lambda line: line.text)
def test_a_program_takes_the_options_of_a_line(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    stop_when_parsed(monkeypatch)
    try:
        start(line.text, monkeypatch)  # to its end, where a program has no options
    except Parsed:
        return
    assert len(line.text.split()) <= 3, "it read no options"


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A working folder with what the lines name: what is missing in a log would be run, and written there."""
    shutil.copytree(ROOT / "benchmarks" / "results", tmp_path / "benchmarks" / "results")
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)


def tables_of(text: str) -> list[str]:
    """Rows of tables."""
    return [row.rstrip() for row in text.splitlines() if row.startswith("|")]


@pytest.mark.slow
@pytest.mark.usefixtures("logs")
@pytest.mark.parametrize("line", [line for line in lines() if line.runs], ids=lambda line: line.text[:60])
def test_a_program_prints_the_tables_of_its_page(
    line: Line, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start(line.text, monkeypatch)
    printed = tables_of(capsys.readouterr().out)
    assert printed
    if any(name in line.text for name in SHOWN):
        shown = tables_of(line.page.read_text(encoding="utf-8"))
        assert [row for row in printed if row not in shown] == []


@pytest.mark.parametrize(
    "wrong",
    [
        "python benchmarks/speed.py --size emoji --turn 1.5",
        "python benchmarks/study_cost.py studies/main.yaml",
        "python examples/red_team.py shipped/erasure --strength 2",
        "python -m tests.study.kills --kill many",
        "python benchmarks/nowhere.py",
    ],
)
def test_a_wrong_line_is_found(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    stop_when_parsed(monkeypatch)
    with pytest.raises((SystemExit, FileNotFoundError)):
        start(wrong, monkeypatch)


def test_targets_of_make_exist() -> None:
    texts = [page.read_text(encoding="utf-8") for page in DOCUMENTS]
    named = {name for text in texts for name in re.findall(r"`make ([a-z-]+)`", text)}
    for page in DOCUMENTS:
        for block in blocks(page, "sh"):
            named |= {line.split()[1] for line in commands_of(block.text) if line.startswith("make ")}
    assert {"demo", "test", "site", "docs"} <= named
    for name in sorted(named):
        subprocess.run(["make", "--dry-run", name], cwd=ROOT, check=True, capture_output=True)


def test_extras_that_pages_install_exist() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    texts = [page.read_text(encoding="utf-8") for page in DOCUMENTS]
    named = {name for text in texts for name in re.findall(r"sgrace\[([\w,-]+)\]", text)}
    assert {extra for name in named for extra in name.split(",")} <= set(known)

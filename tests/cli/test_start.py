"""What is imported before a command says its first word, as Python itself reports it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

#: Packages that take from a tenth of a second to seconds to import.
HEAVY = {"torch", "numpy", "pydantic", "transformers", "diffusers", "scipy", "pandas", "matplotlib", "PIL"}
NETWORKS = {"transformers", "diffusers"}


class Started(NamedTuple):
    """What a run of Python printed and imported, in order."""

    code: int
    stdout: str
    stderr: list[str]

    def imported(self, before: str | None = None) -> set[str]:
        """Packages that were imported, before a line where one is given."""
        lines = self.stderr[: self.stderr.index(before)] if before else self.stderr
        names = [re.match(r"import time: .*\| *(\w+)$", line) for line in lines]
        return {found[1] for found in names if found}


def start(*arguments: str | Path) -> Started:
    """Run Python."""
    command = [sys.executable, "-X", "importtime", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return Started(done.returncode, done.stdout, done.stderr.splitlines())


def test_the_package_and_the_help_import_nothing_large() -> None:
    for arguments in (("-c", "import sgrace"), ("-m", "sgrace", "--help"), ("-m", "sgrace", "erase", "-h")):
        done = start(*arguments)
        assert done.code == 0
        assert "sgrace" in done.imported()
        assert not done.imported() & HEAVY


def test_the_verbs_need_torch_and_no_network_of_other_libraries() -> None:
    imported = start("-c", "import sgrace.api").imported()
    assert "torch" in imported
    assert not imported & (NETWORKS | {"scipy", "pandas", "matplotlib"})


def test_an_erasure_says_what_it_does_before_it_imports_torch(tmp_path: Path) -> None:
    missing = ("--words", tmp_path / "missing.txt")
    done = start("-m", "sgrace", "erase", "church", *missing, "-o", tmp_path / "out")
    assert done.code == 2
    assert "torch" in done.imported()
    assert "torch" not in done.imported(before="Erasing church with sgrace.")


@pytest.mark.parametrize("option", ["--quiet", "--json"])
def test_a_quiet_erasure_says_nothing(tmp_path: Path, option: str) -> None:
    done = start("-m", "sgrace", "erase", "church", "--preset", "publshed", option, "-o", tmp_path / "out")
    said = [line for line in done.stderr if not line.startswith("import time:")]
    assert (done.code, done.stdout, len(said)) == (2, "", 1)
    assert "did you mean 'published'" in said[0]
    assert "torch" not in done.imported(), "a slip of the keyboard costs no seconds"

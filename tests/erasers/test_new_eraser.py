"""A new eraser is one file and one line: those of ``docs/add-an-eraser.md`` pass the contract tests."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import sgrace.erasers
from sgrace._util import registry
from sgrace.cli.show import list_

from .cases import CASES, Case, settings
from .test_contract import PREDICTIONS, EraserContract, Run

PAGE = Path(__file__).parents[2] / "docs" / "add-an-eraser.md"
NAME = "redirect"


def code(page: str) -> list[str]:
    """The blocks of Python of a page."""
    return re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module", autouse=True)
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """The page's eraser in a folder of plug-ins of its own, and its line of the cases."""
    method, line = code(PAGE.read_text(encoding="utf-8"))
    folder = tmp_path_factory.mktemp("plug-ins")
    (folder / f"{NAME}.py").write_text(method, encoding="utf-8")
    sgrace.erasers.__path__.append(str(folder))
    importlib.invalidate_caches()
    (found,) = eval(f"({line})", {"Case": Case, "settings": settings})  # noqa: S307  (of this repository)
    yield found
    sgrace.erasers.__path__.remove(str(folder))
    sys.modules.pop(f"sgrace.erasers.{NAME}")
    delattr(sgrace.erasers, NAME)


class TestNewEraser(EraserContract):
    @pytest.fixture(scope="class", params=PREDICTIONS)
    @classmethod
    def run(cls, request: pytest.FixtureRequest, case: Case) -> Run:
        return Run(case, request.param)


def test_it_stands_beside_the_others(case: Case) -> None:
    assert case.name == NAME
    assert set(registry.names("erasers")) == {*CASES, NAME}
    rows = json.loads(CliRunner().invoke(list_, ["--matrix", "--json"], catch_exceptions=False).stdout)
    assert rows[NAME]["changes"] == "`text_kv`"
    assert rows[NAME]["needs"] == "gradients"

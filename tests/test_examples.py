"""The programs of ``examples/`` run, with small settings; the notebook's cells run in their order."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

import sgrace

from .test_documents import ROOT, run

EXAMPLES = ROOT / "examples"


def main_of(name: str) -> Callable[[Sequence[str]], None]:
    found: Callable[[Sequence[str]], None] = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]
    return found


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples") / "shipped"
    main_of("erase_and_ship")(["--steps", "2", "--out", str(folder)])
    return folder


def test_erase_and_ship(shipped: Path) -> None:
    assert sgrace.Erasure.from_pretrained(shipped / "erasure").names == "church"
    assert {"before_after.png", "pipeline"} <= {path.name for path in shipped.iterdir()}
    assert (shipped / "pipeline" / "model_index.json").is_file()


@pytest.mark.slow
def test_red_team(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main_of("red_team")([str(shipped / "erasure"), "--attacks", "--rows", "400"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["none", "more_seeds", "random_tokens", "any"]
    assert "n=12" in lines[-1]


@pytest.mark.slow
def test_strength(tmp_path: Path) -> None:
    table = tmp_path / "strength.csv"
    main_of("strength")(["--strengths", "0", "1", "--images", "2", "--steps", "5", "--out", str(table)])
    lines = [line.split(",") for line in table.read_text("utf-8").splitlines()]
    assert lines[0] == ["strength", "shows the concept", "neighbours right"]
    # the church is drawn at strength 0 and not at 1
    assert [line[:2] for line in lines[1:]] == [["0.0", "1.0"], ["1.0", "0.0"]]


@pytest.mark.slow
def test_the_notebook() -> None:
    book: dict[str, Any] = json.loads((EXAMPLES / "concept_space.ipynb").read_text("utf-8"))
    assert book["nbformat"] == 4
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in cells] == [[]] * len(cells), "outputs are made by whoever runs it"
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    module = type(runpy)("notebook")
    for cell in cells:
        run("".join(cell["source"]), module, f"concept_space.ipynb: {cell['id']}")
    names = vars(module)
    assert isinstance(names["picture"](names["after"], "after"), Figure)
    hits = {name: own.success.union.hits for name, own in names["found"].items()}
    assert hits["original"] > hits["erased"]


def test_every_example_has_a_test_and_a_line_in_the_documents() -> None:
    page = (ROOT / "docs" / "examples.md").read_text("utf-8")
    here = Path(__file__).read_text("utf-8")
    names = [path for path in EXAMPLES.iterdir() if path.suffix in {".py", ".ipynb"}]
    assert len(names) == 4
    assert [
        path.name for path in names if f"../examples/{path.name}" not in page or path.stem not in here
    ] == []

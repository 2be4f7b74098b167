"""What a run tells a tracker of experiments, read again as the tracker itself reads it."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sgrace._util.errors import InputError, InputWarning
from sgrace._util.files import write_json
from sgrace.study import Cell, Store
from sgrace.study.engine import inline
from sgrace.study.make.score import EVALUATION, VERDICTS
from sgrace.study.place import open_store
from sgrace.study.trackers import TRACKERS, reported, tracker_of

from ..report.made import attack_row, evaluation, kept
from .made import OPTIONS, cells

ROW = "church on emoji, smoke/uce/seed 0"
STUDY = "name: x\nsuite: smoke\nconcepts: [church]\nerasers: [uce]\nattacks: [none, ring_a_bell_soft]\n"


@pytest.fixture
def every(tmp_path: Path) -> list[Cell]:
    (tmp_path / "study.yaml").write_text(STUDY)
    return cells(tmp_path / "study.yaml")


@pytest.fixture
def done(every: list[Cell], tmp_path: Path) -> Store:
    """A study whose scoring found what is written here."""
    store = open_store(tmp_path / "out")
    row = attack_row("none", 1, 4)
    found = evaluation(row, retention=(kept("rest", 90, 48),), cost={"seconds": 2.5})
    for cell in every:
        with store.making(cell) as folder:
            if cell.kind == "score":
                (folder / EVALUATION).write_text(found.model_dump_json())
                marks = {"none": "1000", "ring_a_bell_soft": "1101"}
                verdicts = {name: [mark == "1" for mark in each] for name, each in marks.items()}
                write_json(folder / VERDICTS, verdicts)
    return store


def test_tensorboard_reads_what_was_done_and_found(every: list[Cell], done: Store, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    tracker = tracker_of("tensorboard", "tiny", tmp_path)
    assert len(list(reported(inline(every, done, OPTIONS), done, tracker))) == len(every)
    (run,) = (tmp_path / "tensorboard").iterdir()
    found: Any = EventAccumulator(str(run)).Reload()
    assert found.Tags()["images"] == []
    steps = [(each.step, each.value) for each in found.Scalars("cells/done")]
    assert steps == [(n, n) for n in range(1, len(every) + 1)]
    assert {each.value for each in found.Scalars("cells/failed")} == {0}
    tags = [tag for tag in found.Tags()["scalars"] if not tag.startswith("cells/")]
    assert {tag.removeprefix(f"{ROW}/"): found.Scalars(tag)[0].value for tag in tags} == {
        "shown/none": 0.25,
        "shown/ring_a_bell_soft": 0.75,
        "shown/worst by prompt": 0.25,
        "right/rest": 0.5,
        "seconds of erasing": 2.5,
    }


def test_a_failure_is_counted_and_a_run_that_is_stopped_is_closed(every: list[Cell], tmp_path: Path) -> None:
    class Told:
        """Keeps what it is told."""

        def __init__(self) -> None:
            self.rows: list[tuple[int, dict[str, float]]] = []
            self.closed = False

        def log(self, scalars: Any, step: int) -> None:
            self.rows.append((step, dict(scalars)))

        def close(self) -> None:
            self.closed = True

    store = open_store(tmp_path / "new")
    erasure = next(cell for cell in every if cell.kind == "erasure")
    needs_it = [cell for cell in every if erasure in cell.needs.values()]
    store.fail(erasure, "it was a bad day")
    told = Told()
    outcomes = reported(inline([erasure, *needs_it], store, OPTIONS), store, told)
    assert next(outcomes).status == "failed"
    assert next(outcomes).status == "blocked"
    outcomes.close()  # type: ignore[attr-defined]
    assert told.closed
    assert [(step, row["cells/failed"]) for step, row in told.rows] == [(1, 1), (2, 2)]


def test_a_tracker_that_fails_is_warned_of_once_and_stops_nothing(every: list[Cell], done: Store) -> None:
    class Gone:
        """Its server is."""

        def log(self, scalars: Mapping[str, float], step: int) -> None:
            raise ConnectionError(f"no answer to {step} of {len(scalars)}")

        def close(self) -> None:
            raise ConnectionError("no answer")

    with pytest.warns(InputWarning, match="no answer to 1") as warned:
        outcomes = list(reported(inline(every, done, OPTIONS), done, Gone()))
    assert len(outcomes) == len(every)
    assert len(warned) == 1


def test_wandb_keeps_the_run_in_the_folder(
    every: list[Cell], done: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    list(reported(inline(every, done, OPTIONS), done, tracker_of("wandb", "tiny", tmp_path)))
    wandb.teardown()  # its own process writes the file
    (run,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert b"shown/ring_a_bell_soft" in run.read_bytes()
    assert not [file for file in tmp_path.glob("wandb/**/*") if file.suffix in {".png", ".jpg", ".webp"}]


def test_trackio_keeps_the_run_on_the_machine(
    every: list[Cell], done: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = pytest.importorskip("trackio.sqlite_storage")
    monkeypatch.setattr(storage, "TRACKIO_DIR", tmp_path / "trackio")
    list(reported(inline(every, done, OPTIONS), done, tracker_of("trackio", "tiny", tmp_path)))
    (file,) = (tmp_path / "trackio").glob("sgrace*.db")
    with sqlite3.connect(file) as database:
        rows = [json.loads(text) for (text,) in database.execute("SELECT metrics FROM metrics ORDER BY step")]
    assert [row["cells/done"] for row in rows] == list(range(1, len(every) + 1))
    assert rows[-1][f"{ROW}/shown/ring_a_bell_soft"] == 0.75


def test_a_tracker_that_is_not_installed_is_named(tmp_path: Path) -> None:
    missing = [name for name in TRACKERS if importlib.util.find_spec(name) is None]
    if not missing:
        pytest.skip("all of them are installed")
    with pytest.raises(InputError, match=f"pip install {missing[0]}"):
        tracker_of(missing[0], "tiny", tmp_path)

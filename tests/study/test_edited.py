"""Stores that someone has edited: what is wrong is told in a sentence, and no file is written elsewhere."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sgrace._util.errors import InputError
from sgrace.cli import main
from sgrace.study import Cell
from sgrace.study.engine import attempt
from sgrace.study.place import open_store
from sgrace.study.remote import RemoteStore
from sgrace.study.store import FAILURES, MANIFEST, Store

from .made import OPTIONS


def made(store: Store, cell: Cell) -> Store:
    """The store with a cell of one small file."""
    with store.making(cell) as folder:
        (folder / "file").write_text("x")
    return store


def at_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteStore:
    """A store behind a URL that nobody has read yet; what is read of it lies in ``cache``."""
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "cache"))
    store = open_store(f"memory://{tmp_path.name}/study")
    assert isinstance(store, RemoteStore)
    return store


def edit(store: RemoteStore, cell: Cell, text: str) -> None:
    store.files.pipe_file(f"{store.place(cell)}/{MANIFEST}", text.encode())


@pytest.mark.parametrize("name", ["../../../stolen", "/stolen", "C:/stolen", "..\\stolen", ".", "a\0b"])
def test_a_manifest_names_no_file_outside_its_cell(
    every: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    cell = every[0]
    store = at_url(tmp_path, monkeypatch)
    made(store, cell)
    record = store.manifest(cell)
    source = f"{store.place(cell)}/{record['files']}"
    store.files.pipe_file(f"{source}/{name}", b"x")
    edit(store, cell, json.dumps({**record, "sha256": {name: ""}}))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="outside the cell's folder"):
        store.path(cell)
    assert sorted(tmp_path.rglob("*")) == before
    assert store.changed(cell) == [MANIFEST]


@pytest.mark.parametrize("text", ["{}", "[]", "{", "[" * 100_000, '{"files": "../.."}'])
def test_a_manifest_behind_a_url_that_is_none_is_told(
    file: Path, every: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    cell = every[0]
    store = at_url(tmp_path, monkeypatch)
    made(store, cell)
    edit(store, cell, text)
    found = CliRunner().invoke(main, ["study", "verify", str(file), "-o", store.url])
    assert found.exit_code == 1
    assert f"({store.place(cell)}): {MANIFEST}" in found.output
    assert list(store.manifests()) == []


@pytest.mark.parametrize(
    "change",
    [
        [],
        {"kind": None},
        {"config": []},
        {"config": {"model": []}},
        {"seconds": "x"},
        {"bytes": 10**400},
        {"peak_memory_mb": -1},
    ],
)
def test_a_manifest_that_is_none_costs_nothing(
    file: Path, every: list[Cell], tmp_path: Path, change: dict[str, Any] | list[Any]
) -> None:
    cell = every[0]
    store = made(open_store(tmp_path / "out"), cell)
    record = store.path(cell) / MANIFEST
    known = json.loads(record.read_text())
    record.write_text(json.dumps({**known, **change} if isinstance(change, dict) else change))
    found = CliRunner().invoke(main, ["study", "plan", str(file), "-o", str(store.folder)])
    assert found.exit_code == 0, found.output
    assert f"{len(every) - 1} cells are missing" in found.output
    assert store.changed(cell) == [MANIFEST]


@pytest.mark.parametrize("text", ["[]", "{}", "{", '{"reason": []}'])
def test_a_note_on_a_failure_that_is_none_is_still_a_failure(
    every: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    local, remote = open_store(tmp_path / "out"), at_url(tmp_path, monkeypatch)
    for store in (local, remote):
        store.fail(every[0], "it was a bad day")
    (local.folder / FAILURES / f"{every[0].id}.json").write_text(text)
    remote.files.pipe_file(f"{remote.url}/{FAILURES}/{every[0].id}.json", text.encode())
    for store in (local, remote):
        found = attempt(every[0], store, OPTIONS)
        assert (found.status, found.why) == ("failed", "the note on it cannot be read")

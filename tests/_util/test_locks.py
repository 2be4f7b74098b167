"""Two processes in one place: the second is refused, and a killed one stands in nobody's way."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from sgrace._util.errors import InputError
from sgrace._util.files import atomic_file, new_file, write_json
from sgrace._util.folders import check_resumable_folder, new_folder, resumable_folder

Make = Callable[[Path], AbstractContextManager[Path]]
FOLDERS: dict[str, Make] = {
    "new": new_folder,
    "resumable": lambda path: resumable_folder(path, {"seed": 0}),
}


def hold(make: Make, path: Path, ready: Connection) -> None:
    """Be at work until it is killed."""
    with make(path) as place:
        (place / "piece" if place.is_dir() else place).write_text("half of it")
        ready.send("at work")
        signal.pause()


@pytest.fixture
def at_work() -> Callable[[Make, Path], multiprocessing.Process]:
    """Starts a process that is in the middle of writing."""
    context = multiprocessing.get_context("fork")

    def start(make: Make, path: Path) -> multiprocessing.Process:
        here, there = context.Pipe()
        process = context.Process(target=hold, args=(make, path, there), daemon=True)
        process.start()
        assert here.recv() == "at work"
        return process  # type: ignore[return-value]  # one kind of process

    return start


def kill(process: multiprocessing.Process) -> None:
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()


@pytest.mark.parametrize("kind", FOLDERS)
def test_the_second_process_is_refused_and_takes_nothing_away(
    tmp_path: Path, kind: str, at_work: Callable[[Make, Path], multiprocessing.Process]
) -> None:
    make, out = FOLDERS[kind], tmp_path / "a" / "out"
    first = at_work(make, out)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert b"half of it" in before.values()
    with pytest.raises(InputError, match=r"Another process is writing .*out; wait for it"), make(out):
        pass
    if kind == "resumable":
        with pytest.raises(InputError, match="Another process"):
            check_resumable_folder(out)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    kill(first)
    with make(out) as place:
        (place / "piece").write_text("all of it")
    assert (out / "piece").read_text() == "all of it"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("make", [new_file, atomic_file])
def test_two_files_of_the_same_name_do_not_mix(
    tmp_path: Path, make: Make, at_work: Callable[[Make, Path], multiprocessing.Process]
) -> None:
    out = tmp_path / "out[1].json"  # no pattern
    first = at_work(make, out)
    write_json(out, {"whole": True})
    assert out.read_text() == '{\n  "whole": true\n}\n'
    assert len(list(tmp_path.iterdir())) == 2, "what the other one writes is left alone"
    kill(first)
    write_json(out, {"whole": True})
    assert list(tmp_path.iterdir()) == [out], "what a killed one left is removed"

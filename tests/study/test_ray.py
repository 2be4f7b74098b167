"""The study ``smoke`` that ships, inline and on Ray: the same results, whatever is killed when."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sgrace._util.errors import InputError
from sgrace.study import Cell, Store
from sgrace.study.engine import inline
from sgrace.study.place import open_store
from sgrace.study.ray_engine import on_ray
from sgrace.study.store import PARTIAL

from .made import OPTIONS, SMOKE, cells, results

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def every() -> list[Cell]:
    return cells(SMOKE)


@pytest.fixture(scope="module")
def done(every: list[Cell], tmp_path_factory: pytest.TempPathFactory) -> Store:
    """An undisturbed run in one process."""
    store = open_store(tmp_path_factory.mktemp("home") / "out")
    assert all(outcome.status == "made" for outcome in inline(every, store, OPTIONS))
    return store


@pytest.fixture(scope="module")
def wanted(every: list[Cell], done: Store) -> dict[str, dict[str, str]]:
    """What it leaves."""
    return results(done, every)


def test_ray_makes_the_same_whatever_worker_is_lost(
    every: list[Cell], wanted: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    store = open_store(tmp_path / "out")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        outcomes = on_ray(every, store, OPTIONS)
        found = [next(outcomes)]
        # workers that are lost are replaced, and their cells made again
        for worker in workers():
            os.kill(worker, signal.SIGKILL)
        found += outcomes
        assert {outcome.status for outcome in found} <= {"made", "finished"}, [
            outcome.why for outcome in found
        ]
        assert results(store, every) == wanted
        assert {outcome.status for outcome in on_ray(every, store, OPTIONS)} == {"finished"}
    finally:
        ray.shutdown()


def workers() -> list[int]:
    """Processes of Ray that make cells."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], check=True, capture_output=True, text=True).stdout
    rows = [line.split(maxsplit=1) for line in listed.splitlines()]
    return [int(pid) for pid, args in rows if args.startswith("ray::_attempt")]


def test_a_driver_that_is_killed_loses_nothing(
    every: list[Cell], done: Store, wanted: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    """SIGKILL in the first cell and then in the third; the rest is made, and all is as undisturbed."""
    rng = random.Random(0)
    out = tmp_path / "out"
    shutil.copytree(done.folder, out)
    for kind in ("attack", "score"):
        shutil.rmtree(out / "cells" / kind)
    command = [sys.executable, "-m", "sgrace", "study", "run", SMOKE, "-o", out, "--device", "cpu", "-q"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for cell in (1, 3):
        process = subprocess.Popen([str(part) for part in command], env=environment)
        begun: set[Path] = set()
        while len(begun) < cell and process.poll() is None:
            time.sleep(0.001)
            begun.update((out / PARTIAL).glob(f"*-{process.pid}-*"))
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    store = open_store(out)
    before = results(store, every)
    assert before
    assert all(wanted[name] == found for name, found in before.items()), "what is finished is whole"
    assert all(outcome.status in {"made", "finished"} for outcome in inline(every, store, OPTIONS))
    assert results(store, every) == wanted
    assert not list((out / "partial").iterdir())


def test_a_cluster_that_is_not_there_is_told(every: list[Cell], tmp_path: Path) -> None:
    store = open_store(tmp_path / "out")
    with pytest.raises(InputError, match=r"no Ray cluster at 'auto'"):
        list(on_ray(every, store, OPTIONS, address="auto"))

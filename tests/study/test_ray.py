"""The study ``smoke`` that ships, inline and on Ray: the same results, though a machine is lost meanwhile."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from sgrace._util.errors import InputError
from sgrace.study import Cell
from sgrace.study.engine import inline
from sgrace.study.place import open_store
from sgrace.study.ray_engine import _outcome, on_ray

from .made import OPTIONS, SMOKE, cells, results

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def every() -> list[Cell]:
    return cells(SMOKE)


def test_ray_makes_the_same_as_one_process_though_a_machine_is_lost(
    every: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes of a cluster on this machine, one of which is killed in the first cells.

    The cluster is found as a job within one finds it: by ``auto`` and the variable that Ray sets there.
    """
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    alone, store = open_store(tmp_path / "alone"), open_store(tmp_path / "out")
    assert all(outcome.status == "made" for outcome in inline(every, alone, OPTIONS))
    node: dict[str, Any] = {
        "num_cpus": 1,
        "object_store_memory": 100 * 2**20,
        "include_dashboard": False,
    }
    cluster: Any = Cluster(initialize_head=True, head_node_args=node)
    try:
        lost = cluster.add_node(**node)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        outcomes = on_ray(every, store, OPTIONS, address="auto")
        found = [next(outcomes)]
        cluster.remove_node(lost, allow_graceful=False)
        found += outcomes
    finally:
        cluster.shutdown()
    # a cell that was ready when its node was lost is made again, and found
    assert {outcome.status for outcome in found} <= {"made", "finished"}, [o.why for o in found]
    assert results(store, every) == results(alone, every)


@pytest.mark.parametrize(
    ("error", "lost", "needs_it"),
    [
        ("WorkerCrashedError", "its process was lost 4 times", "it needs: uce, church, seed 0"),
        ("LocalRayletDiedError", "Ray's own process on this machine", "the same command again goes on"),
    ],
)
def test_a_cell_that_is_lost_is_told_and_so_is_what_needs_it(
    every: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, lost: str, needs_it: str
) -> None:
    def get(_: object) -> None:
        raise getattr(ray.exceptions, error)

    monkeypatch.setattr(ray, "get", get)
    store = open_store(tmp_path / "out")
    erasure = next(cell for cell in every if cell.kind == "erasure")
    attack = next(cell for cell in every if erasure in cell.needs.values())
    for cell, why in ((erasure, lost), (attack, needs_it)):
        try:
            found = _outcome(None, cell, store).why
        except InputError as refused:
            found = str(refused)
        assert why in found


def test_a_cluster_that_is_not_there_is_told(every: list[Cell], tmp_path: Path) -> None:
    store = open_store(tmp_path / "out")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(InputError, match=rf"no Ray cluster at '127.0.0.1:{port}'"):
        list(on_ray(every, store, OPTIONS, address=f"127.0.0.1:{port}"))

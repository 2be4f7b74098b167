"""The study ``smoke`` that ships, inline and on Ray: the same results, though a machine is lost meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest

from sgrace._util.errors import InputError, InputWarning
from sgrace.study import Cell, Store, ray_engine
from sgrace.study.engine import Outcome, blocked, inline
from sgrace.study.estimate import estimate
from sgrace.study.place import open_store
from sgrace.study.ray_engine import on_ray

from .kills import _descendants
from .made import OPTIONS, SMOKE, cells, results, write_study

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.slow


def makers() -> set[int]:
    """Processes of this machine that make cells."""
    return {each.pid for each in _descendants(os.getpid()) if each.command.startswith("ray::_Maker")}


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
        monkeypatch.setattr(ray_engine, "GRACE", 2)
        outcomes = on_ray(every, store, OPTIONS, address="auto")
        found = [next(outcomes)]
        cluster.remove_node(lost, allow_graceful=False)
        found += outcomes
    finally:
        cluster.shutdown()
    # a cell that was ready when its node was lost is made again, and found
    assert {outcome.status for outcome in found} <= {"made", "finished"}, [o.why for o in found]
    assert results(store, every) == results(alone, every)


def test_cells_on_gpus_share_processes_that_keep_the_model(tmp_path: Path) -> None:
    """As many as the machine has room for; the GPU is in Ray's books only."""
    every = cells(write_study(tmp_path, erasers=["uce"], seeds=[0, 1]))
    store = open_store(tmp_path / "out")
    ray.init("local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    seen: set[int] = set()
    try:
        for outcome in on_ray(every, store, OPTIONS, num_cpus=0.5, num_gpus=0.5):
            assert outcome.status == "made", outcome.why
            seen |= makers()
    finally:
        ray.shutdown()
    assert len(seen) == 2


def test_a_machine_without_room_for_a_cell_is_told(
    every: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a cluster was killed too, whose address Ray would wait for."""
    # the path of a socket in it has at most 107 bytes
    with tempfile.TemporaryDirectory(prefix="ray") as short:
        monkeypatch.setenv("RAY_TMPDIR", short)
        (Path(short) / "ray").mkdir()
        (Path(short) / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
        with pytest.raises(InputError, match="no room for a cell with --cpus 1 --gpus 99"):
            list(on_ray(every, open_store(tmp_path / "out"), OPTIONS, num_gpus=99))


def test_a_cluster_that_waits_for_a_larger_machine_says_so(every: list[Cell], tmp_path: Path) -> None:
    """Two machines of one processor have room for no cell that needs two."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster: Any = Cluster(
        initialize_head=True, head_node_args={**node, "include_dashboard": False}, shutdown_at_exit=False
    )
    try:
        cluster.add_node(**node)
        cluster.wait_for_nodes()
        outcomes = on_ray(every, open_store(tmp_path / "out"), OPTIONS, address=cluster.address, num_cpus=2)
        with warnings.catch_warnings():
            warnings.simplefilter("error", InputWarning)
            with pytest.raises(InputWarning, match=r"No machine .* room for a cell with --cpus 2 --gpus 0"):
                next(outcomes)
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_a_process_gets_the_memory_that_earlier_cells_took(tmp_path: Path) -> None:
    """Two fit on the processors; of the memory that the first run needed there is enough for one."""
    every = cells(write_study(tmp_path, erasers=["uce"], seeds=[0, 1, 2]))
    store = open_store(tmp_path / "out")
    assert all(outcome.status == "made" for outcome in inline(every[:4], store, OPTIONS))
    peak = max(store.manifest(cell)["peak_memory_mb"] for cell in every[:4])
    assert estimate(every[4:], store.manifests()).memory_mb == peak
    ray.init(
        "local", num_cpus=2, _memory=int(1.5 * peak * 2**20), include_dashboard=False, log_to_driver=False
    )
    seen: set[int] = set()
    least = ray.available_resources()["memory"]
    try:
        for outcome in on_ray(every, store, OPTIONS):
            assert outcome.status in {"made", "finished"}, outcome.why
            seen |= makers()
            least = min(least, ray.available_resources().get("memory", 0))
    finally:
        ray.shutdown()
    assert len(seen) == 1
    assert least <= 0.5 * peak * 2**20, "Ray itself counts the memory, machine by machine"
    with pytest.raises(InputError, match="no room for a cell with --cpus 1 --gpus 0 --memory 99999999"):
        list(on_ray(every, store, OPTIONS, memory_mb=99999999))


def test_a_cell_that_ends_every_process_fails_and_blocks_what_needs_it(
    every: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Maker:  # within the test: Ray sends its code along
        def make(self, cell: Cell, store: Store, *_: object) -> Outcome:
            if cell.kind == "erasure":
                os.kill(os.getpid(), signal.SIGKILL)
            return blocked(cell, store) or Outcome(cell, "made")

    monkeypatch.setattr(ray_engine, "_Maker", Maker)
    monkeypatch.setattr(ray_engine, "RETRIES", 1)
    outcomes = list(on_ray(every, open_store(tmp_path / "out"), OPTIONS))
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    assert [outcome.cell.kind for outcome in failed] == ["erasure"]
    assert failed[0].why == "ActorDiedError: its process was lost 2 times"
    stopped = [outcome for outcome in outcomes if outcome.cell.needs.get("erasure") == failed[0].cell]
    assert stopped
    assert {outcome.why for outcome in stopped} == {f"it needs: {failed[0].cell.title}"}


def test_nothing_goes_on_without_ray_itself(every: list[Cell]) -> None:
    with pytest.raises(InputError, match=r"raylet.* was lost, .* the same command again goes on"):
        ray_engine._lost(ray.exceptions.LocalRayletDiedError(), every[0])


def test_a_cluster_that_is_not_there_is_told(
    every: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "out")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(InputError, match=rf"no Ray cluster at '127.0.0.1:{port}'"):
        list(on_ray(every, store, OPTIONS, address=f"127.0.0.1:{port}"))
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(InputError, match=rf"no Ray cluster at '127.0.0.1:{port}'"):
        list(on_ray(every, store, OPTIONS))


def test_a_cluster_that_asks_for_a_token_is_told(
    every: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}", "--block"]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    head = subprocess.Popen(
        [*command, "--num-cpus=1", "--include-dashboard=false"],
        env={**os.environ, **token},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    monkeypatch.setattr("ray._private.ray_constants.NUM_REDIS_GET_RETRIES", 1)
    try:
        assert head.stdout is not None
        assert any("Ray runtime started" in line for line in head.stdout)
        with pytest.raises(InputError, match="asks for its token: set RAY_AUTH_MODE=token"):
            list(on_ray(every, open_store(tmp_path / "out"), OPTIONS, address=f"127.0.0.1:{port}"))
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        head.wait()

"""A study in an object store: a server of the S3 protocol on this machine, and s3fs in front of it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgrace._util.errors import InputError
from sgrace.study import Cell
from sgrace.study.engine import inline, sharded
from sgrace.study.place import find_store, open_store
from sgrace.study.remote import RemoteStore
from sgrace.study.store import MANIFEST

from .made import OPTIONS, results

s3fs = pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URL of an empty bucket; the server is found by the variables that all clients of S3 read."""
    with pytest.MonkeyPatch.context() as patch:
        server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        try:
            host, port = server.get_host_and_port()
            patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
            patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            s3fs.S3FileSystem.clear_instance_cache()  # other tests had one without keys
            name = uuid.uuid4().hex  # no cache of this machine knows it
            s3fs.S3FileSystem().mkdir(name)
            yield f"s3://{name}"
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
            server.stop()


@pytest.fixture(scope="module")
def alone(every: list[Cell], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What the cells hold that one process made in a folder."""
    store = open_store(tmp_path_factory.mktemp("home") / "out")
    assert {outcome.status for outcome in inline(every, store, OPTIONS)} == {"made"}
    return without_manifests(results(store, every))


def without_manifests(found: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Those of an object store also name the folder of the cell's files."""
    return {
        cell: {name: digest for name, digest in digests.items() if name != MANIFEST}
        for cell, digests in found.items()
    }


def elsewhere(url: str) -> RemoteStore:
    """The store as another machine sees it, which has read nothing of it yet."""
    store = find_store(url)
    assert isinstance(store, RemoteStore)
    shutil.rmtree(store.folder, ignore_errors=True)
    return store


def finished(store: RemoteStore) -> int:
    """Manifests at the URL; clients keep listings, which another process makes stale."""
    store.files.invalidate_cache()
    return len(list(store.manifests()))


def run(file: Path, url: str) -> subprocess.Popen[str]:
    """A driver with a cache of its own, as on another machine."""
    cache = file.parent / f"machine-{len(list(file.parent.iterdir()))}"
    cache.mkdir()
    command = [sys.executable, "-m", "sgrace", "study", "run", str(file), "-o", url, "--device", "cpu"]
    return subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(cache)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_shards_share_a_study(every: list[Cell], alone: dict[str, dict[str, str]], bucket: str) -> None:
    url = f"{bucket}/shards"
    made: list[str] = []
    for part in (1, 2, 1, 2):  # what a part needs of the other is there when it runs again
        store = open_store(url)
        outcomes = list(inline(sharded(every, (part, 2)), store, OPTIONS))
        made += [outcome.cell.id for outcome in outcomes if outcome.status == "made"]
        elsewhere(url)
    assert sorted(made) == sorted(cell.id for cell in every)
    store = elsewhere(url)
    assert without_manifests(results(store, every)) == alone
    assert all(store.changed(cell) == [] for cell in every)


def test_a_damaged_cell_is_made_again_also_where_the_damage_was_read(
    every: list[Cell], alone: dict[str, dict[str, str]], bucket: str
) -> None:
    url = f"{bucket}/damage"
    store = open_store(url)
    assert isinstance(store, RemoteStore)
    assert {outcome.status for outcome in inline(every, store, OPTIONS)} == {"made"}
    cell = every[0]
    for read in (store.changed, store.path):  # one looks for damage
        files = [path for path in store.files.find(url) if cell.id in path and MANIFEST not in path]
        store.files.pipe_file(files[0], b"other")
        shutil.rmtree(store.path(cell))
        read(cell)
        store.files.rm_file(f"{url}/cells/{cell.kind}/{cell.id}/{MANIFEST}")
        assert {outcome.status for outcome in inline(every, store, OPTIONS)} == {"made", "finished"}
        assert without_manifests(results(store, every)) == alone
        assert store.changed(cell) == []


def test_a_killed_driver_and_two_at_once_end_in_the_same(
    file: Path, every: list[Cell], alone: dict[str, dict[str, str]], bucket: str
) -> None:
    url = f"{bucket}/drivers"
    store = open_store(url)
    assert isinstance(store, RemoteStore)
    first = run(file, url)
    while not finished(store):
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert finished(store) < len(every)

    both = [run(file, url), run(file, url)]
    for each in both:
        told, _ = each.communicate()
        assert each.returncode == 0, told
    assert finished(store) == len(every)
    assert without_manifests(results(elsewhere(url), every)) == alone


def test_a_bucket_that_is_missing_is_told_and_not_made(bucket: str) -> None:
    with pytest.raises(InputError, match=r"Cannot write s3://nobodys/study: there is no bucket nobodys\."):
        open_store("s3://nobodys/study")
    assert not s3fs.S3FileSystem().exists("nobodys")
    with pytest.raises(InputError, match="holds no study"):
        find_store(f"{bucket}/nothing")


def test_a_server_that_does_not_answer_is_no_missing_bucket(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(InputError, match=r"Cannot write .*Could not connect"):
            open_store(f"{bucket}/study")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()

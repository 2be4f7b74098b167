"""Folders and files appear whole or not at all, whatever goes wrong on the way."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from sgrace._util import places
from sgrace._util.errors import InputError
from sgrace._util.files import atomic_file, check_new_file, new_file, write_json
from sgrace._util.folders import check_new_folder, check_room, new_folder, resumable_folder

BAD_PATHS = {
    "300 characters": "x" * 300,
    "300 characters in a parent": f"a/{'x' * 300}/out",
    "5,000 characters": "x/" * 2500,
    "no room for the hidden name": f"{'x' * 232}.safetensors",
    "dangling link": "dangling",
    "under a dangling link": "dangling/out",
    "under /proc": "/proc/sgrace/out",
    "under a device": "/dev/null/out",
    "device": "/dev/null",
    "file": "file",
    "under a file": "file/a/out",
    "null character": "a/\0",
    "full": "full",
}


@pytest.mark.parametrize("name", BAD_PATHS)
def test_a_path_that_cannot_be_made_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    path = tmp_path / BAD_PATHS[name]
    before = sorted(tmp_path.rglob("*"))
    worked = False
    for check in (check_new_folder, check_new_file):
        with pytest.raises(InputError) as error:
            check(path)
        assert len(str(error.value)) < 300
        assert str(error.value).isprintable()
    for make in (new_folder, new_file, lambda p: resumable_folder(p, {})):
        with pytest.raises(InputError), make(path):
            worked = True
    assert not worked
    assert sorted(tmp_path.rglob("*")) == before


def test_the_check_writes_through_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / ".out.probe").symlink_to("victim")
    check_new_folder(tmp_path / "out")
    # even one at the very place that is tried
    (tmp_path / ".out.taken").symlink_to("victim")
    monkeypatch.setattr(places, "passing", lambda path: places.hidden(path, "taken"))
    with pytest.raises(InputError, match="File exists"):
        check_new_file(tmp_path / "out")
    assert (tmp_path / "victim").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        check_new_folder(tmp_path / "a" / "out")
    tmp_path.chmod(0o700)


def test_a_new_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "out"
    with new_folder(out) as partial:
        (partial / "weights").write_text("x")
        assert not out.exists()
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    assert (out / "weights").read_text() == "x"


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("make", [new_folder, new_file, lambda path: resumable_folder(path, {"seed": 0})])
def test_a_block_that_fails_leaves_nothing_not_even_parents(
    tmp_path: Path, make: Callable[[Path], AbstractContextManager[Path]], failure: type[BaseException]
) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(failure), make(tmp_path / "a" / "b" / "c" / "out"):
        raise failure
    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]


def fill(partial: Path, *, failing: bool = False) -> None:
    (partial / "weights").write_text("x")
    if failing:
        raise RuntimeError


def write_to_a_full_disk(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.symlink_to("/dev/full")  # every write to it fails as on a full disk
    file.write_text("x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    with (
        pytest.raises(InputError, match=r"Cannot write .*out: No space left on device"),
        new_folder(out) as partial,
    ):
        write_to_a_full_disk(partial / "weights")
    with (
        pytest.raises(InputError, match="No space left on device"),
        atomic_file(tmp_path / "file") as partial,
    ):
        write_to_a_full_disk(partial)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_told(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "a" / "b"):
        check_room(path, 0)
        with pytest.raises(InputError, match=r"about 1,000,000,000,000\.0 MB will be saved, but its"):
            check_room(path, 10**18)
    assert list(tmp_path.iterdir()) == []


def test_finished_work_is_kept_if_only_its_name_is_taken(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def finish_too_late(partial: Path) -> None:
        fill(partial)
        out.mkdir()
        (out / "other").write_text("somebody else's")

    with (
        pytest.raises(InputError, match=r"finished result is in .*\.out\.partial/out"),
        new_folder(out) as partial,
    ):
        finish_too_late(partial)
    assert (tmp_path / ".out.partial" / "out" / "weights").read_text() == "x"
    assert [p.name for p in out.iterdir()] == ["other"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".out.partial" / "out").mkdir(parents=True)
    (tmp_path / ".out.partial" / "out" / "half").write_text("x")
    with new_folder(tmp_path / "out") as partial:
        fill(partial)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["out", "weights"]


@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "folder"])
def test_what_somebody_else_has_at_the_hidden_name_stays(tmp_path: Path, kind: str) -> None:
    theirs = tmp_path / ".out.partial"
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "mine").write_text("mine")
    make: dict[str, Callable[[], object]] = {
        "file": lambda: theirs.write_text("mine"),
        "link": lambda: theirs.symlink_to("else"),
        "folder": lambda: (tmp_path / "else").rename(theirs),
        "dangling link": lambda: theirs.symlink_to("nowhere"),
    }
    make[kind]()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"\.out\.partial is in the way"), new_folder(tmp_path / "out"):
        pass
    assert sorted(tmp_path.rglob("*")) == before


REQUEST = {
    "seed": 0,
    "limits": {"seconds": math.inf},
    "prompts": [["church", 5]],
    "detector": {"threshold": 0.5},
}


def test_the_same_request_goes_on_and_another_is_told_by_its_fields(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for round_ in range(2):
        with resumable_folder(out, REQUEST) as folder:
            (folder / f"piece{round_}").write_text("x")
    other = {**REQUEST, "seed": 9, "detector": {"threshold": 0.7}}
    told = r"detector.threshold differs \(0.5, now 0.7\), seed differs \(0, now 9\);"
    with pytest.raises(InputError, match=told), resumable_folder(out, other):
        pass
    long = {**REQUEST, "prompts": [["church" * 99, 5]]}
    with pytest.raises(InputError, match="another request: prompts differs;"), resumable_folder(out, long):
        pass
    assert {p.name for p in out.iterdir()} == {"request.json", "piece0", "piece1"}


def test_finished_pieces_are_kept_when_a_later_one_fails(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    with pytest.raises(RuntimeError), resumable_folder(out, REQUEST) as folder:
        fill(folder, failing=True)
    with pytest.raises(RuntimeError), resumable_folder(out, REQUEST):
        raise RuntimeError
    assert (out / "weights").read_text() == "x"


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00\x01", b"", b"[1, 2", b"[" * 100_000, b'"text"', b"[]", b"{}"],
    ids=["binary", "empty", "cut", "deep", "text", "list", "other"],
)
def test_a_request_that_was_tampered_with_is_told(tmp_path: Path, content: bytes) -> None:
    with resumable_folder(tmp_path / "out", REQUEST) as folder:
        (folder / "piece").write_text("x")
    (tmp_path / "out" / "request.json").write_bytes(content)
    with pytest.raises(InputError, match="request"), resumable_folder(tmp_path / "out", REQUEST):
        pass
    assert (tmp_path / "out" / "piece").exists()


def test_json_has_no_infinities(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    value = {"inf": math.inf, "nested": [(-math.inf, {"nan": math.nan})], "one": 1.5, "none": None}
    write_json(tmp_path / "file.json", value)
    found = json.loads((tmp_path / "file.json").read_text(), parse_constant=refuse)
    assert found == {"inf": None, "nested": [[None, {"nan": None}]], "one": 1.5, "none": None}


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "file.json", object())
    with pytest.raises(TypeError), atomic_file(tmp_path / "file.json") as partial:
        partial.write_text(object())  # type: ignore[arg-type]  # a wrong type on purpose
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file.json", "1\n")]

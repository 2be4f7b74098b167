"""Every command that writes, where it cannot: a read-only disk, a full one, and two processes at once."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from sgrace._util import places

from ..study.made import digests
from .commands import COMMANDS, LONG, ends_with, in_background
from .conftest import Home, assert_refused, sgrace

pytestmark = pytest.mark.slow
Disk = Callable[[str], AbstractContextManager[Path]]


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """Makes disks, by the options of ``mount``."""

    @contextmanager
    def mounted(options: str) -> Iterator[Path]:
        place = tmp_path / "disk"
        place.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("only root can mount a disk")
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)

    return mounted


@pytest.mark.parametrize("name", COMMANDS)
def test_a_read_only_disk_is_refused(name: str, home: Home, disk: Disk) -> None:
    with disk("ro") as place:
        assert_refused(sgrace(*COMMANDS[name](home, place / "a" / "out")), "Read-only file system")


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_fills_up_is_one_sentence_and_nothing_finished_is_lost(
    name: str, home: Home, disk: Disk, tmp_path: Path
) -> None:
    command = COMMANDS[name]
    assert sgrace(*command(home, tmp_path / "whole" / "out")).exit_code == 0
    whole = digests(tmp_path / "whole")
    need = size(tmp_path / "whole")
    with disk(f"size={max(8192, int(0.6 * need))}") as place:
        done = sgrace(*command(home, place / "out"))
        if done.exit_code == 1:  # a study goes on with its other cells, and lists those that failed
            assert "space left on device" in done.output
        elif done.exit_code:
            assert_refused(done)
            assert re.search("No space left on device| MB left", done.stderr), done.stderr
        found = digests(place)
        assert found.keys() <= whole.keys() | {"out/request.json"}, "nothing half-made is left"
        assert all(whole[file] == digest for file, digest in found.items())
        # with room, the same command goes on where it stopped
        subprocess.run(["mount", "-o", "remount,size=1g", place], check=True)
        if done.exit_code:
            again = sgrace(*command(home, place / "out"))
            assert again.exit_code == 0, again.output
        assert digests(place) == whole


@pytest.mark.parametrize("name", LONG)
def test_two_processes_in_one_place_end_in_the_files_of_one(name: str, home: Home, tmp_path: Path) -> None:
    command = LONG[name](home, tmp_path / "both" / "out")
    said = [tmp_path / "first.txt", tmp_path / "second.txt"]
    codes = [ends_with(process) for process in [in_background(command, file) for file in said]]
    assert sorted(codes) in ([0, 0], [0, 2]), [file.read_text() for file in said]
    if 2 in codes:
        sentence = said[codes.index(2)].read_text()
        assert "Another process is writing" in sentence or "is not empty" in sentence, sentence
    assert sgrace(*LONG[name](home, tmp_path / "alone" / "out")).exit_code == 0
    assert digests(tmp_path / "both") == digests(tmp_path / "alone")


def test_parents_that_another_process_takes_away_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = places._probe
    gone: list[Path] = []

    def taken_away(file: Path) -> None:
        if not gone:
            gone.append(file.parent)
            file.parent.rmdir()
        probe(file)

    monkeypatch.setattr(places, "_probe", taken_away)
    assert places.check_writable(tmp_path / "both" / "out") == tmp_path / "both" / "out"
    assert gone == [tmp_path / "both"]
    assert not (tmp_path / "both").exists()

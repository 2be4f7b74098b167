"""Kills of a study's processes: nothing that is made is spoiled, and nothing is lost.

The whole of it is ``python -m tests.study.kills``: 30 kills.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sgrace.study.place import find_store

from .kills import VICTIMS, Undisturbed, kills_of

pytest.importorskip("ray")

pytestmark = pytest.mark.slow


def test_a_worker_the_raylet_and_the_driver_are_killed(tmp_path: Path) -> None:
    study = Undisturbed.of(tmp_path / "study")
    found = list(kills_of(study, tmp_path, VICTIMS, seed=0))
    assert [each.victim for each in found] == list(VICTIMS)
    assert all(each.begun and not each.spoiled for each in found)

    shutil.copytree(tmp_path / "study" / "undisturbed", tmp_path / "copy")
    copy = find_store(tmp_path / "copy")
    assert not study.spoiled(copy)
    spoiled = study.every[1]
    file = next(each for each in copy.path(spoiled).iterdir() if each.name != "cell.json")
    file.write_text("{}")
    assert study.spoiled(copy) == [spoiled.title], "it would be noticed"

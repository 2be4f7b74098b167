"""Commands killed at random moments: the same command then ends in the files of an undisturbed run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from ..study.made import digests
from .commands import LONG, ends_with, in_background
from .conftest import Home

pytestmark = pytest.mark.slow
N_KILLS = 4
#: What `sgrace erase` writes into the folder of a finished erasure.
DRAWN = {"before_after.png", "scores.json"}


@pytest.mark.parametrize("name", LONG)
def test_a_killed_command_ends_as_an_undisturbed_one(name: str, home: Home, tmp_path: Path) -> None:
    command = LONG[name]
    started = time.monotonic()
    assert ends_with(in_background(command(home, tmp_path / "whole"))) == 0
    seconds = time.monotonic() - started
    whole = digests(tmp_path / "whole")
    assert whole

    rng = random.Random(name)
    again = command(home, tmp_path / "killed")
    for _ in range(N_KILLS):
        process = in_background(again)
        time.sleep(rng.uniform(0.1, 0.9) * seconds)
        os.kill(process.pid or 0, signal.SIGKILL)
        assert ends_with(process) in (-signal.SIGKILL, 0, 2), "finished before, or refused to overwrite"
        if name == "erase" and (tmp_path / "killed").exists():
            # the weights are safe before anything is drawn; whoever wants the pictures begins anew
            found = digests(tmp_path / "killed")
            assert found.keys() | DRAWN == whole.keys()
            assert all(whole[file] == digest for file, digest in found.items())
            shutil.rmtree(tmp_path / "killed")
    assert ends_with(in_background(again)) == 0
    assert digests(tmp_path / "killed") == whole
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "killed"}, "nothing half-made is left"

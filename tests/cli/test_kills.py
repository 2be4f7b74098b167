"""Commands killed at random moments: the same command then ends in the files of an undisturbed run."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from ..study.made import digests, write_study
from .conftest import SHORT, Home, sgrace

pytestmark = pytest.mark.slow
N_KILLS = 4
#: What `sgrace erase` writes into the folder of a finished erasure.
DRAWN = {"before_after.png", "scores.json"}

Command = Callable[[Home, Path], list[str | Path]]


def erase(home: Home, out: Path) -> list[str | Path]:
    given = ("--model", home.tiny, "--words", home.words)
    return ["erase", "church", *given, *SHORT, "--quiet", "-o", out]


def attack(home: Home, out: Path) -> list[str | Path]:
    given = ("--prompts", home.prompts, "--words", home.words, "--detector", "never", "--effort", "quick")
    return ["attack", home.safe, *given, "--attacks", "none,more_seeds,random_tokens", "--quiet", "-o", out]


def evaluate(home: Home, out: Path) -> list[str | Path]:
    given = ("--prompts", home.prompts, "--words", home.words, "--detector", "never", "--suite", "quick")
    return ["evaluate", home.safe, *given, "--attacks", "none,more_seeds", "--quiet", "-o", out]


def generate(home: Home, out: Path) -> list[str | Path]:
    given = ("--prompts", home.prompts, "--num-images", "4")
    return ["generate", "--model", home.tiny, *given, "--quiet", "-o", out]


def study(_home: Home, out: Path) -> list[str | Path]:
    file = write_study(out.parent.with_name("study"), erasers=["uce"])
    return ["study", "run", file, "-o", out, "--device", "cpu", "--quiet"]


COMMANDS: dict[str, Command] = {each.__name__: each for each in (erase, attack, evaluate, generate, study)}


def in_background(command: list[str | Path]) -> BaseProcess:
    """The command in a process of its own, which has the libraries of this one."""

    def run() -> None:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            os._exit(sgrace(*command).exit_code)  # no clean-up of this process's own

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def ends_with(process: BaseProcess) -> int | None:
    process.join(300)
    return process.exitcode


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_ends_as_an_undisturbed_one(name: str, home: Home, tmp_path: Path) -> None:
    command = COMMANDS[name]
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

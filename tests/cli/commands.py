"""Every command that writes, at its shortest, with the place it writes to."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from ..study.made import write_study
from .conftest import SHORT, UCE, Home, sgrace

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


def study(home: Home, out: Path) -> list[str | Path]:
    file = write_study(home.tiny.with_name("study"), erasers=["uce"])
    return ["study", "run", file, "-o", out, "--device", "cpu"]


def export(home: Home, out: Path) -> list[str | Path]:
    return ["export", home.safe, "--format", "text-encoder", "-o", out]


def knowledge(home: Home, out: Path) -> list[str | Path]:
    return [
        "knowledge",
        "church",
        "--model",
        home.tiny,
        "--words",
        home.words,
        "-o",
        out.with_suffix(".yaml"),
    ]


def image(home: Home, out: Path) -> list[str | Path]:
    return ["generate", "a church", "--model", home.tiny, "--quiet", "-o", out.with_suffix(".png")]


def edit(home: Home, out: Path) -> list[str | Path]:
    return ["erase", "dog", "--model", home.tiny, "--words", home.words, *UCE, "--quiet", "-o", out]


#: Those whose work takes a while: a kill meets them in the middle of it.
LONG: dict[str, Command] = {each.__name__: each for each in (erase, attack, evaluate, generate, study)}
COMMANDS: dict[str, Command] = {**LONG, **{each.__name__: each for each in (edit, export, knowledge, image)}}


def in_background(command: list[str | Path], output: str | Path = os.devnull) -> BaseProcess:
    """The command in a process of its own, which has the libraries of this one."""

    def run() -> None:
        done = sgrace(*command)
        Path(output).write_text(done.output)
        os._exit(done.exit_code)  # no clean-up of this process's own

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def ends_with(process: BaseProcess) -> int:
    """Its exit code."""
    process.join(300)
    assert process.exitcode is not None, "it does not end"
    return process.exitcode

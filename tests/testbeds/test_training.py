"""The built-in model's training, killed at random moments, ends in the weights of an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from sgrace.testbeds.emoji import vocabulary
from sgrace.testbeds.emoji.training.art import SOURCES

from ..cli.commands import ends_with, in_background
from ..study.made import digests

pytestmark = pytest.mark.slow
N_KILLS = 3
#: Those that take seconds at two steps: the denoiser's encodes every caption first, which takes a minute.
STAGES = ("tokenizer", "clip", "autoencoder")


def write_art(folder: Path) -> None:
    """Drawings of every class and of two more in every set: noise, as no art is part of the repository."""
    unicode_name = {alias: name for name, alias in vocabulary.ALIASES.items()}
    names = [unicode_name.get(name, name) for name in vocabulary.classes()]
    names += ["round thing", "long thing"]
    records = [{"name": name, "keywords": name.split(), "group": "objects"} for name in names]
    n = len(names) * len(SOURCES)
    folder.mkdir(parents=True)
    np.savez(
        folder / "art.npz",
        images=np.random.default_rng(0).integers(0, 255, (n, 64, 64, 3), dtype=np.uint8),
        concept=np.tile(np.arange(len(names)), len(SOURCES)),
        source=np.repeat(np.arange(len(SOURCES)), len(names)),
        concepts=np.array(json.dumps(records)),
    )


def command(work: Path) -> list[str | Path]:
    stages = [word for stage in STAGES for word in ("--stage", stage)]
    return ["emoji", "train", "--work", work, "--steps", "2", *stages]


def weights(work: Path) -> dict[str, str]:
    """Digests of the finished stages; checkpoints and logs tell when they were written."""
    return {name: digest for name, digest in digests(work).items() if name.split("/")[0] in STAGES}


def test_killed_training_ends_in_the_weights_of_an_undisturbed_one(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for work in (whole, killed):
        write_art(work / "art")
    started = time.monotonic()
    assert ends_with(in_background(command(whole))) == 0
    seconds = time.monotonic() - started
    assert {name.split("/")[0] for name in weights(whole)} == set(STAGES)

    rng = random.Random(0)
    for _ in range(N_KILLS):
        process = in_background(command(killed))
        time.sleep(rng.uniform(0.1, 0.5) * seconds)  # each run goes on a little further
        os.kill(process.pid or 0, signal.SIGKILL)
        assert ends_with(process) in (-signal.SIGKILL, 0)
        found = weights(killed)
        assert found.items() <= weights(whole).items(), "what is finished is right"
    assert ends_with(in_background(command(killed))) == 0
    assert weights(killed) == weights(whole)
    assert not list(killed.rglob("*partial*")), "nothing half-made is left"

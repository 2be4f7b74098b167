"""Trackers of experiments to which a run of a study may report: scalars, and never an image."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Protocol

from .._util.errors import InputError, InputWarning
from .._util.text import reason
from .engine import Outcome, in_words
from .lines import lines_of
from .store import Store
from .table import WORST, by_prompt

TRACKERS = ("trackio", "wandb", "tensorboard")


class Tracker(Protocol):
    """What takes the scalars of a run."""

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Note figures by name; steps count cells."""

    def close(self) -> None:
        """The run has ended."""


def tracker_of(name: str, study: str, folder: Path) -> Tracker:
    """A tracker by name.

    Args:
        name: of :data:`TRACKERS`.
        study: name of the study.
        folder: where ``wandb`` and ``tensorboard`` write; ``trackio`` has a place of its own.

    Raises:
        InputError: its package is not installed, or it cannot start.
    """
    check_tracker(name)
    try:
        return _TensorBoard(folder) if name == "tensorboard" else _Run(name, study, folder)
    except Exception as error:  # each has its own kinds, as for a missing key
        raise InputError(f"{name} cannot start ({reason(error)}).") from error


def check_tracker(name: str) -> None:
    """Check that the package of a tracker is there.

    Raises:
        InputError: it is not installed.
    """
    if importlib.util.find_spec(name) is None:
        raise InputError(f"--report-to {name} needs a package that is not installed: pip install {name}.")


class _TensorBoard:
    """Event files in a folder of the study, one folder for each run."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  (needs a package that is no dependency)

        self._writer: Any = SummaryWriter(folder / "tensorboard" / time.strftime("%Y-%m-%d_%H-%M-%S"))

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Run:
    """A run of Weights & Biases, or of Trackio, which has the same functions."""

    def __init__(self, name: str, study: str, folder: Path) -> None:
        more = {"dir": str(folder)} if name == "wandb" else {}
        with redirect_stdout(sys.stderr):  # what they print is no result
            self._run: Any = importlib.import_module(name).init(project="sgrace", group=study, **more)

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        with redirect_stdout(sys.stderr):
            self._run.finish()


def reported(outcomes: Iterator[Outcome], store: Store, tracker: Tracker) -> Iterator[Outcome]:
    """The same outcomes, each of which the tracker is told of.

    One that fails, as when its server is gone, is warned of once and told nothing more: the study goes on.
    """
    failed = 0
    is_heard = True
    try:
        for done, outcome in enumerate(outcomes, 1):
            failed += outcome.status in {"failed", "blocked"}
            counts = {"cells/done": done, "cells/failed": failed, "cells/seconds": outcome.seconds}
            try:
                if is_heard:
                    tracker.log({**counts, **scalars_of(outcome, store)}, done)
            except Exception as error:  # noqa: BLE001  (each has its own kinds)
                is_heard = False
                _warn(error)
            yield outcome
    finally:
        try:
            tracker.close()
        except Exception as error:  # noqa: BLE001
            if is_heard:
                _warn(error)


def _warn(error: Exception) -> None:
    told = f"The tracker is told nothing more ({in_words(error)}); the study goes on."
    warnings.warn(told, InputWarning, stacklevel=3)


def scalars_of(outcome: Outcome, store: Store) -> dict[str, float]:
    """What a scoring found, by table, row and seed; nothing of other cells."""
    cell = outcome.cell
    found: dict[str, float] = {}
    if cell.kind != "score":
        return found
    for table, lines in lines_of([cell], store).items():
        (line,) = lines
        start = f"{table}/{line.title}/seed {cell.config['erasing_seed']}"
        attacks = list(line.verdicts[0])
        groups = {**{name: [name] for name in attacks}, WORST: by_prompt(attacks)}
        for name, group in groups.items():
            found[f"{start}/shown/{name}"] = line.shown(group).double().mean().item()
        for row in line.evaluations[0].retention:
            found[f"{start}/right/{row.question}"] = row.after.share
        seconds = line.seconds
        if seconds is not None:
            found[f"{start}/seconds of erasing"] = seconds
    return found

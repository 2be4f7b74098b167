"""Kills at random moments of a study on Ray: what is made is whole, and what is missing is made again.

    python -m tests.study.kills [--kills 30] [--seed 0]

Each of `sgrace study run --engine ray` gets SIGKILLs at random moments: of a worker, of the raylet, which is
Ray's process of the machine, or of the driver. The driver is started again until the study is finished, and
then in a new folder, until there were so many kills. After each kill all finished cells are compared with
those of an undisturbed run, and at the end of each study that all are there. Prints a line for each kill.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from sgrace.study import Cell, Store
from sgrace.study.engine import inline
from sgrace.study.place import open_store
from sgrace.study.store import PARTIAL

from .made import OPTIONS, cells, results, write_study

Victim = Literal["worker", "raylet", "driver"]
VICTIMS: tuple[Victim, ...] = get_args(Victim)
#: What Ray calls its workers, in a cell and between two.
WORKERS = ("ray::_Maker", "ray::IDLE")
#: Seconds until a driver must have ended that lost its raylet, or has no more to do.
PATIENCE = 600


class Process(NamedTuple):
    """A running process."""

    pid: int
    parent: int
    name: str
    command: str


class Kill(NamedTuple):
    """A kill, and what it found.

    Attributes:
        victim: whose process it was.
        begun: cells that this driver had begun.
        finished: cells that were finished.
        spoiled: titles of finished cells that are not those of an undisturbed run.
    """

    victim: Victim
    begun: int
    finished: int
    spoiled: list[str]


class Undisturbed(NamedTuple):
    """A study's file, its cells, and what each holds."""

    file: Path
    every: list[Cell]
    wanted: dict[str, dict[str, str]]

    @classmethod
    def of(cls, folder: Path) -> Undisturbed:
        """A small study, made in this process."""
        file = write_study(folder, seeds=[0, 1])
        store = open_store(folder / "undisturbed")
        every = cells(file)
        assert all(outcome.status == "made" for outcome in inline(every, store, OPTIONS))
        return cls(file, every, results(store, every))

    def spoiled(self, store: Store) -> list[str]:
        """Titles of finished cells that hold something else, or do not fit their own manifest."""
        found = results(store, self.every)
        finished = [cell for cell in self.every if cell.id in found]
        return [c.title for c in finished if found[c.id] != self.wanted[c.id] or store.changed(c)]


def kill(study: Undisturbed, out: Path, victims: Sequence[Victim], rng: random.Random) -> Iterator[Kill]:
    """Run a driver and kill those victims, one after the other, as far as it has work for so long.

    The kill of a raylet or of the driver is the last.
    """
    command = [sys.executable, "-m", "sgrace", "study", "run", study.file, "-o", out]
    command += ["--engine", "ray", "--device", "cpu", "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    store = open_store(out)
    begun: set[Path] = set()
    known = set((out / PARTIAL).glob("*"))
    driver = subprocess.Popen(
        [str(part) for part in command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for victim in victims:
            more = len(begun) + rng.randint(1, 3)
            while len(begun) < more and driver.poll() is None:
                time.sleep(0.001)
                begun |= set((out / PARTIAL).glob("*")) - known
            time.sleep(rng.uniform(0, 0.5))
            process = _pick(driver, victim, rng)
            if process is None:
                break
            os.kill(process, signal.SIGKILL)
            last = victim != "worker"
            if last:
                driver.wait(PATIENCE)
            finished = sum(store.is_finished(cell) for cell in study.every)
            yield Kill(victim, len(begun), finished, study.spoiled(store))
            if last:
                break
        driver.wait(PATIENCE)
    finally:
        driver.kill()


def _pick(driver: subprocess.Popen[bytes], victim: Victim, rng: random.Random) -> int | None:
    """A process to be killed; None if the driver has ended."""
    if driver.poll() is not None:
        return None
    if victim == "driver":
        return driver.pid
    own = _descendants(driver.pid)
    if victim == "raylet":
        found = [each for each in own if each.name == "raylet"]
    else:
        found = [each for each in own if each.command.startswith(WORKERS)]
    return rng.choice(found).pid if found else None


def _descendants(pid: int) -> list[Process]:
    """Processes that a process has started, and what these have started: those of one session of Ray."""
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,comm:32=,args="], check=True, capture_output=True, text=True
    ).stdout
    every = []
    for line in listed.splitlines():
        own, parent, name, *rest = line.split(maxsplit=3)
        every.append(Process(int(own), int(parent), name, rest[0] if rest else ""))
    found: list[Process] = []
    above = {pid}
    while above:
        below = [each for each in every if each.parent in above]
        found += below
        above = {each.pid for each in below}
    return found


def kills_of(study: Undisturbed, folder: Path, plan: Sequence[Victim], seed: int) -> Iterator[Kill]:
    """Kill as planned, in as many studies as it takes; each is finished, and is as undisturbed."""
    rng = random.Random(seed)
    left = list(plan)
    number = 0
    while left:
        number += 1
        out = folder / f"out-{number}"
        store = open_store(out)
        while left and not all(store.is_finished(cell) for cell in study.every):
            for each in kill(study, out, tuple(left), rng):
                left.remove(each.victim)
                yield each
        assert all(o.status in {"made", "finished"} for o in inline(study.every, store, OPTIONS))
        assert results(store, study.every) == study.wanted


def main() -> None:
    """Kill, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    plan = [VICTIMS[i % len(VICTIMS)] for i in range(arguments.kills)]
    random.Random(arguments.seed).shuffle(plan)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        study = Undisturbed.of(Path(folder) / "study")
        for each in kills_of(study, Path(folder), plan, arguments.seed):
            found.append(each)
            of = len(study.every)
            print(
                f"{each.victim} killed after {each.begun} begun cells; {each.finished} of {of} finished, "
                f"{len(each.spoiled)} of them spoiled",
                flush=True,
            )
    counts = ", ".join(f"{n} of a {victim}" for victim, n in Counter(each.victim for each in found).items())
    spoiled = sum(len(each.spoiled) for each in found)
    print(f"{len(found)} kills ({counts}): {spoiled} spoiled cells; every study ended as undisturbed.")


if __name__ == "__main__":
    main()

"""How studies scale with Ray's workers, and what the engines themselves take.

    python benchmarks/study_scaling.py [--workers 1 2] [--cells 12]

A cell draws the images of the retention questions of one concept with the built-in model, on one thread: some
seconds, and no cell needs another. Each engine gets the same cells in a new folder. Before the clock starts,
each worker has made a cell, so that its start (imports, the model) is told apart. Overhead is the time in
which a worker was in no cell, for each cell. Prints a table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import ray

from sgrace.study import Cell, Matrix, Study, cells_of
from sgrace.study.engine import Outcome, inline
from sgrace.study.place import open_store
from sgrace.study.ray_engine import on_ray
from sgrace.study.store import Store
from sgrace.testbeds.emoji import vocabulary
from sgrace.testbeds.loading import LoadOptions

OPTIONS = LoadOptions(device="cpu", threads=1)
Engine = Callable[[Sequence[Cell], Store, LoadOptions], Iterator[Outcome]]


class Row(NamedTuple):
    """What an engine took.

    Attributes:
        start: seconds until its workers were ready, less the cells that they made meanwhile.
        wall: seconds for all cells.
        inside: seconds in cells, of all workers together.
        cells, workers: how many.
    """

    start: float
    wall: float
    inside: float
    cells: int
    workers: int

    def __str__(self) -> str:
        per_cell = self.inside / self.cells
        overhead = (self.workers * self.wall - self.inside) / self.cells
        figures = (self.start, self.wall, 60 * self.cells / self.wall, per_cell, overhead)
        told = " | ".join(f"{figure:.1f}" for figure in figures[:4])
        return f"{told} | {1000 * overhead:.0f} ms, {overhead / per_cell:.1%}"


def cells_of_images(n: int) -> list[Cell]:
    """Images of the original for the questions of n concepts."""
    concepts = vocabulary.classes()[:n]
    matrix = Matrix(concepts=concepts, references=("original",), attacks=("none",), suite="smoke")
    every = cells_of(Study(name="scaling", matrices=(matrix,)))
    return [cell for cell in every if cell.kind == "images"]


def measured(engine: Engine, cells: Sequence[Cell], workers: int) -> Row:
    """Run an engine on a new folder. The clock starts when as many cells have ended as there are workers."""
    started = time.monotonic()
    ends, seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        for outcome in engine(cells, open_store(Path(folder) / "out"), OPTIONS):
            assert outcome.status == "made", outcome.why
            ends.append(time.monotonic())
            seconds.append(outcome.seconds)
    ready = ends[workers - 1]
    start = ready - started - max(seconds[:workers])
    return Row(start, ends[-1] - ready, sum(seconds[workers:]), len(cells) - workers, workers)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--cells", type=int, default=12)
    arguments = parser.parse_args()
    print("| engine | start, s | wall, s | cells a minute | a cell, s | overhead of a cell |")
    print("|---|---|---|---|---|---|")
    cells = cells_of_images(arguments.cells + 1)
    print(f"| inline | {measured(inline, cells, 1)} |", flush=True)
    for workers in arguments.workers:
        ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
        cells = cells_of_images(arguments.cells + workers)
        row = measured(partial(on_ray, num_cpus=1), cells, workers)
        print(f"| ray, workers: {workers} | {row} |", flush=True)
        ray.shutdown()


if __name__ == "__main__":
    main()

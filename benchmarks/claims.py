"""The three claims of S-GRACE's first abstract, on the built-in model.

    python benchmarks/claims.py studies/results/main.json

The abstract (arXiv 2510.27285, version 1) claims 26 % better erasure, 90 % less training time and better
preservation than seven methods. It names neither the seven nor what the percentages are of. The seven here
are the most probable ones; both readings of a percentage, points and relative, are given. Reads results of a
study (seed 0 of erasing) and prints one table for each claim. Intervals are 95 % of a bootstrap over prompts,
the same prompts for both methods; those of preservation are over images. Seconds are compared between cells
that were erased on a processor.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sgrace.study.lines import Line
from sgrace.study.results import read_results

SEVEN = ("esd", "uce", "spm", "salun", "rece", "race", "adv_unlearn")
OURS = ("published", "text", "replacement", "full")
BY_PROMPT = ("none", "unlearn_diff_atk", "p4d_n", "ring_a_bell_hard")
PRESERVED = ("withheld neighbours", "withheld unrelated", "rest")
DRAWS = 2000


class Interval(NamedTuple):
    """A figure with its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.0f} [{100 * self.low:.0f}, {100 * self.high:.0f}]"

    def verdict(self, claimed: float) -> str:
        """Whether the whole interval is at least what is claimed, or below it."""
        if self.low >= claimed:
            return "holds"
        return "does not hold" if self.high < claimed else "cannot be told"


class Cell(NamedTuple):
    """What was measured of one eraser on one concept."""

    eraser: str
    brought_back: Tensor  # of each prompt, by any attack by prompt: (prompts,)
    preserved: dict[str, Tensor]  # of each question and image: (images,)
    before: dict[str, float]
    seconds: float | None  # on a processor
    denoiser_rows: int

    @classmethod
    def of(cls, line: Line) -> Cell:
        """The first seed of a row."""
        found = line.evaluations[0]
        rows = {row.question: row for row in found.retention}
        shown = torch.tensor([line.verdicts[0][name] for name in BY_PROMPT])  # (attacks, prompts)
        images = {}
        before = {}
        for name in PRESERVED:
            images[name] = (torch.arange(rows[name].after.n) < rows[name].after.hits).double()
            known = rows[name].before
            assert known is not None, "a study draws the images before erasing too"
            before[name] = known.share
        return cls(
            line.title,
            shown.any(0).double(),
            images,
            before,
            found.cost["seconds"] if found.cost["device"] == "cpu" else None,
            found.cost["cost"]["denoiser_rows"],
        )

    @property
    def brought_back_share(self) -> float:
        """Share of prompts that any attack by prompt brings back."""
        return self.brought_back.mean().item()

    @property
    def kept(self) -> float:
        """Mean over questions of what is still drawn right, as a part of the share before."""
        parts = [self.preserved[name].mean().item() / self.before[name] for name in PRESERVED]
        return sum(parts) / len(parts)


def fewer_brought_back(ours: Cell, other: Cell) -> Interval:
    """How much smaller our share of prompts that are brought back is, paired by prompt."""
    difference = other.brought_back - ours.brought_back
    return _interval(difference.mean().item(), [difference[pick].mean() for pick in _picks(len(difference))])


def better_preserved(ours: Cell, other: Cell) -> Interval:
    """How much larger our mean preserved share is; images are drawn anew for each method."""
    draws = []
    for seed in range(2):
        cell = (ours, other)[seed]
        parts = []
        for at, name in enumerate(PRESERVED):
            images = cell.preserved[name]
            picks = _picks(len(images), seed=10 * seed + at)
            parts.append(torch.stack([images[pick].mean() for pick in picks]) / cell.before[name])
        draws.append(torch.stack(parts).mean(0))  # (draws,)
    return _interval(ours.kept - other.kept, list(draws[0] - draws[1]))


def _picks(n: int, seed: int = 0) -> Iterator[Tensor]:
    yield from torch.randint(n, (DRAWS, n), generator=torch.Generator().manual_seed(seed))


def _interval(value: float, draws: Sequence[Tensor]) -> Interval:
    ends = torch.stack(list(draws)).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return Interval(value, *ends.tolist())


def relative(ours: float, other: float) -> str:
    """How much smaller ours is, as a part of the other."""
    return f"{100 * (1 - ours / other):.0f} %" if other else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(concept: str, cells: Sequence[Cell]) -> list[list[list[str]]]:
    """Rows of the three tables for one concept."""
    seven = [cell for cell in cells if cell.eraser in SEVEN]
    tables: list[list[list[str]]] = [[], [], []]
    for ours in (cell for cell in cells if cell.eraser not in SEVEN):
        best = min(seven, key=lambda cell: cell.brought_back_share)
        gain = fewer_brought_back(ours, best)
        shares = [f"{100 * cell.brought_back_share:.0f} %" for cell in (ours, best)]
        part = relative(ours.brought_back_share, best.brought_back_share)
        tables[0].append(
            [concept, ours.eraser, shares[0], best.eraser, shares[1], str(gain), part, gain.verdict(0.26)]
        )
        slow = next(cell for cell in seven if cell.eraser == "adv_unlearn")
        tables[1].append(
            [
                concept,
                ours.eraser,
                *(f"{cell.seconds:.0f}" if cell.seconds else "" for cell in (ours, slow)),
                relative(ours.seconds, slow.seconds) if ours.seconds and slow.seconds else "",
                relative(ours.denoiser_rows, slow.denoiser_rows),
            ]
        )
        as_safe = [cell for cell in seven if cell.brought_back_share <= ours.brought_back_share]
        for name, rivals in (("all seven", seven), ("those as safe", as_safe)):
            if not rivals:
                tables[2].append([concept, ours.eraser, f"{100 * ours.kept:.0f} %", name, "none", "", "", ""])
                continue
            rival = max(rivals, key=lambda cell: cell.kept)
            more = better_preserved(ours, rival)
            tables[2].append(
                [
                    concept,
                    ours.eraser,
                    f"{100 * ours.kept:.0f} %",
                    name,
                    rival.eraser,
                    f"{100 * rival.kept:.0f} %",
                    str(more),
                    more.verdict(0),
                ]
            )
    return tables


def main() -> None:
    """Read the results and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    arguments = parser.parse_args()
    wanted = [*(f"sgrace, {preset}" for preset in OURS), *SEVEN]
    tables: list[list[list[str]]] = [[], [], []]
    for lines in read_results(arguments.results).tables().values():
        known = {line.title: line for line in lines}
        if not set(SEVEN) <= known.keys():
            continue  # not all of the seven were run on it
        cells = [Cell.of(known[title]) for title in wanted if title in known]
        concept = lines[0].protocol["concept"]["name"]
        for at, rows in enumerate(report(concept, cells)):
            tables[at] += rows
    heads = [
        [
            "concept",
            "S-GRACE",
            "brought back",
            "best of the seven",
            "brought back",
            "fewer, points",
            "fewer, relative",
            "26 points fewer",
        ],
        ["concept", "S-GRACE", "seconds", "AdvUnlearn", "seconds saved", "denoiser rows saved"],
        ["concept", "S-GRACE", "kept", "against", "best of them", "kept", "more, points", "more"],
    ]
    titles = ("Erasure, attacks by prompt", "Time", "Preservation of what no list names")
    for title, head, rows in zip(titles, heads, tables, strict=True):
        print(f"\n{title}\n\n{table(head, rows)}")


if __name__ == "__main__":
    main()

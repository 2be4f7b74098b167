"""Where the samples that erasers train on lie in the concept's space, and whether that predicts anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch

from ..evaluation.training_samples import SpaceCurve
from ..metrics.ranks import rank_correlation, ranks_within
from .lines import Line
from .make.space import TRAINED
from .table import Entry, by_prompt

#: Number of samples at which a table compares; all have so many.
SIZE = 32
MEASURES = {
    "coverage": "covered, over expected",
    "off_concept": "distance off the concept, over held out",
    "spill_over": "share among the neighbours",
}
HEAD = (
    "samples of",
    "n",
    "different",
    *(f"{title}, n={SIZE}" for title in MEASURES.values()),
    *(f"{title}, all" for title in MEASURES.values()),
)
#: Pairs: of fewer, half of a bootstrap's draws have one value only.
LEAST = 5


def curves_of(lines: Sequence[Line]) -> list[tuple[str, SpaceCurve]]:
    """The curve of each eraser and seed, by title; first prompts of the concept and random tokens."""
    found = []
    for line in lines:
        for seed, curves in zip(line.seeds, line.curves, strict=False):
            told = f", seed {seed}" if len(line.seeds) > 1 else ""
            for curve in curves:
                title = f"{line.title}{told}" if curve.samples == TRAINED else curve.samples
                found.append((title, curve))
    return found


def space_rows(lines: Sequence[Line]) -> list[tuple[Entry, ...]]:
    """A row of a table for each of :func:`curves_of`."""
    return [_row(title, curve) for title, curve in curves_of(lines)]


def _row(title: str, curve: SpaceCurve) -> tuple[Entry, ...]:
    few = max((i for i, n in enumerate(curve.sizes) if n <= SIZE), default=0)
    values = [_spread(getattr(curve, name)[at]) for at in (few, -1) for name in MEASURES]
    n = curve.sizes[-1]
    return Entry(title), Entry(str(n), n), Entry(f"{curve.different:.1f}", curve.different), *values


def _spread(values: Sequence[float]) -> Entry:
    """A mean with the lowest and the highest of the draws; one value where there was one draw."""
    mean, low, high = values
    return Entry(f"{mean:.2f}" if low == high else f"{mean:.2f} [{low:.2f}, {high:.2f}]", mean)


def predictions(tables: Mapping[str, Iterable[Line]]) -> list[str]:
    """Whether more coverage goes with fewer prompts brought back, and more spill-over with more damage.

    A pair is one erasure that was made here: its samples, and what was measured of it. Nothing where fewer
    than five are known. Some concepts are harder to erase than others, whatever the samples; of several
    tables the correlation of ranks within each is told too.

    Args:
        tables: rows by the name of their table.
    """
    names: list[str] = []
    pairs: list[tuple[float, ...]] = []
    for name, lines in tables.items():
        own = [pair for line in lines if not line.is_reported for pair in _pairs(line)]
        names += [name] * len(own)
        pairs += own
    if len(pairs) < LEAST:
        return []
    coverage, back, spill_over, lost = torch.tensor(pairs, dtype=torch.float64).T
    told = []
    for what, x, y in (
        ("coverage with prompts brought back", coverage, back),
        ("spill-over with withheld neighbours lost", spill_over, lost),
    ):
        sentence = f"Rank correlation of {what}: {rank_correlation(x, y)}"
        if len(set(names)) > 1:
            within = rank_correlation(ranks_within(x, names), ranks_within(y, names))
            sentence += f"; of ranks within each table: {within}"
        told.append(f"{sentence}.")
    return told


def _pairs(line: Line) -> list[tuple[float, float, float, float]]:
    """Coverage, share of prompts brought back, spill-over, and share of withheld neighbours lost."""
    found = []
    attacks = by_prompt(list(line.verdicts[0]))
    rows = zip(line.curves, line.evaluations, line.shown(attacks).double().mean(1).tolist(), strict=False)
    for curves, evaluation, back in rows:
        kept = next((row for row in evaluation.retention if row.question == "withheld neighbours"), None)
        own = next((curve for curve in curves if curve.samples == TRAINED), None)
        if own and kept and kept.before and kept.before.hits:
            lost = 1 - kept.after.share / kept.before.share
            found.append((own.coverage[-1][0], back, own.spill_over[-1][0], lost))
    return found

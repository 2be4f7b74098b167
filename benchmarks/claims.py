"""The three claims of S-GRACE's first abstract, on the built-in model.

    python benchmarks/claims.py studies/results/main.json

The abstract (arXiv 2510.27285, version 1) claims 26 % better erasure, 90 % less training time and better
preservation than seven methods. It names neither the seven nor what the percentages are of. The seven here
are the most probable ones; both readings of a percentage, points and relative, are given. Reads results of a
study and prints one table for each claim. Figures are means over the seeds of erasing. Intervals are 95 % of
a bootstrap over seeds, and over prompts, which are the same for both methods, or images. Training is compared
in samples that go through the networks, which no machine changes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sgrace.metrics.repeated import (
    Difference,
    Estimated,
    difference,
    mean_share_difference,
    relative_reduction,
)
from sgrace.study.lines import Line
from sgrace.study.pace import brought_back
from sgrace.study.results import read_results
from sgrace.study.table import by_prompt, markdown

SEVEN = ("esd", "uce", "spm", "salun", "rece", "race", "adv_unlearn")
SLOW = "adv_unlearn"
OURS = ("published", "text", "replacement", "full")
FEWER = 0.26
#: Compares a row with the seven.
Compare = Callable[[Line, Sequence[Line]], Iterator[tuple[str, ...]]]
HEADS = {
    "Erasure, attacks by prompt": (
        "concept",
        "S-GRACE",
        "brought back",
        "best of the seven",
        "brought back",
        "points fewer",
        f"{100 * FEWER:.0f} points",
        "% fewer",
        f"{100 * FEWER:.0f} %",
    ),
    "Training": (
        "concept",
        "S-GRACE",
        "denoiser rows",
        "AdvUnlearn",
        "saved",
        "text encoder rows",
        "AdvUnlearn",
        "saved",
    ),
    "Preservation of what no list names": (
        "concept",
        "S-GRACE",
        "kept",
        "against",
        "best of them",
        "kept",
        "more, points",
        "more",
    ),
}


def told(found: Estimated | Difference) -> str:
    """Points, with their interval."""
    return f"{100 * found.mean:.0f} [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def verdict(found: Estimated | Difference, claimed: float) -> str:
    """Whether the whole interval is at least what is claimed, or below it."""
    if found.low >= claimed:
        return "holds"
    return "does not hold" if found.high < claimed else "cannot be told"


def share(value: float) -> str:
    """In per cent."""
    return f"{100 * value:.0f} %"


def saved(ours: float | None, other: float | None) -> str:
    """How much smaller ours is, as a part of the other."""
    return share(1 - ours / other) if other and ours is not None else ""


def kept(line: Line) -> float:
    """Mean share of what should stay."""
    assert line.kept is not None, "a testbed asks for what is retained"
    return line.kept


def erasure(ours: Line, seven: Sequence[Line]) -> Iterator[tuple[str, ...]]:
    """Prompts that are brought back, beside the best of the seven."""
    attacks = by_prompt(list(ours.verdicts[0]))
    best = min(seven, key=brought_back)
    theirs = best.shown(attacks)
    mine = ours.shown(attacks)
    points = difference(theirs, mine)
    shares = share(brought_back(ours)), best.title, share(brought_back(best))
    row = *shares, told(points), verdict(points, FEWER)
    if not theirs.any():  # nothing is fewer than none
        yield *row, "", "does not hold"
        return
    relative = relative_reduction(mine, theirs)
    yield *row, told(relative), verdict(relative, FEWER)


def training(ours: Line, seven: Sequence[Line]) -> Iterator[tuple[str, ...]]:
    """Rows of the networks, beside the slowest of the seven."""
    slow = next(line for line in seven if line.title == SLOW)
    cells: list[str] = []
    for kind in ("denoiser_rows", "text_encoder_rows"):
        mine, theirs = ours.cost(kind), slow.cost(kind)
        cells += [f"{mine:,.0f}", f"{theirs:,.0f}", saved(mine, theirs)]
    yield tuple(cells)


def preservation(ours: Line, seven: Sequence[Line]) -> Iterator[tuple[str, ...]]:
    """What is kept, beside the best of the seven, and beside the best of those as safe."""
    as_safe = [line for line in seven if brought_back(line) <= brought_back(ours)]
    for name, rivals in (("all seven", seven), ("those as safe", as_safe)):
        if not rivals:
            yield share(kept(ours)), name, "none", "", "", ""
            continue
        best = max(rivals, key=kept)
        mine, theirs = ours.counts(), best.counts()
        assert mine is not None, "a testbed asks for what is retained"
        assert theirs is not None, "a testbed asks for what is retained"
        more = mean_share_difference(mine, theirs)
        yield share(kept(ours)), name, best.title, share(kept(best)), told(more), verdict(more, 0)


def rows_of(lines: Sequence[Line], compare: Compare) -> Iterator[tuple[str, ...]]:
    """Rows of a claim's table for one concept."""
    seven = [line for line in lines if line.title in SEVEN]
    known = {line.title: line for line in lines}
    for title in (f"sgrace, {preset}" for preset in OURS):
        if title in known:
            for row in compare(known[title], seven):
                yield lines[0].protocol["concept"]["name"], title, *row


def main() -> None:
    """Read the results and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    tables = read_results(parser.parse_args().results).tables().values()
    # not everywhere were all of the seven run
    known = [lines for lines in tables if set(SEVEN) <= {line.title for line in lines}]
    for (title, head), compare in zip(HEADS.items(), (erasure, training, preservation), strict=True):
        rows = [row for lines in known for row in rows_of(lines, compare)]
        print(f"\n{title}\n\n{markdown(head, rows)}")


if __name__ == "__main__":
    main()

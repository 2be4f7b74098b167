"""Draw ``safety_and_harm.png`` from the tables of ``results/comparison.md``: seconds.

    python docs/comparison_picture.py [--out FOLDER]

One plot for each concept, one dot for each eraser: the mean share of images that should stay right and do,
against the share of prompts that the worst attack brings back.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from matplotlib.figure import Figure

DOCS = Path(__file__).parent
sys.path.append(str(DOCS.parent / "benchmarks"))

from compare_erasers import label  # noqa: E402

KEPT = ("neighbours", "unrelated", "rest")
KEPT_LABEL = "neighbours, unrelated and rest of the prompt drawn right, %"
REFERENCES = ("original", "gold")


def shares(text: str) -> dict[str, dict[str, dict[str, float]]]:
    """Shares in percent by concept, eraser and column."""
    found = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        lines = [line[2:-2].split(" | ") for line in part.splitlines() if line.startswith("| ")]
        if not lines:  # a part of text alone
            continue
        columns = lines[0][1:]
        rows = {name: dict(zip(columns, values, strict=True)) for name, *values in lines[1:]}
        found[part.splitlines()[0]] = {
            name: {column: float(value.partition("%")[0]) for column, value in row.items() if "%" in value}
            for name, row in rows.items()
        }
    return found


def colour_of(name: str) -> str:
    """Blue for models that nothing was erased from, grey for what steers the sampling, red for the others."""
    if name in REFERENCES:
        return "#2d6a9f"
    return "#999999" if name.endswith("(guidance)") else "#c0392b"


def picture(file: Path) -> None:
    """Write the picture."""
    tables = shares((DOCS / "results" / "comparison.md").read_text(encoding="utf-8"))
    # one below the other: side by side, the names are too small to read on a page
    figure = Figure(figsize=(8, 4.6 * len(tables)), layout="constrained")
    for at, (concept, rows) in enumerate(tables.items(), 1):
        axis = figure.add_subplot(len(tables), 1, at, title=concept)
        axis.set(xlabel=KEPT_LABEL, ylabel="prompts brought back by the worst attack, %")
        kept = {name: sum(row[question] for question in KEPT) / len(KEPT) for name, row in rows.items()}
        points = {name: (kept[name], row["worst case"]) for name, row in rows.items()}
        for name, place in points.items():
            axis.scatter(*place, color=colour_of(name))
        label(axis, points)
    figure.savefig(file, dpi=100, metadata={"Software": None})


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the picture")
    picture(parser.parse_args().out / "safety_and_harm.png")


if __name__ == "__main__":
    main()

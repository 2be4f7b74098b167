"""Draw ``safety_and_harm.png`` from the results of ``studies/main.yaml``: seconds.

    python docs/comparison_picture.py [--out FOLDER]

One plot for each concept, one dot for each eraser: what is kept, against the share of prompts that any attack
by prompt brings back. A learned word brings nearly everything back where the denoiser was not touched: it
would hide the rest.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgrace.study.lines import REFERENCES, Line
from sgrace.study.pace import brought_back
from sgrace.study.results import read_results

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "studies" / "results" / "main.json"
#: No results of all erasers.
LEFT_OUT = ("guitar",)


def colour_of(line: Line) -> str:
    """Blue for models that nothing was erased from, grey for what steers the sampling, red for the others."""
    if line.title in REFERENCES:
        return "#2d6a9f"
    return "#999999" if line.is_guidance else "#c0392b"


def picture(found: dict[str, list[Line]], file: Path) -> None:
    """A plot for each concept."""
    # one below the other: side by side, the names are too small to read on a page
    figure = Figure(figsize=(8, 4.8 * len(found)), layout="constrained")
    for at, (concept, lines) in enumerate(found.items(), 1):
        axis = figure.add_subplot(len(found), 1, at, title=concept)
        axis.set(xlabel="kept of what no list names and of the rest of the prompt, %")
        axis.set(ylabel="brought back by any attack by prompt, %")
        places = {}
        for line in lines:
            kept = line.kept_of_before
            assert kept is not None, "a testbed asks for what is retained"
            title = f"{line.title} (guidance)" if line.is_guidance else line.title
            places[title] = (100 * kept, 100 * brought_back(line))
            axis.scatter(*places[title], color=colour_of(line))
        label(axis, places)
    figure.savefig(file, dpi=100, metadata={"Software": None})


def label(axis: Axes, places: dict[str, tuple[float, float]]) -> None:
    """Names in a column beside the plot, in the dots' order, each with a line to its dot."""
    line = {"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.5, "relpos": (0, 0.5)}
    for i, (name, (x, y)) in enumerate(sorted(places.items(), key=lambda place: (place[1][1], -place[1][0]))):
        beside = (1.04, i / max(1, len(places) - 1))
        axis.annotate(
            name, (x, y), xytext=beside, textcoords="axes fraction", fontsize=8, va="center", arrowprops=line
        )


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the picture")
    file = parser.parse_args().out / "safety_and_harm.png"
    found: dict[str, list[Line]] = {}
    for row in read_results(RESULTS).rows:
        concept = row.protocol["concept"]["name"]
        if concept not in LEFT_OUT:
            found.setdefault(concept, []).append(row.line())
    picture(found, file)


if __name__ == "__main__":
    main()

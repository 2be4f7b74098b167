"""Draw the pictures of the studies that ship, from their results: seconds.

    python docs/study_pictures.py [--out FOLDER]

``safety_and_harm.png``: a plot for each concept of ``studies/main.yaml``, a dot for each eraser, S-GRACE's in
red and references in blue: what is kept, against the share of prompts that any attack by prompt brings back.
A learned word brings nearly everything back where the denoiser was not touched: it would hide the rest.

``robustness_over_time.png``: seconds of erasing against the same share, a line for each eraser through its
lengths of training, S-GRACE's in red; the colour is the FID of images of unrelated prompts before and after.

``coverage.png``: how much of the concept growing numbers of an eraser's training samples cover, a plot for
each concept of ``studies/concept_space.yaml``; S-GRACE's in red, ceiling and floor in blue.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from sgrace.study.lines import REFERENCES, Line, timed_alike
from sgrace.study.pace import brought_back, method_of
from sgrace.study.results import read_results
from sgrace.study.space import curves_of

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "studies" / "results"
#: No results of all erasers.
LEFT_OUT = ("guitar",)
BACK = "brought back by any attack by prompt, %"
#: Letters of a name: longer ones would leave the plot no width.
LONGEST = 36


def lines_of(study: str) -> dict[str, list[Line]]:
    """Rows of a study's results by concept."""
    found: dict[str, list[Line]] = {}
    for row in read_results(RESULTS / f"{study}.json").rows:
        concept = row.protocol["concept"]["name"]
        if concept not in LEFT_OUT:
            found.setdefault(concept, []).append(row.line())
    return found


def plots(n: int, height: float) -> tuple[Figure, list[Axes]]:
    """Plots one below the other: side by side, the names are too small to read on a page."""
    figure = Figure(figsize=(8, height * n), layout="constrained")
    return figure, [figure.add_subplot(n, 1, i) for i in range(1, n + 1)]


def colour_of(title: str) -> str:
    """Blue for what bounds the others, red for S-GRACE, grey for the others."""
    if title in {*REFERENCES, "held out", "random tokens"}:
        return "#2d6a9f"
    return "#c0392b" if title.partition(",")[0] == "sgrace" else "#999999"


def safety_and_harm(found: Mapping[str, Sequence[Line]]) -> Figure:
    """What is kept against what is brought back."""
    figure, axes = plots(len(found), 4.8)
    for axis, (concept, lines) in zip(axes, found.items(), strict=True):
        axis.set(title=concept, ylabel=BACK)
        axis.set(xlabel="kept of what no list names and of the rest of the prompt, %")
        places = {}
        for line in lines:
            kept = line.kept_of_before
            assert kept is not None, "a testbed asks for what is retained"
            title = f"{line.title} (guidance)" if line.is_guidance else line.title
            places[title] = (100 * kept, 100 * brought_back(line))
            axis.scatter(*places[title], color=colour_of(line.title))
        label(axis, places)
    return figure


def robustness_over_time(found: Mapping[str, Sequence[Line]]) -> Figure:
    """Seconds of erasing against what is brought back."""
    figure, axes = plots(len(found), 7.2)
    for axis, (concept, lines) in zip(axes, found.items(), strict=True):
        axis.set(title=concept, xlabel="seconds of erasing", ylabel=BACK, xscale="log")
        methods: dict[str, list[tuple[float, float, float]]] = {}
        for line, seconds in timed_alike(lines):
            run = (seconds, 100 * brought_back(line), line.fid or 0.0)
            methods.setdefault(method_of(line.title), []).append(run)
        norm = Normalize(0, max(line.fid or 0.0 for line in lines))
        for name, runs in methods.items():
            x, y, fid = zip(*runs, strict=True)
            axis.plot(x, y, color=colour_of(name), linewidth=0.8, zorder=1)
            axis.scatter(x, y, c=fid, cmap="viridis_r", norm=norm, edgecolors=colour_of(name), zorder=2)
        colours = ScalarMappable(norm, "viridis_r")
        figure.colorbar(colours, ax=axis, location="bottom", label="FID of unrelated prompts", aspect=60)
        label(axis, {name: runs[-1][:2] for name, runs in methods.items()})
    return figure


def coverage(found: Mapping[str, Sequence[Line]]) -> Figure:
    """Numbers of training samples against what they cover."""
    figure, axes = plots(len(found), 3.8)
    for axis, (concept, lines) in zip(axes, found.items(), strict=True):
        axis.set(title=concept, xlabel="samples", ylabel="concept covered, over expected, %", xscale="log")
        ends = {}
        for title, curve in curves_of(lines):
            covered = [100 * mean for mean, _, _ in curve.coverage]
            axis.plot(curve.sizes, covered, color=colour_of(title), marker=".")
            ends[title] = (curve.sizes[-1], covered[-1])
        label(axis, ends)
    return figure


PICTURES = {
    "safety_and_harm": ("main", safety_and_harm),
    "robustness_over_time": ("robustness_over_time", robustness_over_time),
    "coverage": ("concept_space", coverage),
}


def label(axis: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    """Names in a column beside the plot, in the dots' order, each with a line to its dot."""
    line = {"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.5, "relpos": (0, 0.5)}
    for i, (name, (x, y)) in enumerate(sorted(places.items(), key=lambda place: (place[1][1], -place[1][0]))):
        beside = (1.04, i / max(1, len(places) - 1))
        short = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
        axis.annotate(
            short, (x, y), xytext=beside, textcoords="axes fraction", fontsize=8, va="center", arrowprops=line
        )


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the pictures")
    folder = parser.parse_args().out
    for name, (study, draw) in PICTURES.items():
        draw(lines_of(study)).savefig(folder / f"{name}.png", dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    main()

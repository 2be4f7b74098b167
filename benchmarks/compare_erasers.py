"""Erasers under one protocol on the built-in model: erase, attack, measure.

    python benchmarks/compare_erasers.py LOG.jsonl WORK [--eraser NAME[:PRESET[:SEEDS]] ...]
        [--concept NAME ...] [--attacks NAME ...] [--columns NAME ...]

Makes a table for each concept on standard output, and WORK/safety_and_harm.png. Each cell is a folder of
WORK, erased and evaluated in processes of their own, so that peak memory is the cell's own. A finished cell
is one line of the log, and only what is missing there is run: the log alone makes the tables again, also of
fewer attacks than were run. Several processes may share a log where their cells differ, and so may machines:
a line names the device, and the tables tell seconds and memory of processors only. The rows `original` and
`gold` are the model before erasing and the one trained without the concept.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgrace._util import registry
from sgrace.evaluation.schema import AttackRow, Evaluation, Rate
from sgrace.evaluation.suites import SUITES
from sgrace.metrics import Share
from sgrace.metrics.attack_success import worst_case
from sgrace.testbeds import emoji

from comparison_cells import PROCESSOR, REFERENCES, Cell, Row, cell_of, is_guidance  # isort: skip

#: Methods were looked at on these while they were made; settings were chosen on other concepts, or on other
#: prompts of these.
LOOKED_AT = ("weapon", "church", "line art")
#: A family and a class that no setting of any method was chosen on; they were named before the first look.
NEVER_TUNED_ON = ("vehicle", "guitar")
ATTACKS = ("none", "unlearn_diff_atk", "p4d_n", "ring_a_bell_hard", "concept_inversion")
WITHHELD = ("withheld neighbours", "withheld unrelated")
QUESTIONS = ("target", "synonyms", "neighbours", "unrelated", *WITHHELD, "rest")
RETAINED = (*WITHHELD, "rest")
MEASURES = (
    "worst case",
    "worst by prompt",
    *QUESTIONS,
    "FID",
    "KID",
    "LPIPS",
    "CLIP score",
    "seconds",
    "denoiser / text rows",
    "MB",
)


def pooled(shares: list[Share] | list[Rate]) -> str:
    """Hits of several seeds together, with their interval, and of each."""
    observed = [s.observations for s in shares if s.observations is not None]
    rate = Rate.of(Share(sum(s.hits for s in shares), sum(s.n for s in shares), sum(observed) or None))
    each = f" ({', '.join(str(s.hits) for s in shares)})" if len(shares) > 1 else ""
    return f"{rate.share:.0%} [{rate.low:.0%}, {rate.high:.0%}]{each}"


def row_of(cell: Cell, attack: str) -> AttackRow:
    """What an attack found."""
    return next(row for row in cell.evaluation.attacks if row.attack == attack)


def mean(values: list[float]) -> float:
    """Mean over seeds."""
    return sum(values) / len(values)


def texts_of(cells: list[Cell], attacks: list[str]) -> list[str]:
    """Table cells of one row."""
    found = [cell.evaluation for cell in cells]
    plain = [name for name in attacks if registry.load("attacks", name).by_text]
    texts = [
        pooled([row_of(cell, name).success for cell in cells])
        + (" unreliable" if any(row_of(cell, name).unreliable for cell in cells) else "")
        for name in attacks
    ]
    texts += [pooled([worst(cell, names) for cell in cells]) for names in (attacks, plain)]
    for question in QUESTIONS:
        rates = [row.after for e in found for row in e.retention if row.question == question]
        texts.append(pooled(rates) if rates else "")
    fidelity = [e.fidelity for e in found if e.fidelity]
    measures = {"fid": ".4f", "kid": ".5f", "lpips": ".3f", "clip_score_after": ".1f"}
    texts += [
        format(mean([getattr(f, name) for f in fidelity]), digits) if fidelity else ""
        for name, digits in measures.items()
    ]
    recipes = [cell.recipe for cell in cells if cell.recipe]
    if not recipes:
        return texts + [""] * 3
    rows = [
        mean([recipe["cost"][name] for recipe in recipes]) for name in ("denoiser_rows", "text_encoder_rows")
    ]
    counted = f"{rows[0]:.0f} / {rows[1]:.0f}"
    if any(cell.device != PROCESSOR for cell in cells):
        return [*texts, "", counted, ""]
    seconds = mean([recipe["seconds"] for recipe in recipes])
    memory = mean([recipe["peak_memory_mb"] for recipe in recipes])
    return [*texts, f"{seconds:.0f}", counted, f"{memory:.0f}"]


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Markdown, with the longer side downwards."""
    first, *others = [head, *rows] if len(rows) >= len(head) else zip(head, *rows, strict=True)
    return markdown(first, others)


def markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table with these rows."""
    rule = "|" + "---|" * len(head)
    return "\n".join([_line(head), rule, *map(_line, rows)])


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def protocol_of(evaluation: Evaluation) -> str:
    """What stands beside every figure."""
    detector = evaluation.detector
    n = evaluation.worst_case.n
    known = f"{detector['name']}, weights {detector['weights'][:8]}, threshold {detector['threshold']}"
    return f"suite {evaluation.suite}, {n} prompts, attacks' seed {evaluation.seed}; detector {known}"


def worst(cell: Cell, attacks: list[str]) -> Share:
    """Prompts on which any of some attacks succeeds."""
    reliable = [name for name in attacks if not row_of(cell, name).unreliable]
    return worst_case({name: cell.verdicts[name] for name in reliable or attacks})


def place(cells: list[Cell], attacks: list[str]) -> tuple[float, float]:
    """Where the plot has the row: images of what should stay drawn right, and prompts brought back, in %."""
    shares = [
        row.after.share for cell in cells for row in cell.evaluation.retention if row.question in RETAINED
    ]
    return 100 * mean(shares), 100 * mean([worst(cell, attacks).value for cell in cells])


def label(axis: Axes, points: dict[str, tuple[float, float]]) -> None:
    """Names in a column beside the plot, in the dots' order, each with a line to its dot."""
    line = {"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.5, "relpos": (0, 0.5)}
    for i, (name, (x, y)) in enumerate(sorted(points.items(), key=lambda point: (point[1][1], -point[1][0]))):
        place = (1.04, i / max(1, len(points) - 1))
        axis.annotate(
            name, (x, y), xytext=place, textcoords="axes fraction", fontsize=8, va="center", arrowprops=line
        )


def main() -> None:
    """Fill the log, print one table per concept, draw the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument(
        "--eraser", nargs="+", default=[*REFERENCES, *sorted(registry.names("erasers"), key=is_guidance)]
    )
    parser.add_argument("--concept", nargs="+", default=[*LOOKED_AT, *NEVER_TUNED_ON])
    parser.add_argument(
        "--attacks", nargs="+", default=list(ATTACKS), help="names, or `suite` for all that the suite has"
    )
    parser.add_argument("--suite", default="standard")
    parser.add_argument("--columns", nargs="+", help="attacks and measures of the tables; all, if absent")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    attacks = list(SUITES[arguments.suite].attacks) if arguments.attacks == ["suite"] else arguments.attacks
    figure = Figure(figsize=(5.5 * len(arguments.concept), 4.5), layout="constrained")
    for at, concept in enumerate(arguments.concept):
        axis = figure.add_subplot(1, len(arguments.concept), at + 1, title=concept)
        axis.set(
            xlabel="neighbours, unrelated and rest of the prompt drawn right, %",
            ylabel="prompts shown under the worst attack, %",
        )
        rows: list[tuple[str, ...]] = []
        points: dict[str, tuple[float, float]] = {}
        for row in map(Row.parse, arguments.eraser):
            if row.eraser == "gold" and concept not in emoji.gold_concepts():
                continue
            key = {"eraser": row.eraser, "preset": row.preset, "concept": concept, "suite": arguments.suite}
            cells = [
                cell_of(arguments.log, arguments.work, {**key, "seed": seed}, attacks)
                for seed in range(row.seeds)
            ]
            rows.append((row.title, str(row.seeds), *texts_of(cells, attacks)))
            colour = (
                "#2d6a9f" if row.eraser in REFERENCES else "#999999" if is_guidance(row.eraser) else "#c0392b"
            )
            points[row.title] = place(cells, attacks)
            axis.scatter(*points[row.title], color=colour)
        label(axis, points)
        head = ("", "seeds", *attacks, *MEASURES)
        kept = [0, 1, *(head.index(name) for name in arguments.columns or head[2:])]
        shown = [tuple(line[i] for i in kept) for line in (head, *rows)]
        print(f"\n{concept}; {protocol_of(cells[0].evaluation)}\n\n{table(shown[0], shown[1:])}", flush=True)
    figure.savefig(arguments.work / "safety_and_harm.png", dpi=150)


if __name__ == "__main__":
    main()

"""Erasers under one protocol on the built-in model: erase, attack, measure.

    python benchmarks/compare_erasers.py LOG.jsonl WORK [--eraser NAME[:PRESET[:SEEDS]] ...]
        [--concept NAME ...] [--attacks NAME ...] [--columns NAME ...] [--glance]

Makes a table for each concept on standard output, or one of all concepts, and WORK/safety_and_harm.png. Each
cell is a folder of WORK, erased and evaluated in processes of their own, so that peak memory is the cell's
own. A finished cell is one line of the log, and only what is missing there is run: the log alone makes the
tables again, also of fewer attacks than were run. Several processes may share a log where their cells differ,
and so may machines: a line names the device, and the tables tell seconds and memory of processors only. The
rows `original` and `gold` are the model before erasing and the one trained without the concept.
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
#: The class was drawn by lot: `guitar`, the first one, was looked at when S-GRACE failed on it.
NEVER_TUNED_ON = ("vehicle", "light bulb")
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
    plain = by_prompt(attacks)
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
    timed = [cell.recipe for cell in cells if cell.recipe and cell.device == PROCESSOR]
    if not timed:
        return [*texts, "", counted, ""]
    seconds = mean([recipe["seconds"] for recipe in timed])
    memory = mean([recipe["peak_memory_mb"] for recipe in timed])
    return [*texts, f"{seconds:.0f}", counted, f"{memory:.0f}"]


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


def by_prompt(attacks: list[str]) -> list[str]:
    """The attacks whose result a user could enter as a prompt."""
    return [name for name in attacks if registry.load("attacks", name).by_text]


def worst(cell: Cell, attacks: list[str]) -> Share:
    """Prompts on which any of some attacks succeeds."""
    reliable = [name for name in attacks if not row_of(cell, name).unreliable]
    return worst_case({name: cell.verdicts[name] for name in reliable or attacks})


def kept(cells: list[Cell]) -> float:
    """Images that are drawn right, as a part of those before erasing, in %.

    Mean over seeds, withheld neighbours, withheld unrelated classes and the rest of the prompt.
    """
    parts = [
        row.after.share / row.before.share
        for cell in cells
        for row in cell.evaluation.retention
        if row.question in RETAINED and row.before is not None
    ]
    return 100 * mean(parts)


def brought_back(cells: list[Cell], attacks: list[str]) -> float:
    """Prompts on which any of some attacks succeeds, in %."""
    return 100 * mean([worst(cell, attacks).value for cell in cells])


Found = dict[str, list[Cell]]  # cells of a concept, by the title of their row


def glance(found: dict[str, Found], attacks: list[str]) -> str:
    """One table of all concepts, in %: brought back by prompts and by a learned word, and kept."""
    plain = by_prompt(attacks)
    words = [name for name in attacks if name not in plain]
    columns = [f"{concept}: {what}" for concept in found for what in ("prompts", "words", "kept")]
    rows = []
    for title in dict.fromkeys(title for cells in found.values() for title in cells):
        row = [title]
        for cells in (own.get(title) for own in found.values()):
            if cells is None:
                row += [""] * 3
                continue
            shares = [brought_back(cells, names) if names else None for names in (plain, words)]
            row += ["" if share is None else f"{share:.0f}" for share in (*shares, kept(cells))]
        rows.append(tuple(row))
    return markdown(("", *columns), rows)


def colour_of(title: str) -> str:
    """Blue for models that nothing was erased from, grey for what steers the sampling, red for the others."""
    if title in REFERENCES:
        return "#2d6a9f"
    return "#999999" if title.endswith("(guidance)") else "#c0392b"


def picture(found: dict[str, Found], attacks: list[str], file: Path) -> None:
    """One plot for each concept, one dot for each row: what is kept, what attacks by prompt bring back."""
    # one below the other: side by side, the names are too small to read on a page
    figure = Figure(figsize=(8, 4.8 * len(found)), layout="constrained")
    # a learned word brings nearly everything back where the denoiser was not touched: it would hide the rest
    plain = by_prompt(attacks)
    for at, (concept, rows) in enumerate(found.items(), 1):
        axis = figure.add_subplot(len(found), 1, at, title=concept)
        axis.set(xlabel="kept of what no list names and of the rest of the prompt, %")
        axis.set(ylabel="brought back by any attack by prompt, %")
        points = {title: (kept(cells), brought_back(cells, plain)) for title, cells in rows.items()}
        for title, place in points.items():
            axis.scatter(*place, color=colour_of(title))
        label(axis, points)
    figure.savefig(file, dpi=100, metadata={"Software": None})


def label(axis: Axes, points: dict[str, tuple[float, float]]) -> None:
    """Names in a column beside the plot, in the dots' order, each with a line to its dot."""
    line = {"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.5, "relpos": (0, 0.5)}
    for i, (name, (x, y)) in enumerate(sorted(points.items(), key=lambda point: (point[1][1], -point[1][0]))):
        place = (1.04, i / max(1, len(points) - 1))
        axis.annotate(
            name, (x, y), xytext=place, textcoords="axes fraction", fontsize=8, va="center", arrowprops=line
        )


def parsed() -> argparse.Namespace:
    """The command line."""
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
    parser.add_argument("--glance", action="store_true", help="one table of all concepts instead")
    return parser.parse_args()


def main() -> None:
    """Fill the log, print one table per concept or of all, draw the plot."""
    arguments = parsed()
    arguments.work.mkdir(parents=True, exist_ok=True)
    attacks = list(SUITES[arguments.suite].attacks) if arguments.attacks == ["suite"] else arguments.attacks
    found: dict[str, Found] = {}
    for concept in arguments.concept:
        found[concept] = {}
        for row in map(Row.parse, arguments.eraser):
            if row.eraser == "gold" and concept not in emoji.gold_concepts():
                continue
            key = {"eraser": row.eraser, "preset": row.preset, "concept": concept, "suite": arguments.suite}
            found[concept][row.title] = [
                cell_of(arguments.log, arguments.work, {**key, "seed": seed}, attacks)
                for seed in range(row.seeds)
            ]
        cells = found[concept]
        rows = [(title, str(len(own)), *texts_of(own, attacks)) for title, own in cells.items()]
        head = ("", "seeds", *attacks, *MEASURES)
        shown = [0, 1, *(head.index(name) for name in arguments.columns or head[2:])]
        lines = [tuple(line[i] for i in shown) for line in (head, *rows)]
        if not arguments.glance:
            known = protocol_of(next(iter(cells.values()))[0].evaluation)
            print(f"\n{concept}; {known}\n\n{markdown(lines[0], lines[1:])}", flush=True)
    if arguments.glance:
        print(glance(found, attacks))
    picture(found, attacks, arguments.work / "safety_and_harm.png")


if __name__ == "__main__":
    main()

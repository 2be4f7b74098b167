"""Erasers over their length of training: how long each takes to a given robustness, on the built-in model.

    python benchmarks/robustness_over_time.py LOG.jsonl [--eraser NAME:PRESET ...] [--concept NAME]
        [--factor 0.25 0.5 1 2] [--plot FILE.png]

Each eraser runs at its preset with its length times each factor; closed forms without a length run once. The
result is evaluated with the suite `quick` on prompts that attack the text, and with a learned word. Prints a
table and draws both against the seconds of erasing; a dot's colour is the FID of the evaluation's images
before and after erasing. Seconds are of one machine in one thread. A cell is a line of the log; the same
command again runs what is missing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from sgrace import api
from sgrace._util import registry
from sgrace.concept import Kind
from sgrace.testbeds import emoji

ATTACKS = ("none", "unlearn_diff_atk", "p4d_n", "ring_a_bell_hard", "concept_inversion")
#: Settings that make a run longer; most methods have `iterations`.
LENGTHS = {
    "sgrace:replacement": ("rounds",),
    "sgrace:corrected": ("rounds",),
    "sgrace:full": ("denoiser_steps",),
    "race:emoji": ("iterations", "plain_iterations"),
    "rece:emoji": ("epochs",),
    "recare:emoji": ("iterations", "search_iterations"),
    "stereo:emoji": ("iterations", "search_iterations"),
    "speed:emoji": (),
    "uce:emoji": (),
}


class Row(NamedTuple):
    """A line of the log, as the table and the plot show it."""

    eraser: str
    factor: float
    seconds: float
    rows: int
    by_prompt: float
    learned: float
    fid: float

    @classmethod
    def of(cls, line: dict[str, Any]) -> Row:
        """The figures of a line."""
        found = line["evaluation"]
        word = next(row for row in found["attacks"] if row["attack"] == "concept_inversion")
        return cls(
            line["key"]["eraser"],
            line["key"]["factor"],
            line["seconds"],
            line["cost"]["denoiser_rows"],
            found["worst_case_by_prompt"]["share"],
            word["success"]["share"],
            found["fidelity"]["fid"],
        )


def settings_of(eraser: str, kind: Kind, factor: float) -> dict[str, str]:
    """The preset's lengths times the factor."""
    name, _, preset = eraser.partition(":")
    config = registry.load("erasers", name).preset(preset, kind).config
    names = LENGTHS.get(eraser, ("iterations",))
    return {each: str(max(1, round(factor * getattr(config, each)))) for each in names}


def cell(key: dict[str, Any]) -> dict[str, Any]:
    """Erase and evaluate."""
    name, _, preset = key["eraser"].partition(":")
    model = api.load_model("emoji")
    erasure = api.erase(
        model, key["concept"], method=name, preset=preset, settings=key["settings"], seed=key["seed"]
    )
    found = api.evaluate(erasure, suite="quick", attacks=ATTACKS)
    return {
        "key": key,
        "seconds": erasure.recipe.seconds,
        "cost": erasure.recipe.cost.model_dump(),
        "evaluation": found.model_dump(mode="json", exclude={"concept_space", "drift", "target"}),
    }


def default_erasers() -> list[str]:
    """Those that change weights, at the preset for the built-in model; S-GRACE at its own."""
    kinds = {name: registry.load("erasers", name) for name in registry.names("erasers")}
    names = [name for name, kind in kinds.items() if "emoji" in kind.presets and kind.guidance_type is None]
    return ["sgrace:replacement", "sgrace:full", "adv_unlearn:emoji-contexts", *(f"{n}:emoji" for n in names)]


def plot(rows: Sequence[Row], file: Path) -> None:
    """A panel for prompts and one for learned words: a line for each eraser, through its lengths."""
    figure = Figure(figsize=(13, 6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    panels = {"by_prompt": "worst attack by prompt", "learned": "learned word, worst of its starts"}
    names = list(dict.fromkeys(row.eraser for row in rows))
    dots = None
    for axis, (measure, title) in zip(axes, panels.items(), strict=True):
        axis.set(title=title, xscale="log", xlabel="seconds of erasing", ylim=(-3, 103))
        for name in names:
            own = [row for row in rows if row.eraser == name]
            x = [row.seconds for row in own]
            y = [100 * getattr(row, measure) for row in own]
            axis.plot(x, y, linewidth=2 if name.startswith("sgrace") else 0.7, color="#999999", zorder=1)
            fid = [row.fid for row in own]
            dots = axis.scatter(x, y, c=fid, vmin=0, vmax=max(r.fid for r in rows), cmap="viridis", zorder=2)
            axis.annotate(name.removesuffix(":emoji"), (x[-1], y[-1]), fontsize=7)
    axes[0].set_ylabel("images that show the concept, %")
    if dots is not None:
        figure.colorbar(dots, label="FID, before and after erasing")
    figure.savefig(file, dpi=120)


def main() -> None:
    """Fill the log, print the table, draw the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", type=Path)
    parser.add_argument("--eraser", nargs="+", default=default_erasers(), metavar="NAME:PRESET")
    parser.add_argument("--concept", default="weapon")
    parser.add_argument("--factor", nargs="+", type=float, default=[0.25, 0.5, 1, 2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    log: Path = arguments.log
    known = [json.loads(text) for text in log.read_text().splitlines()] if log.exists() else []
    kind = emoji.resolve(arguments.concept).kind
    rows = []
    for eraser in arguments.eraser:
        for factor in arguments.factor if LENGTHS.get(eraser, True) else [1]:
            key = {"eraser": eraser, "factor": factor, "concept": arguments.concept, "seed": arguments.seed}
            key["settings"] = settings_of(eraser, kind, factor)
            line = next((line for line in known if line["key"] == key), None)
            if line is None:
                line = cell(key)
                with log.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            rows.append(Row.of(line))
    print("| eraser | length | seconds | denoiser rows | by prompt | learned word | FID |")
    print("|---" * 7 + "|")
    for row in rows:
        print(
            f"| {row.eraser} | {row.factor:g} | {row.seconds:.0f} | {row.rows} | {row.by_prompt:.0%} "
            f"| {row.learned:.0%} | {row.fid:.4f} |"
        )
    if arguments.plot:
        plot(rows, arguments.plot)


if __name__ == "__main__":
    main()

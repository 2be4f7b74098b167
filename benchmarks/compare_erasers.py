"""Every eraser under one protocol on the built-in model: erase, attack, measure; a table, and a picture of safety against harm.

    python benchmarks/compare_erasers.py WORK [--eraser NAME ...] [--concept NAME ...] [--seeds 1] [--suite standard]

Each cell is a folder of WORK that `sgrace erase` and `sgrace evaluate` write, in processes of their own, so that peak memory is the cell's
own; the same command again runs only what is missing. The rows `original` and `gold` are the model before erasing and the one trained
without the concept. The table goes to standard output, the picture to WORK/safety_and_harm.png.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from matplotlib.figure import Figure

from sgrace import emoji, registry
from sgrace.erasers.base import Erasure
from sgrace.evaluation.schema import Evaluation, Rate
from sgrace.metrics import Share

ATTACKS = ("none", "unlearn_diff_atk", "p4d_n", "ring_a_bell_hard", "concept_inversion")
QUESTIONS = ("synonyms", "neighbours", "unrelated", "rest")


def preset_of(eraser: str) -> str:
    """The preset made for the built-in model, or the default where the method has only one."""
    kind = registry.load("erasers", eraser)
    return "emoji" if "emoji" in kind.presets else kind.default_preset


def sgrace(*arguments: str | Path) -> None:
    """Run the command line; its progress bars stay visible."""
    subprocess.run([sys.executable, "-m", "sgrace", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def evaluation_of(work: Path, eraser: str, concept: str, seed: int, suite: str) -> tuple[Evaluation, Erasure | None]:
    """One cell, made where it is missing."""
    cell = work / f"{eraser}-{concept.replace(' ', '-')}-{seed}"
    target, erasure = "emoji", None
    if eraser == "gold":
        target = str(emoji.gold_path(concept))
    elif eraser != "original":
        target = str(cell / "erasure")
        if not (cell / "erasure").exists():
            sgrace("erase", concept, "--method", eraser, "--preset", preset_of(eraser), "--seed", str(seed), "--out", target)
        erasure = Erasure.from_pretrained(target)
    result = cell / f"evaluation-{suite}"
    if not (result / "report.html").exists():
        more = ("--concept", concept, "--base", "emoji") if eraser == "original" else ()
        sgrace("evaluate", target, "--suite", suite, "--attacks", ",".join(ATTACKS), "--out", result, *more)
    return Evaluation.from_file(result / "evaluation.json"), erasure


def pooled(rates: list[Rate]) -> str:
    """Hits of several seeds together, with their interval."""
    rate = Rate.of(Share(sum(r.hits for r in rates), sum(r.n for r in rates)))
    return f"{rate.share:.0%} [{rate.low:.0%}, {rate.high:.0%}]"


def mean(values: list[float]) -> float:
    """Mean over seeds."""
    return sum(values) / len(values)


def row_of(cells: list[tuple[Evaluation, Erasure | None]]) -> tuple[list[str], float, float]:
    """Table cells of one eraser, the worst attack's success, and the mean retention of neighbours and unrelated classes."""
    found = [evaluation for evaluation, _ in cells]
    texts = [pooled([next(row.success for row in e.attacks if row.attack == name) for e in found]) for name in ATTACKS]
    texts.append(pooled([e.worst_case for e in found]))
    kept = {q: [row.after for e in found for row in e.retention if row.question == q] for q in QUESTIONS}
    texts += [pooled(rates) if rates else "" for rates in kept.values()]
    fidelity = [e.fidelity for e in found if e.fidelity]
    texts += [f"{mean([f.fid for f in fidelity]):.4f}", f"{mean([f.kid for f in fidelity]):.5f}"] if fidelity else ["", ""]
    texts.append(f"{mean([f.clip_score_after for f in fidelity]):.1f}" if fidelity else "")
    recipes = [erasure.recipe for _, erasure in cells if erasure]
    if recipes:
        rows = [mean([recipe["cost"][name] for recipe in recipes]) for name in ("unet_rows", "text_encoder_rows")]
        seconds, memory = (mean([recipe[name] for recipe in recipes]) for name in ("seconds", "peak_memory_mb"))
        texts += [f"{seconds:.0f}", f"{rows[0]:.0f} / {rows[1]:.0f}", f"{memory:.0f}"]
    else:
        texts += [""] * 3
    both = [rate.share for q in ("neighbours", "unrelated") for rate in kept[q]]
    return texts, mean([e.worst_case.share for e in found]), mean(both)


def is_guidance(eraser: str) -> bool:
    """Whether it steers the sampling and changes no weights: not to be ranked with those that do, as whoever has the model can leave it."""
    return eraser in registry.names("erasers") and registry.load("erasers", eraser).form == "guidance"


def main() -> None:
    """Fill the work folder, print one table per concept, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--eraser", nargs="+", default=["original", "gold", *sorted(registry.names("erasers"), key=is_guidance)])
    parser.add_argument("--concept", nargs="+", default=["weapon", "church", "line art"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--suite", default="standard")
    arguments = parser.parse_args()
    figure = Figure(figsize=(5 * len(arguments.concept), 4.5), layout="constrained")
    for at, concept in enumerate(arguments.concept):
        axis = figure.add_subplot(1, len(arguments.concept), at + 1, title=concept)
        axis.set(xlabel="neighbours and unrelated classes drawn right, %", ylabel="prompts brought back by the worst attack, %")
        columns = [*ATTACKS, "worst case", *QUESTIONS, "FID", "KID", "CLIP score", "seconds", "UNet / text rows", "MB"]
        print(f"\n{concept}, suite {arguments.suite}\n\n| eraser | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
        for eraser in arguments.eraser:
            if eraser == "gold" and concept not in emoji.gold_concepts():
                continue
            seeds = 1 if eraser in {"original", "gold"} else arguments.seeds
            cells = [evaluation_of(arguments.work, eraser, concept, seed, arguments.suite) for seed in range(seeds)]
            texts, worst, kept = row_of(cells)
            print(f"| {eraser}{' (guidance)' if is_guidance(eraser) else ''} | " + " | ".join(texts) + " |", flush=True)
            colour = "#2d6a9f" if eraser in {"original", "gold"} else "#999999" if is_guidance(eraser) else "#c0392b"
            axis.scatter(100 * kept, 100 * worst, color=colour)
            axis.annotate(eraser, (100 * kept, 100 * worst), xytext=(4, 4), textcoords="offset points", fontsize=8)
    figure.savefig(arguments.work / "safety_and_harm.png", dpi=150)


if __name__ == "__main__":
    main()

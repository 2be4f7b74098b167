"""S-GRACE on the built-in model: every preset, concept and seed, judged on prompts that erasing never uses.

    python benchmarks/sgrace_presets.py LOG.jsonl [--preset P ...] [--concept C ...] [--seeds 3] [--set
    KEY=VALUE ...]

Each finished run is one line of the log; the same command again goes on where it was. At the end it prints a
table: the share after erasing as a part of the share before, with the hits behind it, and the seconds of the
shortest and the longest erasure.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from sgrace import api
from sgrace._util.settings import parse_pairs
from sgrace.erasers.sgrace.presets import PRESETS
from sgrace.metrics import Share
from sgrace.models import DiffusionModel
from sgrace.testbeds import emoji
from sgrace.testbeds.emoji.judge import Judge
from sgrace.testbeds.emoji.measure import measure, probes

CONCEPTS = ("weapon", "church", "line art")
QUESTIONS = ("target", "synonyms", "withheld neighbours", "withheld unrelated")


def main() -> None:
    """Run what is missing in the log, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", type=Path)
    parser.add_argument("--preset", nargs="+", default=list(PRESETS))
    parser.add_argument("--concept", nargs="+", default=list(CONCEPTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n", type=int, default=96, help="images of each question and seed")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    settings = parse_pairs(arguments.set)
    lines = arguments.log.read_text().splitlines() if arguments.log.exists() else []
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    model = api.load_model("emoji")
    judge = Judge.from_pretrained(emoji.path())

    def shares(of: DiffusionModel, concept: str) -> dict[str, list[int]]:
        found, _ = measure(of, judge, probes(emoji.resolve(concept), arguments.n, seed=0))
        return {question: [share.hits, share.n] for question, share in found.items()}

    def run(preset: str, concept: str, seed: int) -> dict[str, Any]:
        key = {
            "preset": preset,
            "settings": settings,
            "concept": concept,
            "seed": seed,
            "images": arguments.n,
        }
        for row in rows:
            if all(row[name] == value for name, value in key.items()):
                return row
        if preset == "original":
            row = {**key, "shares": shares(model, concept)}
        else:
            erasure = api.erase(model, concept, preset=preset, settings=settings, seed=seed)
            row = {**key, "seconds": erasure.recipe.seconds, "shares": shares(erasure.apply(model), concept)}
        rows.append(row)
        with arguments.log.open("a") as log:
            log.write(json.dumps(row) + "\n")
        return row

    print(
        "| concept | preset | "
        + " | ".join(QUESTIONS)
        + " | seconds |\n|---|---|"
        + "---|" * (len(QUESTIONS) + 1)
    )
    for concept in arguments.concept:
        before = run("original", concept, 0)["shares"]
        print(
            f"| {concept} | (before) | " + " | ".join(str(Share(*before[q])) for q in QUESTIONS) + " | |",
            flush=True,
        )
        for preset in arguments.preset:
            after: dict[str, list[int]] = defaultdict(lambda: [0, 0])
            found = [run(preset, concept, seed) for seed in range(arguments.seeds)]
            for row in found:
                for question, (hits, n) in row["shares"].items():
                    after[question][0] += hits
                    after[question][1] += n
            cells = [
                f"{Share(*after[q]).value / max(Share(*before[q]).value, 1e-9):.0%} "
                f"({after[q][0]}/{after[q][1]})"
                for q in QUESTIONS
            ]
            seconds = sorted(row["seconds"] for row in found)
            print(
                f"| {concept} | {preset} | "
                + " | ".join(cells)
                + f" | {seconds[0]:.0f} to {seconds[-1]:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

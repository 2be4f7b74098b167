"""Erased text encoders in another denoiser: what is still erased, and still kept, on the built-in model.

    python benchmarks/transfer.py LOG.jsonl WORK [--eraser NAME:PRESET ...] [--concept NAME ...]
        [--into MODEL] [--suite quick]

Every eraser that changes the text encoder alone erases the concept from the built-in model. Its text encoder
is then evaluated in that model and in another one with such text encoders. The row `original` is both models
before erasing. Prints a table for each concept. A cell is a line of the log; the same command again runs what
is missing. WORK keeps the erasures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sgrace import api
from sgrace._util import registry
from sgrace.evaluation import Evaluation
from sgrace.study.schema import EraserRow
from sgrace.study.table import markdown
from sgrace.testbeds.loading import load_target

BASE = "emoji"
ORIGINAL = "original"
ATTACKS = ("none", "unlearn_diff_atk", "p4d_n", "ring_a_bell_hard", "concept_inversion")
QUESTIONS = ("target", "synonyms", "withheld neighbours", "withheld unrelated", "rest")


def text_erasers() -> list[str]:
    """Erasers that change the text encoder alone, at the preset for the built-in model."""
    plugins = {name: registry.load("erasers", name) for name in registry.names("erasers")}
    names = [name for name, kind in plugins.items() if kind.changes == "text" and "emoji" in kind.presets]
    ours = [f"sgrace:{preset}" for preset in ("published", "corrected", "replacement", "text")]
    return [ORIGINAL, *ours, "adv_unlearn:emoji-contexts", *names]


def row_of(text: str) -> EraserRow:
    """``NAME[:PRESET]``; by default the built-in model's preset."""
    eraser, _, preset = text.partition(":")
    return EraserRow(eraser=eraser, preset=preset or (None if eraser == ORIGINAL else "emoji"))


def erased(row: EraserRow, concept: str, seed: int, work: Path) -> Path:
    """Folder of the erasure, which is made if it is missing."""
    folder = work / "-".join([row.eraser, row.preset or "", concept.replace(" ", "-"), str(seed)])
    if not folder.exists():
        api.erase(BASE, concept, method=row.eraser, preset=row.preset, seed=seed).save_pretrained(folder)
    return folder


def measured(key: dict[str, Any], work: Path) -> dict[str, Any]:
    """A line of the log: the evaluation of one text encoder in one model."""
    row = EraserRow(eraser=key["eraser"], preset=key["preset"] or None)
    if row.eraser == ORIGINAL:
        loaded = load_target(key["place"], key["place"])
    else:
        folder = erased(row, key["concept"], key["seed"], work)
        loaded = load_target(folder, into=None if key["place"] == BASE else key["place"])
    found = api.evaluate(loaded, key["concept"], suite=key["suite"], attacks=ATTACKS)
    slim = found.model_dump(mode="json", exclude={"concept_space", "drift", "target"})
    return {"key": key, "evaluation": {**slim, "target": row.title}}


def line_of(title: str, place: str, found: Evaluation) -> tuple[str, ...]:
    """A row of the table."""
    shown = {row.attack: row.success for row in found.attacks}
    kept = {row.question: row.after for row in found.retention}
    rates = [
        *(shown[name] for name in ATTACKS),
        found.worst_case_by_prompt,
        *(kept.get(question) for question in QUESTIONS),
    ]
    return (title, place, *(f"{rate.share:.0%}" if rate else "" for rate in rates))


def main() -> None:
    """Fill the log, print a table for each concept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--eraser", nargs="+", default=text_erasers(), metavar="NAME:PRESET")
    parser.add_argument("--concept", nargs="+", default=["weapon", "church", "line art"])
    parser.add_argument("--into", default="emoji_narrow", metavar="MODEL")
    parser.add_argument("--suite", default="quick")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    log: Path = arguments.log
    arguments.work.mkdir(parents=True, exist_ok=True)
    known = [json.loads(text) for text in log.read_text().splitlines()] if log.exists() else []
    head = ("text encoder", "in", *ATTACKS, "worst by prompt", *QUESTIONS)
    for concept in arguments.concept:
        lines = []
        for row in map(row_of, arguments.eraser):
            for place in (BASE, arguments.into):
                key = {"eraser": row.eraser, "preset": row.preset or "", "concept": concept, "place": place}
                key |= {"suite": arguments.suite, "seed": arguments.seed}
                line = next((line for line in known if line["key"] == key), None)
                if line is None:
                    line = measured(key, arguments.work)
                    with log.open("a") as file:
                        file.write(json.dumps(line) + "\n")
                found = Evaluation.model_validate(line["evaluation"])
                lines.append(line_of(row.title, place, found))
        print(
            f"\n{concept}; suite {arguments.suite}, seed {arguments.seed}\n\n{markdown(head, lines)}",
            flush=True,
        )


if __name__ == "__main__":
    main()

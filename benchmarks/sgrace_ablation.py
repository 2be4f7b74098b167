"""S-GRACE's presets and each of their parts by itself, on prompts that no results table uses.

    python benchmarks/sgrace_ablation.py LOG.jsonl [--rung NAME ...] [--concept NAME ...] [--seeds 1] [--n 48]

A rung is a preset with some settings. Each is erased and judged on the `validation` prompts, synonyms and
choice of words: on these settings are chosen. A finished cell is one line of the log; the same command again
goes on where it was. At the end it prints a table for each concept: hits of all seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sgrace import api
from sgrace._util import registry
from sgrace.concept import Concept
from sgrace.models import DiffusionModel
from sgrace.testbeds import emoji
from sgrace.testbeds.emoji.judge import Judge
from sgrace.testbeds.emoji.measure import measure, probes
from sgrace.testbeds.emoji.testbed import EmojiTestbed
from sgrace.testbeds.scenes import find_testbed, scene_of

CONCEPTS = ("weapon", "church", "line art")
QUESTIONS = ("target", "synonyms", "withheld neighbours", "withheld unrelated", "rest")
ATTACKS = ("unlearn_diff_atk", "p4d_n", "concept_inversion")
N_PROMPTS = 24

#: The settings of `published` that `corrected` repairs, one at a time.
CORRECTIONS: dict[str, dict[str, str]] = {
    "latents at their own timestep": {"latent_timestep": "matched"},
    "the frozen prediction as goal": {"attack_target": "frozen_prediction"},
    "feature at the end token": {"feature_position": "first_eot"},
    "sign steps within a ball": {"attack_optimizer": "sign_pgd", "projection": "ball_then_range"},
    "new samples each round": {"carry": "false", "keep_bare_name": "true"},
    "filtered retain words": {"retain_words": "filtered", "retain_draw": "pool"},
    "hinge": {"erase_target": "hinge"},
    "ten times the learning rate": {"lr": "1e-4"},
}
#: What was added to `replacement`, one at a time.
IDEAS: dict[str, dict[str, str]] = {
    "cosine": {"lr": "8e-4", "lr_decay": "cosine", "rounds": "6", "edit_steps": "25"},
    "random words": {"random_share": "0.3"},
    "learned words": {"learned_words": "4"},
    "soft prompts": {"soft_prompts": "4"},
    "discriminator": {"discriminator_weight": "0.1"},
    "conditional keep term": {"parameter_weight": "0.3", "parameter_rule": "opposing"},
    "one sample": {"n_adversarial": "1", "clean_share": "0"},
    "eight pairs": {"n_pairs": "8"},
}


def rungs() -> dict[str, tuple[str, dict[str, str]]]:
    """Preset and settings of each rung, in the order of the table."""
    found: dict[str, tuple[str, dict[str, str]]] = {"published": ("published", {})}
    found |= {f"published, {name}": ("published", values) for name, values in CORRECTIONS.items()}
    found |= {preset: (preset, {}) for preset in ("corrected", "replacement")}
    found |= {f"replacement, {name}": ("replacement", values) for name, values in IDEAS.items()}
    return found | {"full": ("full", {})}


class Bench:
    """The original model and what judges the erased ones."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.model = api.load_model("emoji")
        self.testbed = EmojiTestbed()
        self.judge = Judge.from_pretrained(emoji.path())

    def shares(self, model: DiffusionModel, concept: str) -> dict[str, list[int]]:
        """Hits and images of each question."""
        asked = probes(emoji.resolve(concept), self.n, 0, "validation")
        found, _ = measure(model, self.judge, asked)
        return {question: [share.hits, share.n] for question, share in found.items()}

    def attacks(self, model: DiffusionModel, concept: str) -> dict[str, list[int]]:
        """Hits of each attack; of the words that one learned, the worst start."""
        known = Concept(name=concept, kind=self.testbed.kind_of(concept))
        prompts = self.testbed.prompts(known, N_PROMPTS, "validation")
        testbed = find_testbed(model, self.model, prompts=prompts)
        scene = scene_of(model, known, testbed, original=self.model)
        found = {}
        for name in ATTACKS:
            result = registry.load("attacks", name).preset("standard").run(scene)
            found[name] = [sum(result.shown), len(result.shown)]
        return found

    def cell(self, key: dict[str, Any]) -> dict[str, Any]:
        """One line of the log."""
        if key["rung"] == "original":
            return {**key, "shares": self.shares(self.model, key["concept"])}
        preset, settings = rungs()[key["rung"]]
        erasure = api.erase(self.model, key["concept"], preset=preset, settings=settings, seed=key["seed"])
        safe = erasure.apply(self.model)
        return {
            **key,
            "config": erasure.recipe.config,
            "seconds": erasure.recipe.seconds,
            "cost": erasure.recipe.cost.model_dump(),
            "shares": self.shares(safe, key["concept"]),
            "attacks": self.attacks(safe, key["concept"]),
        }


def line(name: str, cells: list[dict[str, Any]]) -> str:
    """A row of the table: hits of all seeds together."""
    texts = [name]
    for kind, names in (("shares", QUESTIONS), ("attacks", ATTACKS)):
        for each in names:
            rows = [cell[kind][each] for cell in cells if each in cell.get(kind, {})]
            texts.append(f"{sum(r[0] for r in rows)}/{sum(r[1] for r in rows)}" if rows else "")
    costs = [cell["cost"] for cell in cells if "cost" in cell]
    counted = ("denoiser_rows", "text_encoder_rows")
    texts += [f"{sum(cost[each] for cost in costs) / len(costs):.0f}" if costs else "" for each in counted]
    seconds = [cell["seconds"] for cell in cells if "seconds" in cell]
    texts.append(f"{min(seconds):.0f} to {max(seconds):.0f}" if seconds else "")
    return f"| {' | '.join(texts)} |"


def main() -> None:
    """Run what is missing in the log, then print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", type=Path)
    parser.add_argument("--rung", nargs="+", default=["original", *rungs()])
    parser.add_argument("--concept", nargs="+", default=list(CONCEPTS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--n", type=int, default=48, help="images of each question")
    arguments = parser.parse_args()
    log: Path = arguments.log
    known = [json.loads(text) for text in log.read_text().splitlines()] if log.exists() else []
    bench = Bench(arguments.n)
    tables = []
    for concept in arguments.concept:
        heads = [concept, *QUESTIONS, *ATTACKS, "denoiser rows", "text rows", "seconds"]
        rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for rung in arguments.rung:
            cells = []
            for seed in range(1 if rung == "original" else arguments.seeds):
                key = {"rung": rung, "concept": concept, "seed": seed, "n": arguments.n}
                found = next((row for row in known if key.items() <= row.items()), None)
                if found is None:
                    found = bench.cell(key)
                    with log.open("a") as file:
                        file.write(json.dumps(found) + "\n")
                cells.append(found)
            rows.append(line(rung, cells))
        tables.append("\n".join(rows))
    print("\n\n".join(tables))


if __name__ == "__main__":
    main()

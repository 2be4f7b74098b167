"""Do the attacks find a concept that is there, and none that is not? Every attack x target x length on the built-in model.

    python benchmarks/attack_validation.py LOG.jsonl --concept weapon --target original gold uce=FOLDER esd=FOLDER \
        [--length quick standard] [--attack NAME ...] [--prompts 24] [--limit ROWS]

``original`` knows the concept; ``gold`` was trained without it; a folder holds an erasure. Prompts that show the concept as they are, are
attacked too, so that the share is the attack's own. First comes what each target draws right of 96 pictures a question. A finished attack
is one line of the log; the same command again goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sgrace import api, emoji, registry
from sgrace.emoji.measure import measure, probes
from sgrace.erasers import Erasure
from sgrace.metrics import Share
from sgrace.models import StableDiffusion

N_PICTURES = 96


def main() -> None:
    """Run what is missing in the log, then print one table per length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--concept", default="weapon")
    parser.add_argument("--target", nargs="+", default=["original", "gold"], metavar="original|gold|NAME=FOLDER")
    parser.add_argument("--length", nargs="+", default=["quick", "standard"])
    parser.add_argument("--attack", nargs="+", default=[name for name in registry.names("attacks") if name != "none"])
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--limit", type=int, help="text-encoder rows of each attack on each target; none, if absent")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = [json.loads(line) for line in arguments.log.read_text().splitlines()] if arguments.log.exists() else []
    original = api.load_model("emoji")
    original.set_progress_bar_config(disable=True)

    def model_of(target: str) -> StableDiffusion:
        name, _, folder = target.partition("=")
        if name == "original":
            return original
        return (emoji.gold(arguments.concept) if name == "gold" else Erasure.from_pretrained(folder)).apply(original)

    def drawn_right(model: StableDiffusion) -> dict[str, Share]:
        return measure(model, emoji.Judge.from_pretrained(emoji.path()), probes(emoji.resolve(arguments.concept), N_PICTURES, seed=0))[0]

    def run(target: str, attack: str, length: str) -> dict[str, Any]:
        model = models[target]
        key = {"target": target.partition("=")[0], "concept": arguments.concept, "attack": attack, "length": length}
        key |= {"weights": weights[target], "limit": arguments.limit}
        for row in rows:
            if all(row.get(name) == value for name, value in key.items()) and row["n"] == arguments.prompts:
                return row
        scene = api.scene_of(model, arguments.concept, original=original, length="full")
        scene.prompts = scene.prompts[: arguments.prompts]
        budget = api.UNLIMITED.model_copy(update={"text_encoder_rows": arguments.limit} if arguments.limit else {})
        found = registry.load("attacks", attack).preset(length).run(scene, budget, every_prompt=True)
        row = {
            **key,
            "n": len(found.attempts),
            "plain": sum(a.pre for a in found.attempts),
            "attacked": sum(a.success for a in found.attempts),
            "checks": sum(a.checks for a in found.attempts),
            "survival": found.survival,
            "spent": found.record["spent"],
            "detector": found.record["detector"],
        }
        rows.append(row)
        with arguments.log.open("a") as log:
            log.write(json.dumps(row) + "\n")
        return row

    names = [target.partition("=")[0] for target in arguments.target]
    models = {target: model_of(target) for target in arguments.target}
    weights = {target: api.fingerprint(model) for target, model in models.items()}
    right = [drawn_right(model) for model in models.values()]
    print(f"{arguments.concept}: drawn right\n\n| question | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for question in right[0]:
        print(f"| {question} | " + " | ".join(str(shares[question]) for shares in right) + " |", flush=True)
    for length in arguments.length:
        limit = f", at most {arguments.limit:,} text-encoder rows" if arguments.limit else ""
        print(f"\n{arguments.concept}, {length}{limit}: prompts of {arguments.prompts} on which the attack itself succeeds\n")
        print("| attack | " + " | ".join(names) + " | seconds |\n|---|" + "---|" * (len(names) + 1))
        for attack in arguments.attack:
            found = [run(target, attack, length) for target in models]
            cells = [str(Share(row["attacked"], row["n"])) for row in found]
            seconds = " / ".join(f"{row['spent']['seconds']:.0f}" for row in found)
            print(f"| {attack} | " + " | ".join(cells) + f" | {seconds} |", flush=True)
        plain = [str(Share(row["plain"], row["n"])) for row in found]
        print("| (the prompts as they are) | " + " | ".join(plain) + " | |", flush=True)


if __name__ == "__main__":
    main()

"""Do the attacks find a concept that is there, and none that is not? On the built-in model.

    python benchmarks/attack_validation.py LOG.jsonl --concept weapon --target original gold uce=FOLDER \
        [--effort quick standard] [--attack NAME ...] [--set KEY=VALUE ...] [--prompts 24]

Every attack at every effort on every target. ``original`` knows the concept; ``gold`` was trained without it;
a folder holds an erasure. Prompts that show the concept as they are, are attacked too, so that the share is
the attack's own. First comes what each target draws right of 96 images of each question. A finished attack is
one line of the log; the same command again goes on where it was.

A search that reads the original's text encoder alone and starts once for each prompt finds the same texts
whatever the target: it is done for the first target, and its texts are only checked on the others.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sgrace import api
from sgrace._util import registry
from sgrace._util.settings import parse_pairs
from sgrace.attacks import Attack, AttackSet, Budget, Scene
from sgrace.attacks.attack_set import Cost
from sgrace.attacks.session import Session
from sgrace.erasure import Erasure
from sgrace.evaluation.requests import fingerprint
from sgrace.evaluation.suites import N_PROMPTS
from sgrace.metrics import Share
from sgrace.models import DiffusionModel
from sgrace.testbeds import emoji
from sgrace.testbeds.emoji.measure import measure, probes
from sgrace.testbeds.loading import Loaded
from sgrace.testbeds.scenes import prepare


def on_the_original_alone(attacker: Attack[Any]) -> bool:
    """Whether it finds the same texts whatever the target."""
    return attacker.access == "prompt" and getattr(attacker.config, "restarts", None) == 1


def checked(scene: Scene, found: AttackSet) -> AttackSet:
    """Texts that were found on another target, sampled and judged on this one."""
    session = Session(scene, Budget(), 0, every_prompt=True)
    session.check_plain()
    candidates = {i: found.attempts[i].candidate for i in session.open}
    texts = {i: text for i, text in candidates.items() if text}
    main = session.target.text.main
    session.check_texts(list(texts), [main.content_tokens(text) for text in texts.values()])
    spent = Cost.model_validate(session.spent())
    record = found.record.model_copy(update={"spent": spent, "detector": scene.detector.identity})
    return AttackSet(session.attempts, session.tensors, torch.stack(session.images), record)


def arguments_given() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", type=Path)
    parser.add_argument("--concept", default="weapon")
    parser.add_argument(
        "--target", nargs="+", default=["original", "gold"], metavar="original|gold|NAME=FOLDER"
    )
    parser.add_argument("--effort", nargs="+", default=["quick", "standard"])
    attacks = [name for name in registry.names("attacks") if name != "none"]
    parser.add_argument("--attack", nargs="+", default=attacks)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--images", type=int, default=96, help="images of each question of the first table")
    parser.add_argument(
        "--set", dest="pairs", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the attack"
    )
    return parser.parse_args()


def main() -> None:
    """Run what is missing in the log, then print one table for each effort."""
    arguments = arguments_given()
    settings = parse_pairs(arguments.pairs)
    found_before: dict[tuple[str, str], AttackSet] = {}
    lines = arguments.log.read_text().splitlines() if arguments.log.exists() else []
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    original = api.load_model("emoji")
    original.set_progress_bar_config(disable=True)

    def model_of(target: str) -> DiffusionModel:
        name, _, folder = target.partition("=")
        if name == "original":
            return original
        erasure = emoji.gold(arguments.concept) if name == "gold" else Erasure.from_pretrained(folder)
        return erasure.apply(original)

    def drawn_right(model: DiffusionModel) -> dict[str, Share]:
        asked = probes(emoji.resolve(arguments.concept), arguments.images, seed=0)
        found, _ = measure(model, emoji.Judge.from_pretrained(emoji.path()), asked)
        return found

    def run(target: str, attack: str, effort: str) -> dict[str, Any]:
        model = models[target]
        key = {
            "target": target.partition("=")[0],
            "concept": arguments.concept,
            "attack": attack,
            "effort": effort,
        }
        key |= {"weights": fingerprint(model).weights, "settings": settings or None, "n": arguments.prompts}
        for row in rows:
            if all(row.get(name) == value for name, value in key.items()):
                return row
        # the table of prompts is the longest one, cut: the same prompts whatever the effort
        scene = prepare(Loaded(model, original), arguments.concept, n_prompts=N_PROMPTS["full"]).scene
        scene = replace(scene, prompts=scene.prompts[: arguments.prompts])
        attacker = registry.load("attacks", attack).preset(effort, settings)
        searched = found_before.get((attack, effort)) if on_the_original_alone(attacker) else None
        if searched is None:
            found = attacker.run(scene, Budget(), every_prompt=True)
            found_before[attack, effort] = found
        else:
            found = checked(scene, searched)
        row = {
            **key,
            "plain": sum(a.pre for a in found.attempts),
            "attacked": sum(a.success for a in found.attempts),
            "observations": len(found.record.starts) or None,  # of images of the worst start
            "checks": sum(a.checks for a in found.attempts),
            "survival": found_before[attack, effort].survival,
            "spent": found.record.spent.model_dump(),
            "detector": found.record.detector.as_dict(),
        }
        rows.append(row)
        with arguments.log.open("a") as log:
            log.write(json.dumps(row) + "\n")
        return row

    names = [target.partition("=")[0] for target in arguments.target]
    models = {target: model_of(target) for target in arguments.target}
    right = [drawn_right(model) for model in models.values()]
    print(
        f"{arguments.concept}: drawn right\n\n| question | "
        + " | ".join(names)
        + " |\n|---|"
        + "---|" * len(names)
    )
    for question in right[0]:
        print(f"| {question} | " + " | ".join(str(shares[question]) for shares in right) + " |", flush=True)
    for effort in arguments.effort:
        chosen = "".join(f", {name}={value}" for name, value in settings.items())
        print(
            f"\n{arguments.concept}, {effort}{chosen}: "
            f"prompts of {arguments.prompts} on which the attack succeeds\n"
        )
        print("| attack | " + " | ".join(names) + " | seconds |\n|---|" + "---|" * (len(names) + 1))
        for attack in arguments.attack:
            found = [run(target, attack, effort) for target in models]
            cells = [str(Share(row["attacked"], row["n"], row.get("observations"))) for row in found]
            seconds = " / ".join(f"{row['spent']['seconds']:.0f}" for row in found)
            print(f"| {attack} | " + " | ".join(cells) + f" | {seconds} |", flush=True)
        plain = [str(Share(row["plain"], row["n"])) for row in found]
        print("| (the prompts as they are) | " + " | ".join(plain) + " | |", flush=True)


if __name__ == "__main__":
    main()

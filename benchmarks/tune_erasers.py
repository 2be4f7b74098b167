"""A search with the same effort for every eraser: the `emoji` presets are its winners.

    python benchmarks/tune_erasers.py LOG.jsonl [--eraser NAME ...] [--concept NAME ...] [--trials 4]

Every method gets the same number of trials: a first guess, then random points of its grid. Settings that are
not in the grid are the preset's. What a method is told of the concept is not searched: all its words,
wherever the method can take more than the name. A trial erases a class, a style and a family of classes that
no results table uses. Its score is the harmonic mean of what is gone of the concept (by name and by held-out
synonym) and of what is retained (neighbours, unrelated classes, the rest of prompts that name the concept),
as parts of the shares before. A finished erasure is a line of the log; the same command again goes on.
"""

from __future__ import annotations

import argparse
import json
import random
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from sgrace import api
from sgrace._util import registry
from sgrace.models import DiffusionModel
from sgrace.testbeds import emoji
from sgrace.testbeds.emoji.judge import Judge
from sgrace.testbeds.emoji.measure import measure, probes

CONCEPTS = ("fish", "silhouette", "fruit")
N_IMAGES = 32
RETAINED = ("withheld neighbours", "withheld unrelated", "rest")
#: What is searched: settings of each method and their values.
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "sgrace": {
        "lr": (2e-4, 4e-4, 8e-4),
        "retain_weight": (5, 15, 45),
        "clean_share": (0.25, 0.5, 0.75),
        "attack_lr": (0.002, 0.005, 0.02),
    },
    "uce": {"positions": ("last", "tail"), "n_retain": (50, 200, 800), "erase_weight": (0.5, 1, 4)},
    "rece": {"positions": ("last", "tail"), "n_retain": (50, 200, 800), "epochs": (1, 3, 6)},
    "esd": {
        "site": ("x", "u", "all"),
        "lr": (5e-5, 2e-4, 5e-4),
        "iterations": (80, 150, 300),
        "negative_guidance": (1.0, 2.0, 3.0),
    },
    "concept_ablation": {"lr": (5e-5, 2e-4, 5e-4), "iterations": (50, 100, 200), "retain_weight": (0, 1, 3)},
    "salun": {
        "mask_share": (0.3, 0.5, 0.8),
        "lr": (2e-5, 5e-5, 2e-4),
        "iterations": (40, 80, 160),
        "retain_weight": (0.3, 1, 3),
    },
    "erasediff": {
        "site": ("all", "not_text_attention"),
        "lr": (2e-5, 5e-5, 2e-4),
        "iterations": (40, 80, 160),
        "margin": (0.5, 1, 2),
    },
    "forget_me_not": {
        "lr": (1e-4, 2e-4, 4e-4),
        "iterations": (60, 120, 240),
        "text_end": ("none", "first"),
        "n_images": (64, 128),
    },
    "adv_unlearn": {
        "n_prompts": (0,),
        "retain_weight": (0.5, 1, 3),
        "lr": (1e-4, 2e-4, 4e-4),
        "negative_guidance": (0.5, 1, 2),
        "attack_lr": (0.005, 0.02, 0.08),
    },
    "hirm": {
        "direction": ("replacement", "subtract"),
        "lr": (5e-5, 1e-4, 3e-4),
        "iterations": (30, 60, 120),
    },
    "des": {
        "shift": (0, 3, 10),
        "retain_weight": (0.6, 0.8, 0.9),
        "lr": (2e-4, 5e-4, 1e-3),
        "iterations": (75, 150, 300),
    },
    "tea": {
        "anchors": ("replacements", "unrelated"),
        "adversarial_weight": (0.1, 0.2, 0.5),
        "lr": (5e-5, 2e-4, 5e-4),
        "iterations": (50, 100, 200),
    },
    "recare": {
        "site": ("x", "u", "all"),
        "lr": (5e-5, 2e-4, 5e-4),
        "retain_weight": (0.3, 1, 3),
        "anchor_weight": (0.3, 1),
    },
    "mace": {
        "ridge": (0.1, 1, 10),
        "lr": (1e-3, 3e-3, 1e-2),
        "iterations": (30, 60, 120),
        "fuse_retain": (1, 3, 10),
    },
    "speed": {"ridge": (0.1, 1, 10), "threshold": (0.03, 0.1, 0.3)},
    "stereo": {
        "site": ("x", "u", "all"),
        "lr": (5e-5, 2e-4, 5e-4),
        "retain_weight": (0, 1, 2),
        "anchors": ("scenes", "unrelated", "replacement"),
    },
    "spm": {"retain_weight": (0.3, 1, 3), "lr": (1e-3, 3e-3, 1e-2), "iterations": (75, 150, 300)},
    "sld": {
        "scale": (3, 10, 30),
        "threshold": (0.05, 0.3, 1.0),
        "momentum_scale": (0.0, 0.3, 0.5),
        "momentum": (0.4, 0.7),
    },
    "safree": {"alpha": (0.01, 0.1, 0.2), "negative": ("true", "false"), "filter_steps": (25, 50)},
    "receler": {
        "negative_guidance": (1, 2, 3),
        "outside_weight": (0.01, 0.03, 0.1),
        "lr": (5e-4, 1e-3, 2e-3),
        "attack_steps": (1, 2),
    },
    "race": {
        "site": ("x", "u", "all"),
        "lr": (5e-5, 2e-4, 5e-4),
        "radius": (0.03, 0.1, 0.3),
        "attack_steps": (2, 4),
    },
}

#: Where the search starts.
FIRST: dict[str, dict[str, str]] = {
    "sgrace": {"lr": "0.0004", "retain_weight": "5", "clean_share": "0.5", "attack_lr": "0.005"},
    "uce": {"positions": "tail", "n_retain": "200", "erase_weight": "1"},
    "rece": {"positions": "tail", "n_retain": "200", "epochs": "3"},
    "esd": {"site": "x", "lr": "0.0002", "iterations": "150", "negative_guidance": "2.0"},
    "concept_ablation": {"lr": "0.0002", "iterations": "100", "retain_weight": "1"},
    "salun": {"mask_share": "0.5", "lr": "5e-05", "iterations": "80", "retain_weight": "1"},
    "erasediff": {"site": "all", "lr": "5e-05", "iterations": "80"},
    "forget_me_not": {"lr": "0.0002", "iterations": "60", "text_end": "first", "n_images": "64"},
    "adv_unlearn": {
        "n_prompts": "0",
        "retain_weight": "3",
        "lr": "0.0002",
        "negative_guidance": "1",
        "attack_lr": "0.005",
    },
    "hirm": {"direction": "replacement", "lr": "0.0001", "iterations": "60"},
    "des": {"shift": "3", "retain_weight": "0.8", "lr": "0.0005", "iterations": "150"},
    "tea": {"anchors": "replacements", "adversarial_weight": "0.2", "lr": "0.0002", "iterations": "100"},
    "recare": {"site": "x", "lr": "0.0002", "retain_weight": "1", "anchor_weight": "1"},
    "mace": {"ridge": "1", "lr": "0.003", "iterations": "60", "fuse_retain": "3"},
    "speed": {"ridge": "1", "threshold": "0.1"},
    "stereo": {"site": "x", "lr": "0.0002", "retain_weight": "1", "anchors": "replacement"},
    "spm": {"retain_weight": "1", "lr": "0.003", "iterations": "150"},
    "sld": {"scale": "10", "threshold": "1.0", "momentum_scale": "0.3", "momentum": "0.4"},
    "safree": {"alpha": "0.1", "negative": "true", "filter_steps": "50"},
    "receler": {"negative_guidance": "2", "outside_weight": "0.03", "lr": "0.001", "attack_steps": "1"},
    "race": {"site": "x", "lr": "0.0002", "radius": "0.1", "attack_steps": "4"},
}


def score(after: dict[str, dict[str, float]]) -> float:
    """Harmonic mean of what a trial erased and what it retained, 0..1.

    No image at all counts as half a one, so that nothing is a tie.
    """
    erased = [shares[q] for shares in after.values() for q in ("target", "synonyms") if q in shares]
    retained = [shares[q] for shares in after.values() for q in RETAINED]
    parts = [1 - min(1.0, share) for share in erased] + [min(1.0, share) for share in retained]
    return len(parts) / sum(1 / max(part, 0.5 / N_IMAGES) for part in parts)


def points(eraser: str, trials: int) -> list[dict[str, str]]:
    """The first guess, then random points of the grid, no point twice; fewer where the grid has fewer."""
    grid = GRIDS[eraser]
    rng = random.Random(eraser)
    found = [FIRST[eraser]]
    for _ in range(100 * trials):
        point = {name: str(rng.choice(values)) for name, values in grid.items()}
        if len(found) < trials and point not in found:
            found.append(point)
    return found


class Trial(NamedTuple):
    """A point of the search: the shares after erasing, as parts of those before, by concept and question."""

    settings: dict[str, str]
    seconds: float
    after: dict[str, dict[str, float]]


def main() -> None:
    """Run what is missing in the log, then print the best point of every method."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", type=Path)
    parser.add_argument("--eraser", nargs="+", default=list(GRIDS))
    parser.add_argument("--concept", nargs="+", default=list(CONCEPTS))
    parser.add_argument("--trials", type=int, default=4)
    arguments = parser.parse_args()
    text = arguments.log.read_text() if arguments.log.exists() else ""
    found: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    # lines of before withheld classes were asked for say nothing of them: their trials run anew
    rows = [row for row in found if all(set(RETAINED) <= set(after) for after in row["after"].values())]
    model = api.load_model("emoji")
    model.set_progress_bar_config(disable=True)
    judge = Judge.from_pretrained(emoji.path())

    def shares(of: DiffusionModel, concept: str) -> dict[str, float]:
        asked = probes(emoji.resolve(concept), N_IMAGES, seed=2, prompt_set="validation")
        found, _ = measure(of, judge, asked)
        return {question: share.value for question, share in found.items()}

    before = cache(partial(shares, model))

    def run(eraser: str, settings: dict[str, str], concept: str) -> dict[str, Any]:
        kind = registry.load("erasers", eraser)
        preset = "emoji" if "emoji" in kind.presets else kind.default_preset
        erasure = api.erase(model, concept, method=eraser, preset=preset, settings=settings)
        found = shares(erasure.apply(model), concept)
        after = {question: share / max(before(concept)[question], 1e-9) for question, share in found.items()}
        row = {
            "eraser": eraser,
            "settings": settings,
            "seconds": erasure.recipe.seconds,
            "after": {concept: after},
        }
        with arguments.log.open("a") as log:
            log.write(json.dumps(row) + "\n")
        return row

    def trial(eraser: str, settings: dict[str, str]) -> Trial:
        lines = [row for row in rows if row["eraser"] == eraser and row["settings"] == settings]
        done = {concept for row in lines for concept in row["after"]}
        lines += [run(eraser, settings, concept) for concept in arguments.concept if concept not in done]
        lines = [row for row in lines if set(row["after"]) & set(arguments.concept)]
        after: dict[str, dict[str, float]] = {}
        for row in lines:
            after |= {
                concept: found for concept, found in row["after"].items() if concept in arguments.concept
            }
        return Trial(settings, round(sum(row["seconds"] for row in lines), 1), after)

    print("| eraser | score of the first guess | best score | at | seconds |\n|---|---|---|---|---|")
    for eraser in arguments.eraser:
        tried = [trial(eraser, settings) for settings in points(eraser, arguments.trials)]
        best = max(tried, key=lambda one: score(one.after))
        where = ", ".join(f"{name}={value}" for name, value in best.settings.items())
        figures = f"{score(tried[0].after):.3f} | {score(best.after):.3f}"
        print(f"| {eraser} | {figures} | {where} | {best.seconds} |", flush=True)


if __name__ == "__main__":
    main()

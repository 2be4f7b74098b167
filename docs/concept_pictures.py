"""Draw the pictures of the concept space: a minute of one core.

    python docs/concept_pictures.py [--out FOLDER] [--prompts 120] [--preset text] [--set KEY=VALUE ...]

Each point is a prompt, by the unit mean of its prompt embeddings, in the plane through the means of three
groups: prompts of the concept, of its neighbours and of unrelated words. All pictures share the plane, which
is that of the built-in model before erasing.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

import sgrace
from sgrace._util import registry
from sgrace._util.settings import parse_pairs
from sgrace.erasers._shared.adversarial_samples import adversarial_samples
from sgrace.evaluation.concept_space import text_features
from sgrace.evaluation.training_samples import features_of
from sgrace.knowledge import Target
from sgrace.metrics.plane import Plane, nearest_to_own
from sgrace.models import DiffusionModel
from sgrace.report.plots import Dots, Moves, draw_groups
from sgrace.testbeds import emoji

DOCS = Path(__file__).parent
CONCEPT = "weapon"
N_PROMPTS = 120  # of a group
#: Of both axes, the same in all pictures.
LIMITS = ((-0.75, 0.75), (-0.5, 0.6))
COLOURS = {CONCEPT: "#c0392b", "neighbours": "#2d6a9f", "unrelated": "#8a8a8a", "attacked": "#e08e0b"}


def target() -> Target:
    """The concept with its words."""
    testbed = emoji.EmojiTestbed()
    resolved = testbed.resolve(CONCEPT)
    return Target(resolved, testbed.words(resolved))


def groups(n: int = N_PROMPTS) -> dict[str, list[str]]:
    """Prompts of the concept, of its neighbours and of unrelated words, the same number of each."""
    words = target().words
    generator = torch.Generator().manual_seed(0)
    near = words.replacements
    far = [word for word in words.unrelated if word not in near]

    def some(names: Sequence[str]) -> list[str]:
        prompts = [context.format(name) for name in names for context in words.contexts]
        return [prompts[i] for i in torch.randperm(len(prompts), generator=generator)[:n].tolist()]

    return {CONCEPT: some(words.related), "neighbours": some(near), "unrelated": some(far)}


@torch.no_grad()
def points(model: DiffusionModel, prompts: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """Features of each group."""
    return {name: text_features(model.encode(list(own))).double() for name, own in prompts.items()}


def picture(file: Path, title: str, places: Mapping[str, Tensor], moves: Moves | None = None) -> None:
    """Write one picture; ``moves`` are places from and places to."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.add_subplot(title=title)
    axis.set(xlabel="first direction", ylabel="second direction", xlim=LIMITS[0], ylim=LIMITS[1])
    drawn = {
        label: Dots(
            own,
            COLOURS[next(key for key in COLOURS if label.startswith(key))],
            is_cross=label.startswith("attacked"),
        )
        for label, own in places.items()
    }
    draw_groups(axis, drawn, moves)
    figure.savefig(file, dpi=90, metadata={"Software": None})


def main() -> None:
    """Erase with S-GRACE and draw the space before, under attack and after."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the three pictures")
    parser.add_argument("--prompts", type=int, default=N_PROMPTS, help="prompts of a group")
    parser.add_argument("--preset", default="text", help="preset of S-GRACE")
    parser.add_argument(
        "--set", dest="pairs", nargs="+", default=[], metavar="KEY=VALUE", help="its settings"
    )
    given = parser.parse_args()
    model = sgrace.load_model("emoji")
    prompts = groups(given.prompts)
    before = points(model, prompts)
    plane = Plane(before)
    places = {name: plane(own) for name, own in before.items()}
    shares = [f"{share:.0%}" for share in nearest_to_own(places)]  # chance would be a third
    print("nearest to the mean of their own group:", ", ".join(shares))
    picture(given.out / "space_before.png", f"The original: {CONCEPT} has a place of its own", places)
    eraser = registry.load("erasers", "sgrace").preset(given.preset, "harmful", parse_pairs(given.pairs))
    with adversarial_samples() as found:
        erasure = eraser.erase(model, [target()])
    attacked = features_of(model, found, eraser.config, [target()])
    picture(
        given.out / "space_attacked.png",
        "Attack: samples start from the words and spread over the concept",
        {**places, "attacked prompts": plane(attacked)},
    )
    after = {name: plane(own) for name, own in points(erasure.apply(model), prompts).items()}
    picture(
        given.out / "space_after.png",
        f"After erasing: {CONCEPT} lies among its neighbours, the rest stays",
        after,
        Moves(places[CONCEPT], after[CONCEPT]),
    )


if __name__ == "__main__":
    main()

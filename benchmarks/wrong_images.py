"""What images show that became wrong by an erasure of the built-in model.

    sgrace erase vehicle --preset full -o safe
    python benchmarks/wrong_images.py safe

Asks the questions of retention of the original and of the erased model. Where the original's image was right
and the other is not, prints what the judge sees instead: a class, or the style where the rest of the prompt
is asked. The last line is the original's own drawing of the replacement, in the styles of that question.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sgrace import Erasure, load_model
from sgrace.models import DiffusionModel
from sgrace.testbeds import emoji
from sgrace.testbeds.emoji import vocabulary
from sgrace.testbeds.emoji.measure import GUIDANCE_SCALE, STEPS, Probe, probes
from sgrace.testbeds.questions import seeds_of

#: What the judge answers: the classes and none of them, and the styles.
CLASSES = (*vocabulary.classes(), "no class")
STYLES = tuple(vocabulary.STYLES)


def seen(model: DiffusionModel, judge: emoji.Judge, asked: Probe, *, is_style: bool) -> list[str]:
    """The class or the style that the judge sees in each image."""
    prompts = list(asked.prompts)
    seeds = seeds_of(asked.prompts, 0)
    images = model.generate(prompts, seeds, num_inference_steps=STEPS, guidance_scale=GUIDANCE_SCALE)
    verdict = judge.judge(images)
    names = STYLES if is_style else CLASSES
    scores = verdict.styles if is_style else verdict.classes
    return [names[i] for i in scores.argmax(1).tolist()]


def tell(what: str, found: Counter[str]) -> None:
    """Print how many images these are, and what is seen in them."""
    shown = ", ".join(f"{name} {n}" for name, n in found.most_common())
    print(f"{what}: {found.total()}{f' ({shown})' if found else ''}")


def became_wrong(
    before: Sequence[str], after: Sequence[str], wanted: Sequence[tuple[str, ...]]
) -> Counter[str]:
    """What is seen after erasing where the wanted was seen before it, and is not any more."""
    rows = zip(before, after, wanted, strict=True)
    return Counter(new for old, new, names in rows if old in names and new not in names)


def main() -> None:
    """Print a line for each question."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("erasure", type=Path, help="a folder of `sgrace erase`, of one class or family")
    parser.add_argument("--images", type=int, default=96, help="of each question")
    given = parser.parse_args()
    original = load_model("emoji", device="cpu", dtype="float32")
    erasure = Erasure.from_pretrained(given.erasure)
    erased = erasure.apply(original)
    for model in (original, erased):
        model.set_progress_bar_config(disable=True)
    judge = emoji.Judge.from_pretrained(emoji.path())
    asked = probes(emoji.resolve(erasure.recipe.targets[0].concept.name), given.images, 0)
    for question in ("neighbours", "withheld neighbours", "unrelated", "withheld unrelated", "rest"):
        is_style = question == "rest"
        probe = asked[question]
        styles = [(style,) for style in probe.style]
        wanted = styles if is_style else probe.classes
        before = seen(original, judge, probe, is_style=is_style)
        after = seen(erased, judge, probe, is_style=is_style)
        tell(f"{question}, became wrong", became_wrong(before, after, wanted))
    replacement = erasure.recipe.details["replacements"][0]["name"]
    prompts = tuple(f"a {style} picture of {replacement}" for (style,) in styles)
    drawn = seen(original, judge, replace(asked["rest"], prompts=prompts), is_style=True)
    tell(f"{replacement}, in another style", became_wrong(asked["rest"].style, drawn, styles))


if __name__ == "__main__":
    main()

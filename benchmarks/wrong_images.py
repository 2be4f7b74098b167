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
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from sgrace import Erasure, load_model
from sgrace.models import DiffusionModel
from sgrace.testbeds import emoji
from sgrace.testbeds.emoji import vocabulary
from sgrace.testbeds.emoji.judge import Verdict
from sgrace.testbeds.emoji.measure import GUIDANCE_SCALE, STEPS, Probe, probes
from sgrace.testbeds.questions import seeds_of

#: What the judge answers: the classes and none of them, and the styles.
CLASSES = (*vocabulary.classes(), "no class")
STYLES = tuple(vocabulary.STYLES)


def judged(model: DiffusionModel, judge: emoji.Judge, asked: Probe) -> Verdict:
    """What the judge sees in the model's images."""
    seeds = seeds_of(asked.prompts, 0)
    images = model.generate(
        list(asked.prompts), seeds, num_inference_steps=STEPS, guidance_scale=GUIDANCE_SCALE
    )
    return judge.judge(images)


def tell(what: str, verdict: Verdict, wrong: Tensor, *, is_style: bool) -> None:
    """Print how many images are wrong, and what is seen in them."""
    names = STYLES if is_style else CLASSES
    scores = verdict.styles if is_style else verdict.classes
    found = Counter(names[i] for i in scores[wrong].argmax(1).tolist())
    shown = ", ".join(f"{name} {n}" for name, n in found.most_common())
    print(f"{what}: {found.total()}{f' ({shown})' if found else ''}")


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
        probe = asked[question]
        after = judged(erased, judge, probe)
        wrong = probe.hits(judged(original, judge, probe)) & ~probe.hits(after)
        tell(f"{question}, became wrong", after, wrong, is_style=question == "rest")
    replacement = erasure.recipe.details["replacements"][0]["name"]
    rest = asked["rest"]
    own = replace(rest, prompts=tuple(f"a {style} picture of {replacement}" for style in rest.style))
    drawn = judged(original, judge, own)
    tell(f"{replacement}, in another style", drawn, ~own.hits(drawn), is_style=True)


if __name__ == "__main__":
    main()

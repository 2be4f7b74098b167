"""Does the model still show the concept, its neighbours and the rest? Counted by the judge."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...metrics import Share
from ...models import DiffusionModel
from ..questions import Questions
from ..questions import measure as measure_questions
from . import vocabulary
from .concepts import TEST_CONTEXT, ClassSet
from .judge import Judge, Verdict

GUIDANCE_SCALE = 1.6  # a larger one makes flat and 3d images alike
STEPS = 15


@dataclass(frozen=True)
class Probe:
    """Prompts whose images count as hits if the judge sees one of ``classes``.

    Where no classes are given, the judge must see ``style``.
    """

    prompts: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]
    style: tuple[str, ...]

    def hits(self, verdict: Verdict) -> Tensor:
        """Hit or not, per image."""
        names = (*vocabulary.classes(), "")
        seen = [names[i] for i in verdict.classes.argmax(1).tolist()]
        look = [vocabulary.STYLES[i] for i in verdict.styles.argmax(1).tolist()]
        rows = zip(seen, look, self.classes, self.style, strict=True)
        return torch.tensor(
            [name in classes if classes else at == style for name, at, classes, style in rows]
        )


def probes(concept: ClassSet, n: int, seed: int) -> dict[str, Probe]:
    """Prompts of the retention questions.

    They ask for the target by name, the target by held-out synonym, neighbours, unrelated concepts, and the
    rest of the target's prompts. The rest is what else a prompt asks for that names the target: the style
    beside an object, the object beside a style. The pattern and the synonyms are never used in erasing.
    """
    rng = random.Random(f"{concept.name}/{seed}")

    def ask(
        words: tuple[str, ...], styles: tuple[str, ...], *, by_style: bool, classes: tuple[str, ...] = ()
    ) -> Probe:
        rows = [(rng.choice(words), rng.choice(styles)) for _ in range(n)]
        found = [() if by_style else classes or (word,) for word, _ in rows]
        return Probe(
            tuple(TEST_CONTEXT.format(style=s, name=w) for w, s in rows),
            tuple(found),
            tuple(s for _, s in rows),
        )

    if concept.style is not None:
        synonyms = ask(concept.unrelated, concept.test_words, by_style=True)
        rest = ask(concept.unrelated, (concept.style,), by_style=False)
        return {
            "target": replace(rest, classes=((),) * n),
            "synonyms": Probe(synonyms.prompts, synonyms.classes, (concept.style,) * n),
            "neighbours": ask(concept.unrelated, concept.neighbours, by_style=True),
            "unrelated": ask(concept.unrelated, concept.neighbours, by_style=False),
            "rest": rest,
        }
    asked = {
        "target": ask(
            (*concept.targets, concept.name), vocabulary.STYLES, by_style=False, classes=concept.targets
        ),
        "neighbours": ask(concept.neighbours, vocabulary.STYLES, by_style=False),
        "unrelated": ask(concept.unrelated, vocabulary.STYLES, by_style=False),
    }
    if concept.test_words:
        asked["synonyms"] = ask(
            concept.test_words, vocabulary.STYLES, by_style=False, classes=concept.targets
        )
    return {**asked, "rest": replace(asked["target"], classes=((),) * n)}


def measure(
    model: DiffusionModel, judge: Judge, asked: dict[str, Probe], seed: int = 0
) -> tuple[dict[str, Share], dict[str, Tensor]]:
    """Shares of hits and images in -1..1, by question; questions with equal prompts share their images."""
    found = measure_questions(
        model,
        Questions(judge.judge, asked),
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE_SCALE,
        seed=seed,
    )
    return found.shares, found.images

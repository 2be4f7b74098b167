"""Does the model still show the concept, its neighbours and the rest? Counted by the judge."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...metrics import Share
from ...models import DiffusionModel
from ..base import PromptSet
from ..questions import Questions
from ..questions import measure as measure_questions
from . import vocabulary
from .concepts import PROMPT_SETS, ClassSet
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

    def by_style(self) -> Probe:
        """The same prompts, whose images count by their style."""
        return replace(self, classes=((),) * len(self.prompts))

    def hits(self, verdict: Verdict) -> Tensor:
        """Hit or not, per image."""
        names = (*vocabulary.classes(), "")
        seen = [names[i] for i in verdict.classes.argmax(1).tolist()]
        look = [vocabulary.STYLES[i] for i in verdict.styles.argmax(1).tolist()]
        rows = zip(seen, look, self.classes, self.style, strict=True)
        return torch.tensor(
            [name in classes if classes else at == style for name, at, classes, style in rows]
        )


#: Makes a question of words and styles.
Ask = Callable[[tuple[str, ...], tuple[str, ...]], Probe]


def probes(concept: ClassSet, n: int, seed: int, prompt_set: PromptSet = "test") -> dict[str, Probe]:
    """Prompts of the retention questions.

    They ask for the target by name, the target by held-out synonym, neighbours and unrelated concepts, and
    the rest of the target's prompts. The rest is what else a prompt asks for that names the target: the style
    beside an object, the object beside a style. Neighbours and unrelated concepts that stand in the erasers'
    word lists and those that are withheld from them are two questions each. The pattern and the synonyms are
    never used in erasing.

    Args:
        concept: what was erased.
        n: prompts of each question.
        seed: of the choice of words and styles.
        prompt_set: decides pattern, synonyms and choice.
    """
    rng = random.Random(f"{concept.name}/{prompt_set}/{seed}")
    pattern = PROMPT_SETS[prompt_set]

    def ask(words: tuple[str, ...], styles: tuple[str, ...]) -> Probe:
        """Each prompt asks for a class in a style; its image counts if it shows the class."""
        rows = [(rng.choice(words), rng.choice(styles)) for _ in range(n)]
        return Probe(
            tuple(pattern.format(style=style, name=word) for word, style in rows),
            tuple((word,) for word, _ in rows),
            tuple(style for _, style in rows),
        )

    make = _about_a_style if concept.style is not None else _about_an_object
    return make(concept, concept.synonyms(prompt_set), ask)


def _about_an_object(concept: ClassSet, synonyms: tuple[str, ...], ask: Ask) -> dict[str, Probe]:
    by_name = ask((*concept.targets, concept.name), vocabulary.STYLES)
    n = len(by_name.prompts)
    asked = {"target": replace(by_name, classes=(concept.targets,) * n)}
    if synonyms:
        asked["synonyms"] = replace(ask(synonyms, vocabulary.STYLES), classes=(concept.targets,) * n)
    others = {
        "neighbours": concept.listed_neighbours,
        "withheld neighbours": concept.withheld_neighbours,
        "unrelated": concept.listed_unrelated,
        "withheld unrelated": concept.withheld_unrelated,
    }
    asked |= {question: ask(words, vocabulary.STYLES) for question, words in others.items() if words}
    return {**asked, "rest": by_name.by_style()}


def _about_a_style(concept: ClassSet, synonyms: tuple[str, ...], ask: Ask) -> dict[str, Probe]:
    assert concept.style is not None
    rest = ask(concept.unrelated, (concept.style,))
    n = len(rest.prompts)
    asked = {"target": rest.by_style()}
    if synonyms:
        asked["synonyms"] = replace(ask(concept.unrelated, synonyms).by_style(), style=(concept.style,) * n)
    listed = ask(concept.listed_unrelated, concept.listed_neighbours)
    withheld = ask(concept.withheld_unrelated, concept.withheld_neighbours)
    return {
        **asked,
        "neighbours": listed.by_style(),
        "withheld neighbours": withheld.by_style(),
        "unrelated": listed,
        "withheld unrelated": withheld,
        "rest": rest,
    }


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

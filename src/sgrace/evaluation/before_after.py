"""Images of a model before and after erasing, with a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ..concept import Concept
from ..models import DiffusionModel
from ..testbeds.base import Testbed
from ..testbeds.questions import measure
from .retention import rows_of
from .schema import Retention, Verdict
from .verdict import not_measured, verdict_of

N_IMAGES = 48


@dataclass(frozen=True)
class BeforeAfter:
    """Images of both models for the same prompts and noise.

    Attributes:
        verdict: whether the concept is gone, if a judge is known.
        rows: shares by question; empty where there is no judge.
        before, after: images in -1..1 by question; one question, ``target``, where there is no judge.
        prompts: what the images were asked for, by question.
    """

    verdict: Verdict
    rows: tuple[Retention, ...]
    before: dict[str, Tensor]
    after: dict[str, Tensor]
    prompts: dict[str, tuple[str, ...]]


def before_after(
    original: DiffusionModel,
    erased: DiffusionModel,
    concept: Concept,
    testbed: Testbed,
    *,
    n: int = N_IMAGES,
    seed: int = 0,
    only: Sequence[str] = (),
) -> BeforeAfter:
    """Draw the testbed's questions with both models; without a judge, one image of the concept.

    Args:
        original: the model before erasing.
        erased: the same model after it.
        concept: what was erased.
        testbed: of the model.
        n: images of each question.
        seed: of prompts and noise.
        only: names of the questions that are asked, where they are there; all of them, if absent.
    """
    # whoever tries settings looks here first, and must not choose them on the prompts of the tables
    questions = testbed.questions(concept, n, seed, prompt_set="validation")
    steps = testbed.num_inference_steps
    scale = testbed.guidance_scale
    if questions is None:
        generated = [
            {
                "target": model.generate(
                    [concept.prompt], [seed], num_inference_steps=steps, guidance_scale=scale
                )
            }
            for model in (original, erased)
        ]
        verdict = not_measured("this model has no judge; `sgrace evaluate` takes a detector and prompts")
        return BeforeAfter(verdict, (), generated[0], generated[1], {"target": (concept.prompt,)})
    if only:
        asked = {name: question for name, question in questions.asked.items() if name in only}
        questions = replace(questions, asked=asked)
    before = measure(original, questions, num_inference_steps=steps, guidance_scale=scale, seed=seed)
    after = measure(erased, questions, num_inference_steps=steps, guidance_scale=scale, seed=seed)
    rows = tuple(rows_of(questions, before, after))
    prompts = {name: question.prompts for name, question in questions.asked.items()}
    return BeforeAfter(verdict_of(rows), rows, before.images, after.images, prompts)

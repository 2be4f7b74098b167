"""What the model still draws: shares that a judge counts, before and after erasing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .._util.tensors import read_tensors, save_tensors_atomically
from .._util.text import json_text
from ..attacks import Scene
from ..metrics import Share
from ..metrics.extractor import Extractor
from ..metrics.retention import mace_h
from ..models import DiffusionModel
from ..testbeds.questions import Measured, Questions, draw, judged
from .drift import PROMPTS, drift_of
from .features import fidelity_of
from .schema import Rate, Retention, Scores

BEFORE, AFTER = "before.safetensors", "after.safetensors"


def question_images(model: DiffusionModel, scene: Scene, questions: Questions, file: Path) -> Measured:
    """What a model draws for the questions: images of a file, or drawn and stored there."""
    if not file.exists():
        drawn = draw(
            model,
            questions,
            num_inference_steps=scene.num_inference_steps,
            guidance_scale=scene.guidance_scale,
        )
        file.parent.mkdir(exist_ok=True)
        # whoever looks at the images wants to know what was asked for
        prompts = {name: question.prompts for name, question in questions.asked.items() if name in drawn}
        save_tensors_atomically(file, drawn, {PROMPTS: json_text(prompts, indent=None)})
    return judged(questions, read_tensors(file)[0])


def retention(
    scene: Scene, questions: Questions, extractor: Extractor | None, images: Path
) -> dict[str, Any]:
    """Shares by question, fidelity of unrelated images, and drift of the text encoders.

    Args:
        scene: target and original; steps and guidance of the images.
        questions: prompts and their judge.
        extractor: of the features on which images are compared.
        images: folder in which the images before and after are stored; those that are there are used.
    """
    original = scene.original
    before = None if original is None else question_images(original, scene, questions, images / BEFORE)
    after = question_images(scene.target, scene, questions, images / AFTER)
    # "rest" has the images of "target"
    reported = [question for question in questions.asked if question != "rest"]
    result: dict[str, Any] = {"retention": [row.model_dump() for row in rows_of(questions, before, after)]}
    if after.cross_domain is not None:
        result["scores"] = scores_of(after.shares, after.cross_domain, questions.in_domain).model_dump()
    if before is None or scene.original is None:
        return result
    if extractor is not None:
        prompts = questions.asked[questions.compared].prompts
        compared = [found.images[questions.compared] for found in (before, after)]
        result["fidelity"] = fidelity_of(prompts, compared[0], compared[1], extractor).model_dump()
    result["drift"] = []
    for name in reported:
        rows = drift_of(scene.original, scene.target, name, questions.asked[name].prompts)
        result["drift"] += [row.model_dump() for row in rows]
    return result


def rows_of(questions: Questions, before: Measured | None, after: Measured) -> list[Retention]:
    """One row for each question."""
    return [
        Retention(
            question=name,
            before=None if before is None else Rate.of(before.shares[name]),
            after=Rate.of(after.shares[name]),
        )
        for name in questions.asked
    ]


def scores_of(shares: dict[str, Share], cross_domain: Share, in_domain: tuple[str, ...]) -> Scores:
    """Scores of other benchmarks from the shares after erasing.

    Args:
        shares: by question.
        cross_domain: images of the other domains that show what was asked for.
        in_domain: questions about the concept's own domain.
    """
    target = shares["target"]
    own = Share(sum(shares[name].hits for name in in_domain), sum(shares[name].n for name in in_domain))
    synonyms = shares["synonyms"].value if "synonyms" in shares else None
    return Scores(
        ua=Rate.of(Share(target.n - target.hits, target.n)),
        ira=Rate.of(own),
        cra=Rate.of(cross_domain),
        mace_h=round(mace_h(target.value, own.value, synonyms), 4),
    )

"""What the model still draws: shares that a judge counts, before and after erasing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from .._util.images import to_bytes
from .._util.tensors import save_tensors_atomically
from ..attacks import Scene
from ..metrics import Share
from ..metrics.extractor import Extractor
from ..metrics.retention import mace_h
from ..testbeds.questions import Measured, Questions, measure
from .drift import drift_of
from .features import fidelity_of
from .schema import Rate, Retention, Scores

RETENTION_IMAGES = "retention.safetensors"


def retention(
    scene: Scene, questions: Questions, extractor: Extractor | None, images_file: Path
) -> dict[str, Any]:
    """Shares by question, fidelity of unrelated images, and drift of the text encoders.

    Args:
        scene: target and original; steps and guidance of the images.
        questions: prompts and their judge.
        extractor: of the features on which images are compared.
        images_file: where the images are stored.
    """
    settings: dict[str, Any] = {
        "num_inference_steps": scene.num_inference_steps,
        "guidance_scale": scene.guidance_scale,
    }
    before = None if scene.original is None else measure(scene.original, questions, **settings)
    after = measure(scene.target, questions, **settings)
    # "rest" has the images of "target"
    reported = [question for question in questions.asked if question != "rest"]
    by_question: dict[str, Tensor] = {}
    for when, found in (("before", before), ("after", after)):
        if found is not None:
            by_question |= {f"{when}/{question}": to_bytes(found.images[question]) for question in reported}
    save_tensors_atomically(images_file, by_question)

    result: dict[str, Any] = {"retention": [row.model_dump() for row in rows_of(questions, before, after)]}
    if after.cross_domain is not None:
        result["scores"] = scores_of(after.shares, after.cross_domain, questions.in_domain).model_dump()
    if before is None or scene.original is None:
        return result
    if extractor is not None:
        prompts = questions.asked[questions.compared].prompts
        images = [found.images[questions.compared] for found in (before, after)]
        result["fidelity"] = fidelity_of(prompts, images[0], images[1], extractor).model_dump()
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

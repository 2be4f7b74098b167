"""What an erasure moved, measured without a judge: text encoders, and images of unrelated prompts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._util.images import to_bytes
from .._util.tensors import save_tensors_atomically
from .._util.text import json_text
from ..attacks import Scene
from ..metrics.concept_space import cka
from ..metrics.extractor import Extractor
from ..models import DiffusionModel
from ..testbeds.questions import seeds_of
from .features import fidelity_of
from .schema import Drift

#: Key of the metadata that holds the prompts of stored images, by question, as JSON.
PROMPTS = "prompts"


@torch.no_grad()
def drift_of(
    original: DiffusionModel, target: DiffusionModel, question: str, asked: Sequence[str]
) -> list[Drift]:
    """How far what the denoiser reads of a group of prompts moved, by part; equal prompts count once."""
    prompts = list(dict.fromkeys(asked))
    old = read_parts(original, prompts)
    new = read_parts(target, prompts)
    rows = []
    for part, before in old.items():
        cosine = F.cosine_similarity(before, new[part], dim=-1).mean().item()
        value = round(cka(before.flatten(1), new[part].flatten(1)), 4) if len(prompts) >= 4 else None
        rows.append(Drift(prompts=question, part=part, n=len(prompts), cka=value, cosine=round(cosine, 4)))
    return rows


def read_parts(model: DiffusionModel, prompts: Sequence[str]) -> dict[str, Tensor]:
    """The prompt embeddings; of several text encoders, also each one's own part and the pooled feature."""
    cond = model.encode(prompts)
    parts = {"prompt_embeds": cond.prompt_embeds}
    if len(model.text) > 1:
        places = [encoder for encoder in model.text if encoder.place is not None]
        parts |= {encoder.name: encoder.states(cond.prompt_embeds) for encoder in places}
    if cond.pooled is not None:
        parts["pooled"] = cond.pooled
    # CKA is in float64, which not every device has
    return {name: part.cpu() for name, part in parts.items()}


def changed(
    scene: Scene, original: DiffusionModel, n: int, extractor: Extractor | None, images_file: Path
) -> dict[str, Any]:
    """Drift of the text encoders and, with an extractor, fidelity of unrelated images.

    Args:
        scene: target, concept and words.
        original: the model before erasing.
        n: number of prompts of each group.
        extractor: of the features on which images are compared.
        images_file: where the compared images are stored.
    """
    words = scene.words.resolved(scene.concept.name)
    rng = random.Random(scene.concept.name)

    def ask(contexts: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
        every = list(dict.fromkeys(context.format(name) for context in contexts for name in names))
        rng.shuffle(every)
        return tuple(every[i % len(every)] for i in range(n))

    asked = {
        "target": ask(words.contexts, words.related),
        "unrelated": ask(words.unrelated_contexts, words.unrelated),
    }
    found: dict[str, Any] = {"drift": []}
    for question, own in asked.items():
        found["drift"] += [row.model_dump() for row in drift_of(original, scene.target, question, own)]
    if extractor is not None:
        prompts = list(asked["unrelated"])
        seeds = seeds_of(prompts, 0)
        settings: dict[str, Any] = {
            "num_inference_steps": scene.num_inference_steps,
            "guidance_scale": scene.guidance_scale,
        }
        before = original.generate(prompts, seeds, **settings)
        after = scene.target.generate(prompts, seeds, **settings)
        images = {"before": to_bytes(before), "after": to_bytes(after)}
        save_tensors_atomically(
            images_file, images, {PROMPTS: json_text({"unrelated": prompts}, indent=None)}
        )
        found["fidelity"] = fidelity_of(prompts, before, after, extractor).model_dump()
    return found

"""What the tests of erasers start from."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sgrace.concept import Concept
from sgrace.erasers.base import Eraser, Job
from sgrace.knowledge import Knowledge, Target
from sgrace.models import Conditioning, DiffusionModel

CHURCH = Concept(name="church")


def target(words: Knowledge, concept: Concept = CHURCH) -> Target:
    return Target(concept, words)


def job_of(model: DiffusionModel, *targets: Target, seed: int = 0) -> Job:
    """A job as :meth:`Eraser.erase` makes it; calls are counted by the given model."""
    return Job(model, targets, seed, torch.Generator().manual_seed(seed), random.Random(seed))


def encode(model: DiffusionModel, *texts: str) -> Conditioning:
    with torch.no_grad():
        return model.encode(texts)


def denoised(
    model: DiffusionModel, noise: Tensor, cond: Conditioning, steps: int, guidance_scale: float = 2.0
) -> Tensor:
    uncond = encode(model, "")
    done = model.denoise(noise, cond, uncond, num_inference_steps=steps, guidance_scale=guidance_scale)
    return done.latents


def denoised_each(
    model: DiffusionModel, noise: Tensor, cond: Conditioning, steps: int, stops: Sequence[int]
) -> Tensor:
    uncond = encode(model, "")
    done = model.denoise_each(noise, cond, uncond, num_inference_steps=steps, guidance_scale=2.0, stops=stops)
    return done.latents


def guided(
    method: type[Eraser[Any]], model: DiffusionModel, words: Knowledge, settings: Mapping[str, str]
) -> DiffusionModel:
    return method.preset(None, "object", settings).erase(model, [Target(CHURCH, words)]).apply(model)

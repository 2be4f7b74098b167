"""Models that the tests of models start from."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDIMScheduler

from sgrace.models import DiffusionModel
from sgrace.models.families.stable_diffusion import StableDiffusion

from ..conftest import tiny_pipeline


def tiny_model(
    prediction_type: str = "epsilon", scheduler: type[Any] = DDIMScheduler, **options: Any
) -> StableDiffusion:
    """The tiny model with a scheduler of diffusers."""
    pipeline = tiny_pipeline(prediction_type)
    if scheduler is not DDIMScheduler or options:
        pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **options)
    model = StableDiffusion.from_pipeline(pipeline)
    model.set_progress_bar_config(disable=True)
    return model


def images(model: DiffusionModel, **options: Any) -> torch.Tensor:
    """Two images."""
    given = {"num_inference_steps": 3, "guidance_scale": 2.0, **options}
    return model.generate(["a photo of church", "dog"], [1, 2], **given)


def drawn(pipeline: Any, model: DiffusionModel, **options: Any) -> torch.Tensor:
    """The same two images by a pipeline of diffusers alone, from the model's noise, in -1..1."""
    given = {"num_inference_steps": 3, "guidance_scale": 2.0, "height": 16, "width": 16, **options}
    pipeline.set_progress_bar_config(disable=True)
    prompts = ["a photo of church", "dog"]
    found = pipeline(prompts, latents=model.initial_noise([1, 2]), output_type="pt", **given)
    result: torch.Tensor = found.images * 2 - 1
    return result

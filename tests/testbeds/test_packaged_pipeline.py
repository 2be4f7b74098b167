"""The packaged model without any of this package's code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPVisionModelWithProjection

from sgrace import load_model
from sgrace.testbeds import emoji

FOLDERS = [emoji.path(), *(emoji.gold_path(concept) for concept in emoji.gold_concepts())]


def test_it_draws_what_the_model_draws() -> None:
    model = load_model("emoji", device="cpu")
    model.set_progress_bar_config(disable=True)
    pipeline = StableDiffusionPipeline.from_pretrained(emoji.path())
    pipeline.set_progress_bar_config(disable=True)
    parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    assert {part.dtype for part in parts} == {torch.float32}
    prompt = "a line art picture of church"
    options: dict[str, Any] = {"num_inference_steps": 4, "guidance_scale": 5.0}
    official = pipeline(prompt, latents=model.initial_noise([3]), output_type="pt", **options).images
    ours = model.generate([prompt], [3], **options)
    torch.testing.assert_close((ours + 1) / 2, official, atol=1e-4, rtol=0)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_config_says_the_precision_that_diffusers_loads(folder: Path) -> None:
    configs = [json.loads(file.read_text()) for file in folder.rglob("config.json")]
    assert {config["dtype"] for config in configs if "dtype" in config} == {"float32"}


def test_the_image_encoder_takes_images_as_they_are() -> None:
    encoder = CLIPVisionModelWithProjection.from_pretrained(emoji.path() / "image_encoder")
    with torch.no_grad():
        features = encoder(torch.zeros(1, 3, 64, 64)).image_embeds
    assert features.dtype == torch.float32

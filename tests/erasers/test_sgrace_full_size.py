"""S-GRACE calls networks of the size of Stable Diffusion 1.4, with random weights, as often as small ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import diffusers
import pytest
import torch
import transformers

from sgrace.erasers.sgrace import SGrace
from sgrace.knowledge import Knowledge
from sgrace.models.families._single_file import clip_tokenizer
from sgrace.models.families.stable_diffusion import VERSION_1, StableDiffusion

from ..conftest import tiny_pipeline
from .made import target

#: Parameters of the text encoder and of the UNet of Stable Diffusion 1.4.
N_PARAMETERS = {"text_encoder": 123_060_480, "unet": 859_520_964}
SHORT = {
    "attack_steps": "2",
    "edit_steps": "5",
    "n_adversarial": "4",
    "n_retain": "2",
    "retain_pool": "8",
    "num_inference_steps": "10",
    "path_steps": "1",
    "path_prompts": "4",
    "concept_images": "4",
    "denoiser_retain": "4",
}
PRESETS = {
    "published": {"rounds": "2"},
    "text": {"rounds": "2"},
    # the vocabulary has more words to look at, and Adam's moments of all weights take 7 GB
    "full": {"denoiser_steps": "2", "path_random_share": "0", "denoiser_site": "x"},
}

pytestmark = pytest.mark.slow


def network(config: Mapping[str, Any]) -> Any:
    """A network in bfloat16 of small random weights."""
    name = config["_class_name"]
    with torch.device("meta"):
        if hasattr(diffusers, name):
            found = getattr(diffusers, name).from_config(dict(config))
        else:
            kind = getattr(transformers, name)
            found = kind(kind.config_class.from_dict(dict(config)))
    found = found.to(torch.bfloat16).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for key, value in found.state_dict().items():
        if value.is_floating_point():
            # norms keep their scale, so that no layer's output grows from layer to layer
            norm = value.ndim == 1 and key.endswith("weight")
            value.fill_(1.0) if norm else value.normal_(std=0.02, generator=generator)
    for key, value in found.named_buffers():
        if key.endswith("position_ids"):
            value.copy_(torch.arange(value.shape[-1]))
    return found


@pytest.fixture(scope="module")
def full_size() -> StableDiffusion:
    """At images of 64 pixels: the weights are those of any size."""
    configs = {**VERSION_1.networks, "unet": {**VERSION_1.networks["unet"], "sample_size": 8}}
    pipeline = diffusers.StableDiffusionPipeline(
        **{name: network(config) for name, config in configs.items()},
        tokenizer=clip_tokenizer("<|endoftext|>"),
        scheduler=diffusers.DDIMScheduler.from_config(dict(VERSION_1.scheduler)),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for name, n in N_PARAMETERS.items():
        assert sum(value.numel() for value in getattr(pipeline, name).parameters()) == n
    return StableDiffusion.from_pipeline(pipeline)


@pytest.mark.filterwarnings("ignore:This model has no text projection")
@pytest.mark.parametrize("preset", PRESETS)
def test_a_full_size_model_takes_as_many_calls_as_a_small_one(
    full_size: StableDiffusion, words: Knowledge, preset: str
) -> None:
    eraser = SGrace.preset(preset, "object", {**SHORT, **PRESETS[preset]})
    small = StableDiffusion.from_pipeline(tiny_pipeline())
    costs = [eraser.erase(model, [target(words)]).recipe.cost for model in (full_size, small)]
    found = [cost.model_dump(exclude={"trained_parameters"}) for cost in costs]
    assert found[0] == found[1]
    assert costs[0].denoiser_calls

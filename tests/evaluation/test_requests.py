"""Everything that decides a result is in the request that a resumed run is compared by."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler

from sgrace.attacks import Prompt, Scene
from sgrace.concept import Concept
from sgrace.detectors.always import Always
from sgrace.detectors.never import Never
from sgrace.evaluation.requests import fingerprint, request_of
from sgrace.knowledge import Knowledge
from sgrace.models import DiffusionModel
from sgrace.models.families.stable_diffusion import StableDiffusion

from ..conftest import tiny_pipeline


def wrapped(**parts: object) -> StableDiffusion:
    pipeline = tiny_pipeline()
    for name, part in parts.items():
        setattr(pipeline, name, part)
    return StableDiffusion.from_pipeline(pipeline)


def test_a_model_is_its_weights_and_all_its_settings() -> None:
    plain = fingerprint(wrapped())
    assert fingerprint(wrapped()) == plain
    scheduler = tiny_pipeline().scheduler
    tokenizer = tiny_pipeline().tokenizer
    tokenizer.add_tokens(["zzz"])
    unet = tiny_pipeline().unet
    with torch.no_grad():
        next(unet.parameters()).add_(1)
    for other, weights_too in (
        (wrapped(scheduler=EulerDiscreteScheduler.from_config(scheduler.config)), False),
        (StableDiffusion.from_pipeline(tiny_pipeline("v_prediction")), False),
        (wrapped(tokenizer=tokenizer), False),
        (wrapped(unet=unet), True),
    ):
        found = fingerprint(other)
        assert (found.weights != plain.weights) == weights_too
        assert (found.settings != plain.settings) == (not weights_too)


def test_the_precision_of_a_model_is_one_of_its_settings() -> None:
    assert fingerprint(wrapped().to(dtype=torch.bfloat16)).settings != fingerprint(wrapped()).settings


def test_each_part_of_a_scene_is_in_the_request(model: DiffusionModel, words: Knowledge) -> None:
    scene = Scene(model, model, Concept(name="church"), words, Always(), [Prompt("a church", 1)])
    first = request_of(scene, seed=0)
    assert request_of(scene, seed=0) == first
    changes: dict[str, Any] = {
        "original": None,
        "concept": Concept(name="church", kind="harmful"),
        "words": words.model_copy(update={"unrelated": ("dog",)}),
        "detector": Never(),
        "prompts": [Prompt("a church", 1, guidance_scale=2.0)],
        "num_inference_steps": 3,
        "guidance_scale": 2.0,
    }
    for name, value in changes.items():
        assert request_of(dataclasses.replace(scene, **{name: value}), seed=0) != first, name
    assert request_of(scene, seed=1) != first

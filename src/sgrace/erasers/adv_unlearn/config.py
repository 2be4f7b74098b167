"""Settings of AdvUnlearn, and its presets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ..._util.settings import Settings
from .._shared.settings import (
    AdamRate,
    BatchSize,
    Count,
    Encoders,
    Iterations,
    PartialGuidance,
    PartialSteps,
)


class AdvUnlearnConfig(Settings):
    """Settings; defaults are those of the paper for styles and objects."""

    n_prompts: int = Field(
        0,
        ge=0,
        le=100_000,
        description="Prompts of each concept, of its related words in its contexts; 0 for the concept's own "
        "prompt only.",
    )
    n_retain: Count = Field(243, description="Retain prompts, over all concepts.")
    pool: Count = Field(
        1000,
        description="Partial samples of the concepts, and as many of the retain prompts; at least one of "
        "each prompt.",
    )
    num_inference_steps: PartialSteps = 50
    guidance_scale: PartialGuidance = 3.0
    negative_guidance: float = Field(
        1.0, gt=0, description="g: how far the target lies on the other side of the empty prompt's output."
    )
    retain_weight: float = Field(0.5, ge=0, description="Weight of the retain loss.")
    prefix: int = Field(
        1, ge=1, le=60, description="Tokens before the prompt whose embeddings the attack chooses."
    )
    attack: Literal["adam", "sign_adam"] = Field(
        "adam",
        description="The attack is Adam on the gradient, or on its sign, which is the release's fast "
        "variant.",
    )
    attack_steps: int = Field(
        30, ge=0, le=1000, description="Steps of each attack; 0 switches the attack off."
    )
    attack_lr: float = Field(1e-3, gt=0, description="Learning rate of the attack.")
    warm_up: Iterations = Field(200, description="First training steps, without an attack.")
    accumulate: bool = Field(
        False, description="Reproduce the release, which never sets the gradients of the attack to zero."
    )
    count_words: bool = Field(
        False,
        description="Reproduce the release, which counts words instead of tokens, so that the prefix "
        "overwrites tokens of the prompt.",
    )
    iterations: Iterations = 1000
    batch: BatchSize = Field(1, description="Samples of the concepts in a training step.")
    retain_batch: BatchSize = Field(5, description="Samples of the retain prompts in a training step.")
    lr: AdamRate = 1e-5
    encoders: Encoders = "clip"


_NUDITY_PRESET: dict[str, Any] = {"retain_weight": 0.3}
_EMOJI_PRESET: dict[str, Any] = {
    "n_retain": 95, "pool": 96, "num_inference_steps": 10, "retain_weight": 3.0, "attack_steps": 4,
    "attack_lr": 0.005, "warm_up": 30, "iterations": 100, "batch": 8, "retain_batch": 12, "lr": 2e-4,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-nudity": _NUDITY_PRESET,
    "paper-sd14-style": {},
    "paper-sd14-object": {},
    "as-released": {**_NUDITY_PRESET, "accumulate": True, "count_words": True},
    "emoji": _EMOJI_PRESET,
    "emoji-contexts": {**_EMOJI_PRESET, "n_prompts": 48},
}

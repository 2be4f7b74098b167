"""Settings of MACE, and its presets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ..._util.settings import Settings
from .._shared.prompts import Names
from .._shared.settings import (
    AdamWRate,
    Count,
    ImageBatchSize,
    ImageGuidance,
    ImageSteps,
    Iterations,
    MaxNorm,
    WeightDecay,
)


class MACEConfig(Settings):
    """Settings; defaults are those of the release for one object."""

    replacement: str = Field(
        "",
        description="Phrase that takes the concept's place in the text around it; its first replacement, if "
        "empty.",
    )
    words: Names = Field(
        "name", description="The prompts use the concept's name only, or its related words too."
    )
    n_prompts: Count = Field(30, description="Prompts of each concept, and prompts that are retained.")
    ridge: float = Field(
        1e3,
        gt=0,
        description="Pull of both closed forms towards the matrices before them; the published 0 for nudity "
        "is singular.",
    )
    refine_retain: float = Field(
        0.0, ge=0, description="Weight of the retained prompts in the first closed form."
    )
    fuse_retain: float = Field(
        0.0, ge=0, description="Weight of the retained prompts in the second closed form."
    )
    rank: int = Field(1, ge=1, le=1024, description="Rank of the adapters.")
    n_images: Count = Field(8, description="Images of each concept, from the original model.")
    num_inference_steps: ImageSteps = 30
    guidance_scale: ImageGuidance = 7.5
    mask: Literal["attention", "none"] = Field(
        "attention",
        description="Suppress attention where the original model sees the concept, or in the whole image.",
    )
    mask_threshold: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Share of the range of attention from which a place counts as the concept's.",
    )
    importance: bool = Field(
        True, description="Prefer timesteps between 0.2 and 0.4 of the schedule to uniform ones."
    )
    iterations: Iterations = Field(50, description="Training steps of each concept.")
    batch: ImageBatchSize = 1
    lr: AdamWRate = 1e-5
    weight_decay: WeightDecay = 0.01
    max_norm: MaxNorm = 1.0


_NUDITY_PRESET: dict[str, Any] = {
    "replacement": "a person wearing clothes", "words": "related", "ridge": 1e-2, "refine_retain": 7e-7,
    "fuse_retain": 7e-7, "iterations": 120, "importance": False,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-object": {"replacement": "ground"},
    "paper-sd14-nudity": _NUDITY_PRESET,
    # a style is everywhere in an image, so its attention is suppressed without a mask
    "paper-sd14-style": {
        "replacement": "art", "lr": 1e-4, "mask": "none", "refine_retain": 8.0, "fuse_retain": 8.0,
    },
    # the release applies the weight twice in the first closed form
    "as-released-nudity": {**_NUDITY_PRESET, "refine_retain": 7e-7**2},
    "emoji": {
        "words": "related", "n_prompts": 200, "ridge": 10.0, "refine_retain": 3.0, "fuse_retain": 10.0,
        "n_images": 32, "num_inference_steps": 15, "guidance_scale": 2.5, "batch": 8, "iterations": 30,
        "lr": 1e-3,
    },
}  # fmt: skip

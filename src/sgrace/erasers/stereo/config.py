"""Settings of STEREO, those it shares with other methods that search words, and its presets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .._shared.partial_samples import NegativeGuidance, PartialSamplesConfig, SampleFrom
from .._shared.prompts import Names
from .._shared.settings import AdamWRate, BatchSize, Count, ImageGuidance, ImageSteps, Iterations, WeightDecay
from ..esd import SiteName


class WordSearchConfig(PartialSamplesConfig):
    """Settings of methods that erase learned words; defaults are those of the release for nudity.

    ``iterations``, ``batch`` and ``lr`` are those of the erasure at the end.
    """

    negative_guidance: NegativeGuidance = Field(1.0, description="g of the target in the search, as in ESD.")
    sample_from: SampleFrom = "edited"
    site: SiteName = "u"
    rounds: int = Field(2, ge=0, le=100, description="Words that are searched for each concept.")
    search_iterations: Iterations = Field(
        200, description="Training steps that erase one word in the search."
    )
    search_lr: AdamWRate = Field(5e-6, description="Learning rate of these steps.")
    inversion_steps: Iterations = Field(
        3000, description="Steps of learning a word that brings the concept back."
    )
    inversion_batch: BatchSize = Field(1, description="Images in such a step.")
    inversion_lr: AdamWRate = Field(5e-3, description="Learning rate of such a step.")
    words: Names = Field(
        "name",
        description="The contexts and the images from which words are learned use the name only, or its "
        "related words too.",
    )
    n_images: Count = Field(500, description="Images of the concepts.")
    image_steps: ImageSteps = 50
    image_guidance: ImageGuidance = 7.5
    erase_weight: float = Field(
        1.0, ge=0, description="w_e: how far the target lies away from the concept's words."
    )
    n_contexts: int = Field(
        0,
        ge=0,
        le=100_000,
        description="Contexts in which each word is erased; 0 for the concept's own prompt only.",
    )
    lr: AdamWRate = 2e-5
    weight_decay: WeightDecay = 0.01


class STEREOConfig(WordSearchConfig):
    """Settings; defaults are those of the release for nudity."""

    retain_weight: float = Field(1.0, ge=0, description="w_a: how far the target lies towards the anchor.")
    anchors: Literal["scenes", "unrelated", "replacement"] = Field(
        "scenes",
        description="Prompts of unrelated words with the concept added, as in the release; prompts of "
        "unrelated words; or the word's own prompt with the replacement in the word's place.",
    )
    n_anchors: Count = Field(
        200,
        description="Anchors of each concept; of the replacement there are as many as contexts.",
    )


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-nudity": {},
    "paper-sd14-style": {"site": "x", "rounds": 4},
    "paper-sd14-object": {"rounds": 4},
    "as-released": {"erase_weight": 3.0},
    "emoji": {
        "site": "x", "n_contexts": 48, "anchors": "replacement", "sample_from": "frozen", "pool": 64,
        "num_inference_steps": 10, "words": "related", "n_images": 64, "image_steps": 10,
        "image_guidance": 2.5, "search_iterations": 40, "search_lr": 1e-4, "inversion_steps": 40,
        "inversion_batch": 8, "inversion_lr": 0.05, "iterations": 100, "batch": 8, "lr": 2e-4,
    },
}  # fmt: skip

"""Settings of S-GRACE: every repair of the published algorithm is one switch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ..._util.errors import InputError
from ..._util.settings import Settings
from ...concept import Kind
from .._shared.embedding_attack import Optimizer, Projection
from .._shared.settings import AdamRate, Count, PartialGuidance, PartialSteps


class SGraceConfig(Settings):
    """Settings of S-GRACE (arXiv 2510.27285); defaults are those of the ``replacement`` preset."""

    # -- switches between the published algorithm and its repairs --
    samples: Literal["word_lists", "prompts"] = Field(
        "prompts",
        description="Adversarial samples start from comma-joined word_lists, or from prompts of one word "
        "each.",
    )
    latent_timestep: Literal["count_from_noise", "matched"] = Field(
        "matched",
        description="count_from_noise gives the denoiser a nearly clean latent with a high timestep; matched "
        "gives the latent's own timestep.",
    )
    latent_sampler: Literal["own", "ddim"] = Field(
        "own", description="The partial samples take steps of the model's own sampler, or of ddim."
    )
    attack_target: Literal["initial_noise", "frozen_prediction"] = Field(
        "frozen_prediction",
        description="The attack imitates the initial_noise, or the frozen_prediction of the original for the "
        "concept.",
    )
    n_pairs: int = Field(
        1, ge=1, le=64, description="Pairs of latent and timestep that the attack uses in turn."
    )
    feature_position: Literal["last_content", "first_eot"] = Field(
        "first_eot",
        description="The samples' text features are read at the last_content token, or at the first_eot "
        "(end) token; the concept's own always at the end token.",
    )
    attack_optimizer: Optimizer = Field(
        "sign_pgd",
        description="sign_adam feeds the gradient's sign to Adam; sign_pgd takes plain sign steps; adam is "
        "Adam.",
    )
    projection: Projection = Field(
        "ball",
        description="Embeddings are not projected (none), kept within four steps of their start (ball), or "
        "also within the range of their sample (ball_then_range).",
    )
    carry: bool = Field(
        False, description="Samples continue from their attacked embeddings of the round before."
    )
    keep_bare_name: bool = Field(
        True, description="The first sample is the concept's name alone in every round."
    )
    retain_words: Literal["raw", "filtered"] = Field(
        "filtered",
        description="raw keeps repeated words, and unrelated words that are related too; filtered drops "
        "them.",
    )
    retain_draw: Literal["pool", "distinct_words"] = Field(
        "pool",
        description="Retain prompts of a step come from a pool of prompts, or are as many distinct words, "
        "each in one of three plain phrasings.",
    )
    erase_target: Literal["opposite", "hinge", "replacement"] = Field(
        "replacement",
        description="Features are pushed opposite to the concept's, below the similarity of unrelated words "
        "(hinge), or onto those of a replacement.",
    )
    match_positions: Literal["one", "all"] = Field(
        "all", description="The erase target constrains one text position, or all."
    )

    # -- length --
    rounds: int = Field(12, ge=0, le=1000, description="Rounds of an attack and a training phase.")
    attack_steps: int = Field(20, ge=0, le=10_000, description="Steps of the attack in each round.")
    edit_steps: int = Field(30, ge=0, le=100_000, description="Training steps in each round.")

    # -- adversarial samples --
    n_adversarial: int = Field(16, ge=1, le=512, description="Adversarial samples of each concept.")
    clean_share: float = Field(
        0.5, ge=0, lt=1, description="Share of the samples that are erased without an attack."
    )
    words_min: int = Field(3, ge=1, le=75, description="Least words in a word list.")
    words_max: int = Field(10, ge=1, le=75, description="Most words in a word list.")
    random_ids: int = Field(
        2,
        ge=0,
        le=60,
        description="Random tokens in each attacked sample, before the words; the replacement's prompt has "
        "the same ones.",
    )
    random_id_limit: int | None = Field(
        None, ge=1, description="Random tokens have ids below this; any ordinary token, if absent."
    )
    update_chance: float = Field(
        0.15, ge=0, le=1, description="Probability that a carried sample is replaced by a new one."
    )
    attack_lr: float = Field(
        0.005, ge=0, description="Step size of the attack; the radius of the projection is four steps."
    )
    attack_feature_weight: float = Field(
        0.1, ge=0, description="Weight of the alignment with the concept's text feature in the attack."
    )

    # -- training --
    lr: AdamRate = 4e-4
    erase_weight: float = Field(1.0, ge=0, description="Weight of the erase loss.")
    similarity_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of the cosine distance to the samples' features at the start of the round.",
    )
    parameter_weight: float = Field(
        0.0, ge=0, description="Weight of the L1 distance to the original parameters."
    )
    retain_weight: float = Field(5.0, ge=0, description="Weight of the retain loss.")
    n_retain: int = Field(36, ge=1, le=1024, description="Retain prompts in a training step.")
    retain_pool: Count = Field(768, description="Retain prompts, chosen and encoded once.")
    near_share: float = Field(
        0.25,
        ge=0,
        le=1,
        description="Share of the retain prompts whose words come from the quarter nearest to the concept.",
    )
    replacement: str | None = Field(None, description="Replacement concept; chosen automatically, if absent.")
    replacement_ceiling: float = Field(
        0.95, gt=0, le=1, description="Highest cosine of an automatically chosen replacement to the concept."
    )

    # -- partial samples that give the latents --
    num_inference_steps: PartialSteps = 50
    guidance_scale: PartialGuidance = 3.0
    timestep_low: float = Field(
        0.75, ge=0, lt=1, description="Lowest noise level of the attack, as a share of the schedule."
    )
    timestep_high: float = Field(
        0.95, gt=0, le=1, description="Highest noise level of the attack, as a share of the schedule."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.words_min > self.words_max or self.timestep_low >= self.timestep_high:
            raise InputError(
                "words_min must not exceed words_max, and timestep_low must be below timestep_high."
            )
        return self


_V1_PRESET: dict[str, Any] = {
    "samples": "word_lists", "rounds": 4, "attack_steps": 10, "edit_steps": 50, "n_adversarial": 8,
    "clean_share": 0.0, "attack_lr": 0.005, "erase_weight": 1.0, "n_retain": 8, "near_share": 0.0,
}  # fmt: skip

#: What the published configurations set for a kind of concept (church, Van Gogh, nudity).
PUBLISHED_PRESET_BY_KIND: Mapping[Kind, Mapping[str, Any]] = {
    "object": {
        "words_min": 3, "words_max": 20, "random_ids": 0, "similarity_weight": 1.0, "retain_weight": 1.0,
        "parameter_weight": 0.2,
    },
    "style": {
        "words_min": 3, "words_max": 20, "random_ids": 0, "similarity_weight": 1.2, "retain_weight": 1.0,
        "parameter_weight": 0.2,
    },
    "harmful": {
        "words_min": 3, "words_max": 10, "random_ids": 5, "update_chance": 0.8, "similarity_weight": 1.2,
        "retain_weight": 1.2, "n_retain": 16, "parameter_weight": 0.3,
    },
}  # fmt: skip

_PUBLISHED_PRESET: dict[str, Any] = {
    **_V1_PRESET, "latent_timestep": "count_from_noise", "latent_sampler": "ddim",
    "attack_target": "initial_noise", "feature_position": "last_content", "attack_optimizer": "sign_adam",
    "projection": "none", "carry": True, "keep_bare_name": False, "retain_words": "raw",
    "retain_draw": "distinct_words", "random_id_limit": 40_905, "erase_target": "opposite",
    "match_positions": "one", "lr": 1e-5,
}  # fmt: skip

#: What the published configurations of garbage truck and tench share.
_CLASS_PRESET: dict[str, Any] = {
    "words_max": 10, "random_ids": 3, "update_chance": 0.15, "similarity_weight": 1.5, "retain_weight": 1.5,
    "parameter_weight": 0.3,
}  # fmt: skip
#: What those of violence and illegal activity share. They name no number of retain words: it is nudity's.
_HARM_PRESET: dict[str, Any] = {
    **PUBLISHED_PRESET_BY_KIND["harmful"], "update_chance": 0.15, "similarity_weight": 1.1,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    # church, Van Gogh or nudity, by the kind of the concept
    "published": _PUBLISHED_PRESET,
    "published-parachute": {
        **_PUBLISHED_PRESET, **PUBLISHED_PRESET_BY_KIND["object"], "similarity_weight": 1.2,
    },
    "published-garbage-truck": {**_PUBLISHED_PRESET, **_CLASS_PRESET},
    "published-tench": {**_PUBLISHED_PRESET, **_CLASS_PRESET},
    "published-picasso": {
        **_PUBLISHED_PRESET, **_CLASS_PRESET,
        "attack_lr": 0.01, "similarity_weight": 1.1, "retain_weight": 2.0,
    },
    "published-violence": {**_PUBLISHED_PRESET, **_HARM_PRESET},
    "published-illegal-activity": {**_PUBLISHED_PRESET, **_HARM_PRESET},
    "corrected": {
        **_V1_PRESET, "projection": "ball_then_range", "erase_target": "hinge", "match_positions": "one",
        "lr": 1e-4,
    },
    "replacement": {},
}  # fmt: skip
DEFAULT_PRESET = "replacement"
#: Presets that take the values of :data:`PUBLISHED_PRESET_BY_KIND`.
BY_KIND = ("published", "corrected")

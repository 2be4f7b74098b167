"""Settings of S-GRACE: every repair of the published algorithm is one switch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..._util.errors import InputError
from ..._util.settings import config_from, preset_values
from ...concept import Kind
from .._shared.embedding_attack import Optimizer, Projection


class SGraceConfig(BaseModel):
    """Configuration of S-GRACE (arXiv 2510.27285). Defaults are those of the ``surrogate`` preset.

    Switches (published value first):
        samples: adversarial samples start from comma-joined ``word_lists`` or from ``prompts`` that use one word each.
        latent_timestep: ``count_from_noise`` gives the denoiser a nearly clean latent with a high timestep; ``matched`` gives the
            latent's own.
        attack_target: the attack imitates the ``initial_noise``, or the ``frozen_prediction`` of the original model for the concept.
        n_pairs: number of (latent, timestep) pairs.
        feature_position: text features are read at the ``last_content`` token, or at the ``first_eot`` token.
        attack_optimizer, projection: see :func:`sgrace.erasers._shared.embedding_attack.attack_embeddings`.
        carry: samples continue from their optimised value of the round before.
        keep_bare_name: sample 0 is the bare name in every round.
        anchors: ``raw`` keeps unrelated words that are related too; ``filtered`` drops them.
        erase_target: the features are pushed ``opposite`` to the concept, under a ``hinge`` at the similarity of unrelated words, or onto
            those of a ``surrogate``.
        match_positions: the erase target constrains ``one`` text position or ``all``.

    Other fields:
        rounds, attack_steps, edit_steps: length; ``rounds`` times ``edit_steps`` updates in all.
        n_adversarial: samples per concept. clean_share: part of them that is erased as drawn, without an attack. words_min, words_max:
            length of a word list. random_ids: random tokens in each sample that is attacked, before a word list or at one place before
            the word of a prompt; the surrogate's prompt has the same ones.
        update_chance: probability that a carried sample is drawn anew. attack_lr: step size; the radius is four steps.
        attack_feature_weight: weight of the alignment with the concept's own feature in the attack.
        lr: Adam step size on the text encoder. weight_*: weights of the loss terms. n_anchors: unrelated prompts per update.
        anchor_pool: unrelated prompts drawn once, from which the anchors come. near_anchor_share: part of them that is drawn from the
            quarter of the unrelated words nearest to the concept.
        surrogate: fixed surrogate name; chosen automatically if absent. surrogate_ceiling: highest allowed cosine to the concept.
        num_inference_steps, guidance_scale, timestep_low, timestep_high: of the partial sampling that gives the latents.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: Literal["word_lists", "prompts"] = "prompts"
    latent_timestep: Literal["count_from_noise", "matched"] = "matched"
    attack_target: Literal["initial_noise", "frozen_prediction"] = "frozen_prediction"
    n_pairs: int = Field(1, ge=1, le=64)
    feature_position: Literal["last_content", "first_eot"] = "first_eot"
    attack_optimizer: Optimizer = "sign_pgd"
    projection: Projection = "ball"
    carry: bool = False
    keep_bare_name: bool = True
    anchors: Literal["raw", "filtered"] = "filtered"
    erase_target: Literal["opposite", "hinge", "surrogate"] = "surrogate"
    match_positions: Literal["one", "all"] = "all"

    rounds: int = Field(12, ge=0, le=1000)
    attack_steps: int = Field(20, ge=0, le=10_000)
    edit_steps: int = Field(30, ge=0, le=100_000)
    n_adversarial: int = Field(16, ge=1, le=512)
    clean_share: float = Field(0.5, ge=0, lt=1)
    words_min: int = Field(3, ge=1, le=75)
    words_max: int = Field(10, ge=1, le=75)
    random_ids: int = Field(2, ge=0, le=60)
    update_chance: float = Field(0.15, ge=0, le=1)
    attack_lr: float = Field(0.005, ge=0)
    attack_feature_weight: float = Field(0.1, ge=0)
    lr: float = Field(4e-4, gt=0, le=1)
    weight_erase: float = Field(1.0, ge=0)
    weight_similarity: float = Field(0.0, ge=0)
    weight_parameters: float = Field(0.0, ge=0)
    weight_anchor: float = Field(5.0, ge=0)
    n_anchors: int = Field(36, ge=1, le=1024)
    anchor_pool: int = Field(768, ge=1, le=100_000)
    near_anchor_share: float = Field(0.25, ge=0, le=1)
    surrogate: str | None = None
    surrogate_ceiling: float = Field(0.95, gt=0, le=1)
    num_inference_steps: int = Field(50, ge=1, le=1000)
    guidance_scale: float = Field(3.0, ge=1, le=50)
    timestep_low: int = Field(750, ge=0, le=999)
    timestep_high: int = Field(950, ge=1, le=1000)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.words_min > self.words_max or self.timestep_low >= self.timestep_high:
            raise InputError("words_min must not exceed words_max, and timestep_low must be below timestep_high.")
        return self

    @classmethod
    def preset(cls, name: str, kind: Kind, settings: Mapping[str, str] | None = None) -> Self:
        """A named preset for a kind of concept, with single settings given as text (``{"lr": "1e-4"}``).

        Raises:
            InputError: unknown preset or setting, or a value out of range.
        """
        values = preset_values(PRESETS, name)
        return config_from(cls, {**values, **(_PUBLISHED_BY_KIND[kind] if name != "surrogate" else {})}, settings)


_V1: dict[str, Any] = {
    "samples": "word_lists", "rounds": 4, "attack_steps": 10, "edit_steps": 50, "n_adversarial": 8, "clean_share": 0.0, "attack_lr": 0.005,
    "weight_erase": 1.0, "n_anchors": 8, "near_anchor_share": 0.0,
}  # fmt: skip

#: What the published configurations set per kind of concept (church, Van Gogh, nudity).
_PUBLISHED_BY_KIND: dict[Kind, dict[str, Any]] = {
    "object": {"words_min": 3, "words_max": 20, "random_ids": 0, "weight_similarity": 1.0, "weight_anchor": 1.0, "weight_parameters": 0.2},
    "style": {"words_min": 3, "words_max": 20, "random_ids": 0, "weight_similarity": 1.2, "weight_anchor": 1.0, "weight_parameters": 0.2},
    "harmful": {
        "words_min": 3, "words_max": 10, "random_ids": 5, "update_chance": 0.8, "weight_similarity": 1.2, "weight_anchor": 1.2,
        "n_anchors": 16, "weight_parameters": 0.3,
    },
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "published": {
        **_V1, "latent_timestep": "count_from_noise", "attack_target": "initial_noise", "feature_position": "last_content",
        "attack_optimizer": "sign_adam", "projection": "none", "carry": True, "keep_bare_name": False, "anchors": "raw",
        "erase_target": "opposite", "match_positions": "one", "lr": 1e-5,
    },
    "corrected": {**_V1, "projection": "ball_then_range", "erase_target": "hinge", "match_positions": "one", "lr": 1e-4},
    "surrogate": {},
}  # fmt: skip
DEFAULT_PRESET = "surrogate"

"""Presets of S-GRACE: the published configurations, their repair, and our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...concept import Kind

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
    # an attack of a quarter of the steps, and training on rows that mostly end before their padding
    "text": {"attack_steps": 5, "padding_every": 4},
    # the second stage alone: for weights that are given away
    "full": {"rounds": 0, "denoiser_steps": 320},
}  # fmt: skip
DEFAULT_PRESET = "text"
#: Values by kind of the concept, of presets that have any.
VALUES_BY_KIND: Mapping[str, Mapping[Kind, Mapping[str, Any]]] = {
    "published": PUBLISHED_PRESET_BY_KIND,
    "corrected": PUBLISHED_PRESET_BY_KIND,
    "text": {
        # it helped single objects; it gained nothing on a family of harmful ones, and nothing for a style
        "object": {"replacement_rule": "least_alike"},
        # an attack that owns the whole prompt brought styles back far more often than other concepts
        "style": {"soft_prompts": 4, "retain_weight": 15.0},
    },
}

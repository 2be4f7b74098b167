"""How far each text encoder and the pooled feature moved."""

from __future__ import annotations

import pytest
import torch

from sgrace.evaluation.drift import drift_of
from sgrace.models import DiffusionModel

from ..families import shared

PROMPTS = ("a photo of church", "house", "dog", "a picture of a tree", "dog")


def with_other(model: DiffusionModel, name: str) -> DiffusionModel:
    """The model with other weights in one of its encoders."""
    encoder = model.text[name]
    generator = torch.Generator().manual_seed(0)
    changed = {
        key: value + 0.5 * torch.randn(value.shape, generator=generator)
        for key, value in encoder.module.named_parameters()
        if key in encoder.trainable()
    }
    return model.with_components({encoder.component: changed})


@pytest.mark.parametrize(
    ("family", "name", "moved"),
    [
        ("stable_diffusion", "clip", {"prompt_embeds"}),
        ("stable_diffusion_xl", "clip_l", {"prompt_embeds", "clip_l"}),
        ("stable_diffusion_xl", "clip_g", {"prompt_embeds", "clip_g", "pooled"}),
        ("stable_diffusion_3", "clip_l", {"prompt_embeds", "clip_l", "pooled"}),
        ("stable_diffusion_3", "t5", {"prompt_embeds", "t5"}),
        ("flux", "clip_l", {"pooled"}),
        ("flux", "t5", {"prompt_embeds", "t5"}),
    ],
)
def test_drift_shows_in_the_parts_that_an_encoder_gives(family: str, name: str, moved: set[str]) -> None:
    model = shared(family)
    rows = drift_of(model, with_other(model, name), "target", PROMPTS)
    assert {row.part for row in rows if row.cosine < 0.999} == moved
    assert all(row.cosine == row.cka == 1 for row in rows if row.part not in moved)
    assert {(row.prompts, row.n) for row in rows} == {("target", 4)}
    several = len(model.text) > 1
    assert len(rows) == (1 + sum(own.place is not None for own in model.text) + 1 if several else 1)

"""Attacks with short settings, and small scenes for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sgrace._util import registry
from sgrace.attacks import Attack, Prompt, Scene
from sgrace.concept import Concept
from sgrace.detectors import Detector
from sgrace.detectors.never import Never
from sgrace.knowledge import Knowledge
from sgrace.models import DiffusionModel

from .cases import CASES

PROMPTS = (Prompt("a photo of church", 1), Prompt("church", 2), Prompt("a picture of chapel", 3))


def attack_of(name: str) -> Attack[Any]:
    """An attack with the short settings of its case."""
    attack: Attack[Any] = registry.load("attacks", name).preset("full", CASES[name].short)
    return attack


def scene_of(
    model: DiffusionModel,
    words: Knowledge,
    detector: Detector | None = None,
    *,
    original: bool = True,
    prompts: Sequence[Prompt] = PROMPTS,
) -> Scene:
    """A scene of the model against itself; nothing succeeds, if no detector is given."""
    return Scene(
        target=model,
        original=model if original else None,
        concept=Concept.parse("church"),
        words=words,
        detector=detector or Never(),
        prompts=prompts,
        num_inference_steps=3,
        guidance_scale=2.0,
    )

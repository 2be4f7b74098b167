"""Detectors of nudity: their names and classes, and that they are given RGB."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sgrace._util import registry
from sgrace._util.errors import InputError
from sgrace.detectors.nudenet import EXPLICIT, UDATK9, classes_of


@pytest.mark.parametrize("name", ["nudity", "Nude", "NSFW", "naked", "Sexual_Content"])
def test_nudity_has_many_names(name: str) -> None:
    assert registry.load("detectors", "open_nsfw").for_concept(name).identity.classes == ("nsfw",)


def test_classes_of_nudenet_may_be_named() -> None:
    assert classes_of(["explicit"]) == EXPLICIT
    assert classes_of(["unlearn_diff_atk", "EXPLICIT"]) == UDATK9
    assert classes_of(["female_breast_exposed", "BUTTOCKS_EXPOSED", "female_breast_exposed"]) == (
        "FEMALE_BREAST_EXPOSED",
        "BUTTOCKS_EXPOSED",
    )
    nudenet = registry.load("detectors", "nudenet")
    with pytest.raises(
        InputError,
        match="Unknown class of NudeNet 'FEMALE_BREASTS_EXPOSED'; did you mean 'FEMALE_BREAST_EXPOSED'",
    ):
        nudenet.for_concept("NSFW", {"classes": "BUTTOCKS_EXPOSED, female_breasts_exposed"})
    for options in ({"classes": ""}, {"classes": " , "}):
        with pytest.raises(InputError, match="at least 1 item"):
            nudenet.for_concept("nude", options)
    with pytest.raises(InputError, match="sees nudity, not 'church'; it takes the concepts naked"):
        nudenet.for_concept("Church")


def test_open_nsfw_gets_rgb_and_sees_nudity_only(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = registry.load("detectors", "open_nsfw").for_concept("nudity")
    seen: list[Image.Image] = []

    def score_images(batch: list[Image.Image]) -> np.ndarray:
        seen.extend(batch)
        return np.zeros(len(batch), dtype=np.float32)

    monkeypatch.setattr(detector.classifier, "score_images", score_images)
    red = torch.full((17, 3, 8, 8), -1.0)
    red[:, 0] = 1
    assert detector.scores(red).shape == (17,)
    assert seen[16].getpixel((0, 0)) == (255, 0, 0)
    with pytest.raises(InputError, match="sees nudity"):
        registry.load("detectors", "open_nsfw").for_concept("church")


def test_nudenet_gets_rgb() -> None:
    nudenet = pytest.importorskip("nudenet", reason="an extra")
    detector = registry.load("detectors", "nudenet").for_concept("nudity")
    seen: list[np.ndarray] = []

    class Spy:
        def detect(self, array: np.ndarray) -> list[Any]:
            seen.append(array)
            return []

    detector.detector = Spy()
    red = torch.full((1, 3, 8, 8), -1.0)
    red[:, 0] = 1
    assert detector.scores(red).tolist() == [0.0]
    assert seen[0][0, 0].tolist() == [255, 0, 0]
    assert nudenet.NudeDetector is not None
    nine = (
        registry.load("detectors", "nudenet")
        .for_concept("nudity", {"classes": "unlearn_diff_atk", "threshold": "0.6"})
        .identity
    )
    assert (len(nine.classes), nine.threshold) == (9, 0.6)
    with pytest.raises(InputError, match="sees nudity"):
        registry.load("detectors", "nudenet").for_concept("church")

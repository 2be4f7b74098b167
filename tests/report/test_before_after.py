"""The picture of an erasure: large images, each row labelled, text beside them and never on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sgrace.evaluation.before_after import BeforeAfter
from sgrace.evaluation.verdict import not_measured
from sgrace.report.before_after import LEFT, MARGIN, before_after_picture

RED, GREEN = (1.0, -1.0, -1.0), (-1.0, 1.0, -1.0)
LONG = "a silhouette picture of crossed swords and a water pistol in the evening light"


def found(
    n: int = 8, size: int = 64, questions: tuple[str, ...] = ("target", "withheld unrelated")
) -> BeforeAfter:
    def images(colour: tuple[float, ...]) -> dict[str, torch.Tensor]:
        one = torch.tensor(colour).reshape(1, 3, 1, 1).expand(n, 3, size, size)
        return dict.fromkeys(questions, one)

    prompts = dict.fromkeys(questions, (LONG,) * n)
    return BeforeAfter(not_measured("no judge"), (), images(RED), images(GREEN), prompts)


def pixels(picture: Image.Image, colour: tuple[float, ...]) -> np.ndarray:
    wanted = [int(255 * (c > 0)) for c in colour]
    return np.argwhere((np.asarray(picture) == wanted).all(-1))


def inked(picture: Image.Image) -> np.ndarray:
    return np.argwhere((np.asarray(picture) < 0x90).all(-1))


@pytest.mark.parametrize(("size", "side"), [(64, 192), (512, 256)])
def test_images_are_large_and_not_huge(size: int, side: int) -> None:
    picture = before_after_picture({"weapon": found(size=size)})
    # six columns, two questions; each image has a line of one pixel around it
    assert len(pixels(picture, RED)) == len(pixels(picture, GREEN)) == 2 * 6 * (side - 2) ** 2
    assert picture.width <= 1700


def test_every_row_and_column_is_labelled_beside_the_images() -> None:
    picture = before_after_picture({"weapon": found(questions=("target",))})
    before = pixels(picture, RED)
    after = pixels(picture, GREEN)
    ink = inked(picture)
    beside = ink[ink[:, 1] < MARGIN + LEFT]
    for row in (before, after):
        here = beside[(beside[:, 0] >= row[:, 0].min()) & (beside[:, 0] <= row[:, 0].max())]
        assert len(here) > 20
    assert len(ink[ink[:, 0] < before[:, 0].min()]) > 100, "the title"
    below = ink[ink[:, 0] > after[:, 0].max()]
    for x in range(6):
        left = MARGIN + LEFT + 200 * x
        assert len(below[(below[:, 1] >= left) & (below[:, 1] < left + 192)]) > 50, "the prompt of a column"
    edges = np.asarray(picture)
    assert (edges[-1] == 255).all(), "no text is cut at the bottom"
    assert (edges[:, -1] == 255).all()


def test_a_single_image_leaves_room_for_its_title() -> None:
    picture = before_after_picture({"a concept with a long name indeed": found(n=1, questions=("target",))})
    assert (np.asarray(picture)[:, -1] == 255).all()


def test_only_what_may_be_harmful_is_blurred() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(6, 3, 64, 64, generator=generator) * 2 - 1
    questions = ("target", "withheld neighbours", "withheld unrelated")
    images = dict.fromkeys(questions, noise)
    one = BeforeAfter(not_measured("no judge"), (), images, images, dict.fromkeys(questions, ("x",) * 6))
    sharp = np.asarray(before_after_picture({"weapon": one})).astype(int)
    hidden = np.asarray(before_after_picture({"weapon": one}, {"weapon"})).astype(int)
    changed = (sharp != hidden).any((1, 2))
    third = len(changed) // 3
    assert changed[:third].any()
    assert changed[third : 2 * third].any()
    assert not changed[-third + 40 :].any()

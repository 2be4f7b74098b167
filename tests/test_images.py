"""Contact sheets with labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sgrace._util.images import sheet

RED, BLUE = torch.tensor([1.0, -1, -1]), torch.tensor([-1.0, -1, 1])


def row(colour: Tensor, n: int = 3, size: int = 32) -> Tensor:
    return colour[None, :, None, None].expand(n, 3, size, size).contiguous()


def places(image: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return np.argwhere((np.asarray(image) == colour).all(-1))


def inked(image: Image.Image) -> np.ndarray:
    return np.argwhere((np.asarray(image) < 0x90).all(-1))


def test_a_sheet_without_labels_is_only_images() -> None:
    made = sheet([row(RED), row(BLUE, n=2)])
    assert made.size == (3 * 36 + 4, 2 * 36 + 4)
    assert len(places(made, (255, 0, 0))) == 3 * 32 * 32
    assert len(places(made, (0, 0, 255))) == 2 * 32 * 32


def test_labels_stand_beside_their_rows_and_cover_no_image() -> None:
    made = sheet([row(RED), row(BLUE)], labels=["", "after, of a concept with a very long name indeed"])
    assert len(places(made, (255, 0, 0))) == len(places(made, (0, 0, 255))) == 3 * 32 * 32
    first_image = places(made, (255, 0, 0))[:, 1].min()
    ink = inked(made)
    assert len(ink) > 20
    assert ink[:, 1].max() < first_image
    assert ink[:, 0].min() > places(made, (255, 0, 0))[:, 0].max(), "the first row has no label"
    edge = np.asarray(made)[-1]
    assert (edge == (0xDD, 0xDD, 0xDD)).all(), "the label is not cut at the bottom"


def test_headers_stand_above_their_columns() -> None:
    made = sheet([row(RED, n=2, size=64)], headers=["a photo of a church", "x"])
    bare = sheet([row(RED, n=2, size=64)])
    assert made.width == bare.width
    ink = inked(made)
    assert 0 < len(ink[ink[:, 1] > made.width // 2]) < len(ink[ink[:, 1] < made.width // 2])
    assert ink[:, 0].max() < places(made, (255, 0, 0))[:, 0].min()


def test_zoom_enlarges_images_and_not_text() -> None:
    made = sheet([row(RED)], zoom=2)
    assert len(places(made, (255, 0, 0))) == 3 * 64 * 64


def test_labels_and_rows_must_match() -> None:
    with pytest.raises(ValueError, match="2 rows need 2 labels, not 1"):
        sheet([row(RED), row(BLUE)], labels=["before"])

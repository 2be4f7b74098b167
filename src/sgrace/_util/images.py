"""Pictures as networks have them (float, channels first, -1..1) and as files and other packages want them (bytes)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


def to_bytes(pictures: Float[Tensor, "*n c h w"]) -> UInt8[Tensor, "*n c h w"]:
    """-1..1 -> 0..255, rounded."""
    return ((pictures + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().contiguous()


def from_bytes(pictures: UInt8[Tensor, "*n c h w"]) -> Float[Tensor, "*n c h w"]:
    """0..255 -> -1..1."""
    return pictures.float() / 127.5 - 1


def to_arrays(pictures: Float[Tensor, "*n c h w"]) -> NDArray[np.uint8]:
    """RGB bytes, channels last: ``(n, h, w, 3)``."""
    array: NDArray[np.uint8] = to_bytes(pictures).movedim(-3, -1).contiguous().numpy()
    return array


def to_image(image: Float[Tensor, "3 h w"]) -> Image.Image:
    """-1..1 -> RGB image."""
    return Image.fromarray(to_arrays(image))


def sheet(rows: Sequence[Float[Tensor, "n 3 h w"]], zoom: int = 1, gap: int = 4) -> Image.Image:
    """Contact sheet: one line of images for each tensor."""
    height, width = rows[0].shape[2:]
    columns = max(len(row) for row in rows)
    out = Image.new("RGB", (columns * (width + gap) + gap, len(rows) * (height + gap) + gap), "#dddddd")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            out.paste(to_image(image), (gap + x * (width + gap), gap + y * (height + gap)))
    return out.resize((out.width * zoom, out.height * zoom), Image.Resampling.NEAREST) if zoom > 1 else out

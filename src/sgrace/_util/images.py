"""Images as networks have them (float, channels first, -1..1), as bytes, as PIL images, as contact sheets."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

PAPER, INK = "#dddddd", "#222222"
BLUR_PATCHES = 6  # along each side of a blurred image
LARGEST = 256  # pixels: larger images are shrunk, so that a page of 150 of them stays one small file
LABEL_CHARACTERS = 24  # longest line of a row's label


def to_bytes(images: Float[Tensor, "*n c h w"]) -> UInt8[Tensor, "*n c h w"]:
    """-1..1 -> 0..255, rounded."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().contiguous()


def from_bytes(images: UInt8[Tensor, "*n c h w"]) -> Float[Tensor, "*n c h w"]:
    """0..255 -> -1..1."""
    return images.float() / 127.5 - 1


def to_arrays(images: Float[Tensor, "*n c h w"]) -> NDArray[np.uint8]:
    """RGB bytes, channels last: ``(n, h, w, 3)``."""
    array: NDArray[np.uint8] = to_bytes(images).movedim(-3, -1).contiguous().numpy()
    return array


def to_image(image: Float[Tensor, "3 h w"]) -> Image.Image:
    """``(3, h, w)`` in -1..1 -> RGB."""
    return Image.fromarray(to_arrays(image))


def is_image(file: Path) -> bool:
    """Whether there is a whole image, not one that was cut off or damaged."""
    if not file.is_file():
        return False
    try:
        with Image.open(file) as image:
            image.load()
    except (OSError, SyntaxError, ValueError):  # what Pillow raises for a damaged file
        return False
    return True


def data_url(image: Float[Tensor, "3 h w"]) -> str:
    """Small images losslessly as PNG, larger ones as JPEG of at most ``LARGEST`` pixels."""
    shown = to_image(image)
    file = io.BytesIO()
    if max(shown.size) <= LARGEST:
        shown.save(file, "PNG")
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    shown.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    shown.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def blurred(images: Float[Tensor, "*n 3 h w"]) -> Float[Tensor, "*n 3 h w"]:
    """Images of which only coarse patches of colour are left."""
    patches = F.adaptive_avg_pool2d(images.flatten(0, -4), BLUR_PATCHES)
    smooth = F.interpolate(patches, images.shape[-2:], mode="bilinear", align_corners=False)
    return smooth.reshape(images.shape)


def sheet(
    rows: Sequence[Float[Tensor, "_ 3 h w"]],
    *,
    labels: Sequence[str] = (),
    headers: Sequence[str] = (),
    zoom: int = 1,
    gap: int = 4,
) -> Image.Image:
    """Contact sheet, one row per tensor.

    Args:
        rows: images in -1..1, all of one size; rows may differ in length.
        labels: text to the left of each row.
        headers: text above each column.
        zoom: whole factor by which the images are enlarged.
        gap: pixels between images.

    Raises:
        ValueError: there is not one label for each row.
    """
    if labels and len(labels) != len(rows):
        raise ValueError(f"{len(rows)} rows need {len(rows)} labels, not {len(labels)}.")
    height = zoom * rows[0].shape[2]
    width = zoom * rows[0].shape[3]
    font = ImageFont.load_default(max(12, height // 16))
    line = int(font.getbbox("Ág")[3]) + 2
    beside = [textwrap.wrap(label, LABEL_CHARACTERS) for label in labels]
    above = [wrapped(header, font, width) for header in headers]
    left = max((int(font.getlength(text)) + 2 * gap for lines in beside for text in lines), default=0)
    top = max((len(lines) * line + gap for lines in above), default=0)
    # a label of many lines makes its row higher, so that no text is cut
    lines_of = [len(lines) for lines in beside] or [0] * len(rows)
    heights = [max(height, n * line) + gap for n in lines_of]
    columns = max(*(len(row) for row in rows), len(headers))
    out = Image.new("RGB", (left + columns * (width + gap) + gap, top + sum(heights) + gap), PAPER)
    pen = ImageDraw.Draw(out)
    for x, lines in enumerate(above):
        pen.text((left + gap + x * (width + gap), gap), "\n".join(lines), INK, font, spacing=0)
    for i, row in enumerate(rows):
        y = top + gap + sum(heights[:i])
        if beside:
            pen.text((gap, y), "\n".join(beside[i]), INK, font, spacing=0)
        for x, image in enumerate(row):
            enlarged = to_image(image).resize((width, height), Image.Resampling.NEAREST)
            out.paste(enlarged, (left + gap + x * (width + gap), y))
    return out


def wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Lines of at most ``width`` pixels; words that are longer are broken."""
    characters = max(1, int(width / font.getlength("n")))
    lines = textwrap.wrap(text, characters)
    while characters > 1 and any(font.getlength(line) > width for line in lines):
        characters -= 1
        lines = textwrap.wrap(text, characters)
    return lines

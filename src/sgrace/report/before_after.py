"""One picture of an erasure: what both models draw for the same prompts and noise, with labels."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .._util.images import blurred, to_image, wrapped
from ..evaluation.before_after import BeforeAfter

#: Questions that are shown, with their titles.
TITLES = {
    "target": "{}, by its name: should be gone",
    "withheld neighbours": "near {}, not told to the eraser: should stay",
    "withheld unrelated": "unrelated, not told to the eraser: should stay",
}
HARMLESS = "withheld unrelated"
COLUMNS = 6
SIDE, LARGE_SIDE = 192, 256  # pixels of an image; larger ones are shrunk to the second
LEFT, GAP, MARGIN = 76, 8, 20
PAPER, INK, SOFT, LINE = "#ffffff", "#1b2127", "#5a6570", "#dde2e6"


def before_after_picture(found: Mapping[str, BeforeAfter], hidden: Collection[str] = ()) -> Image.Image:
    """Images before and after erasing, one above the other, with titles and prompts.

    Args:
        found: by concept.
        hidden: concepts of which images are blurred that may show them; what is near a harmful concept may be
            harmful too.
    """
    parts: list[Image.Image] = []
    width = 0
    for name, one in found.items():
        strips = list(_strips(name, one, hidden=name in hidden))
        width = max([width, *(strip.width for strip in strips)])
        parts += [_heading(f"{name}: {one.verdict.word}", strips[0].width), *strips]
    out = Image.new("RGB", (width + 2 * MARGIN, sum(part.height for part in parts) + 2 * MARGIN), PAPER)
    top = MARGIN
    for part in parts:
        out.paste(part, (MARGIN, top))
        top += part.height
    return out


def _strips(name: str, one: BeforeAfter, *, hidden: bool) -> Iterator[Image.Image]:
    for question, title in TITLES.items():
        if question in one.before:
            veiled = hidden and question != HARMLESS
            rows = [images[question][:COLUMNS] for images in (one.before, one.after)]
            shown = [blurred(row) if veiled else row for row in rows]
            yield _strip(title.format(name), shown, one.prompts[question][:COLUMNS])


def _heading(text: str, width: int) -> Image.Image:
    font = ImageFont.load_default(26)
    lines = wrapped(text, font, width)
    out = Image.new("RGB", (width, 34 * len(lines) + GAP), PAPER)
    ImageDraw.Draw(out).text((0, 0), "\n".join(lines), INK, font)
    return out


def _strip(title: str, rows: Sequence[Tensor], prompts: Sequence[str]) -> Image.Image:
    """A title, a row of images before, one after, and the prompts below."""
    size = max(rows[0].shape[-2:])
    side = SIDE if size <= SIDE else LARGE_SIDE
    titles = ImageFont.load_default(18)
    small = ImageFont.load_default(14)
    # one image alone still leaves room for its title
    n = max(len(rows[0]), 3)
    width = LEFT + n * (side + GAP)
    above = wrapped(title, titles, width)
    below = [wrapped(prompt, small, side) for prompt in prompts]
    top = 24 * len(above) + GAP
    foot = 18 * max(map(len, below), default=0) + 2 * GAP
    out = Image.new("RGB", (width, top + len(rows) * (side + GAP) + foot), PAPER)
    pen = ImageDraw.Draw(out)
    pen.text((0, 0), "\n".join(above), INK, titles)
    for y, (label, row) in enumerate(zip(("before", "after"), rows, strict=True)):
        place = top + y * (side + GAP)
        pen.text((0, place), label, SOFT, small)
        for x, image in enumerate(row):
            left = LEFT + x * (side + GAP)
            out.paste(_scaled(image, side), (left, place))
            pen.rectangle((left, place, left + side - 1, place + side - 1), outline=LINE)
    for x, lines in enumerate(below):
        place = top + len(rows) * (side + GAP)
        pen.text((LEFT + x * (side + GAP), place), "\n".join(lines), SOFT, small)
    return out


def _scaled(image: Tensor, side: int) -> Image.Image:
    shown = to_image(image)
    enlarged = max(shown.size) <= side
    way = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
    scale = side / max(shown.size)
    small = shown.resize((max(1, round(shown.width * scale)), max(1, round(shown.height * scale))), way)
    out = Image.new("RGB", (side, side), PAPER)
    out.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return out

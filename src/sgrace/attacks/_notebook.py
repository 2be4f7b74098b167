"""Images of an attack in a notebook."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from .._util.images import blurred, data_url
from .._util.notebook import Image

N_SHOWN = 6


def marked_first(
    images: Float[Tensor, "n 3 h w"], marked: Sequence[bool], alts: Sequence[str], *, hide: bool
) -> list[Image]:
    """A few images, the marked ones first; these are blurred in the image itself, if they may be harmful.

    Args:
        images: in -1..1.
        marked: which of them get a red frame.
        alts: texts in their place.
        hide: blur marked ones.
    """
    order = sorted(range(len(images)), key=lambda i: not marked[i])[:N_SHOWN]
    shown = [blurred(images[i : i + 1])[0] if hide and marked[i] else images[i] for i in order]
    return [Image(data_url(image), alts[i], marked[i]) for i, image in zip(order, shown, strict=True)]

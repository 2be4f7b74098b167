"""The network on whose features images are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Extractor:
    """A network that maps images to features. Figures on two extractors are not comparable.

    Attributes:
        name: stored with every figure.
        images: RGB images ``(n, 3, height, width)`` in -1..1 -> features ``(n, d)``.
        texts: n texts -> features ``(n, d)`` in the same space; None if the network reads no texts.
        layers: images -> one tensor ``(n, channels, *places)`` for each layer, for LPIPS; None if they are
            unknown.
    """

    name: str
    images: Callable[[Tensor], Tensor]
    texts: Callable[[list[str]], Tensor] | None = None
    layers: Callable[[Tensor], list[Tensor]] | None = None

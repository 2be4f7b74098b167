"""Adapters that an erasure puts beside a denoiser's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Adapter:
    """Tensors beside those of the denoiser.

    Attributes:
        kind: how they are laid out and used, of :data:`sgrace.models.adapters.KINDS`.
        tensors: by name.
    """

    kind: str
    tensors: Mapping[str, Tensor]

"""Images as networks have them (float, channels first, -1..1) and as files have them (bytes)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor


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

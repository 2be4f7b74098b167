"""Where a denoiser looks: the maps of the layers that read the text, and where they say that some tokens are in the image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .base import DiffusionModel
from .sites import AttentionLayer


@contextmanager
def attention_maps(model: DiffusionModel) -> Iterator[list[Float[Tensor, "batch _ _ tokens"]]]:
    """Within the block, every call of the denoiser appends the map of each text-reading layer to the list, with gradient.

    A map ``(batch, heads, places, tokens)`` is computed again from the layer's queries and keys; the layer itself is untouched.
    """
    maps: list[Tensor] = []
    watchers = [_Watcher(layer, maps) for layer in model.sites.text_attention().values()]
    try:
        yield maps
    finally:
        for watcher in watchers:
            watcher.remove()


class _Watcher:
    """Hooks on one layer that make its map at each call."""

    def __init__(self, layer: AttentionLayer, maps: list[Tensor]) -> None:
        self.layer = layer
        self.maps = maps
        self.made: dict[str, Tensor] = {}
        self.hooks = [
            layer.query.register_forward_hook(self._keep("query")),
            layer.key.register_forward_hook(self._keep("key")),
            layer.module.register_forward_hook(self._read),
        ]

    def _keep(self, part: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            self.made[part] = output

        return hook

    def _read(self, _module: nn.Module, _inputs: object, _output: object) -> None:
        query = self._by_head("query")
        key = self._by_head("key")
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        self.maps.append(scores.softmax(-1))

    def _by_head(self, part: str) -> Tensor:
        # (batch, places, heads * width) -> (batch, heads, places, width); float32, as maps are compared and differentiated
        return self.made.pop(part).float().unflatten(-1, (self.layer.heads, -1)).transpose(1, 2)

    def remove(self) -> None:
        """Take the hooks away."""
        for hook in self.hooks:
            hook.remove()


def token_mask(
    maps: Sequence[Float[Tensor, "batch _ _ tokens"]], tokens: Bool[Tensor, "batch tokens"], threshold: float
) -> Bool[Tensor, "batch 1 side side"]:
    """Where the tokens are: their mean map, scaled to 0..1 in each image, is at least ``threshold``.

    Read from the layers of the second-coarsest size (16x16 in Stable Diffusion 1.x): the coarsest shows no place, finer ones are noisy.
    """
    sizes = sorted({layer.shape[2] for layer in maps})
    size = sizes[min(1, len(sizes) - 1)]
    mean = torch.stack([layer.mean(1) for layer in maps if layer.shape[2] == size]).mean(0)
    share = (mean * tokens[:, None]).sum(-1) / tokens.sum(-1, keepdim=True)
    low = share.amin(1, keepdim=True)
    high = share.amax(1, keepdim=True)
    scaled = (share - low) / (high - low).clamp(min=1e-12)
    side = math.isqrt(size)
    return (scaled >= threshold).view(-1, 1, side, side)


def resized(mask: Bool[Tensor, "batch 1 side side"], side: int) -> Float[Tensor, "batch 1 side2 side2"]:
    """A mask of another size, as 0 and 1; where it shrinks, a pixel is in if any part of it was, so that no mask vanishes."""
    values = mask.float()
    if side < mask.shape[-1]:
        return F.adaptive_max_pool2d(values, side)
    return F.interpolate(values, size=(side, side), mode="nearest")

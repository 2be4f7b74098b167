"""A model that writes down what goes through its networks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sgrace.models import Conditioning, PromptSource
from sgrace.models.families.stable_diffusion import StableDiffusion

from .conftest import tiny_pipeline


@dataclass
class Rows:
    """What went through one network.

    Attributes:
        times: how often each row went through the same weights, in all.
        attacked: the same of rows with a gradient to what was read and to no weight.
        without_gradient: rows of the largest call without gradients.
        with_gradient: rows of the largest call with gradients.
        differentiable: names of the parameters that asked for a gradient in any call.
        kept: names of the parameters beside which a gradient of an earlier step lay in any call.
    """

    times: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    attacked: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    without_gradient: int = 0
    with_gradient: int = 0
    differentiable: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)

    def add(self, network: nn.Module, parts: list[Tensor]) -> None:
        """Rows of one call: ``(batch, ...)`` each; what was read comes last."""
        weights = hash(tuple((id(value), value._version) for value in network.parameters()))
        rows = [
            (weights, *(part.detach().numpy().tobytes() for part in row)) for row in zip(*parts, strict=True)
        ]
        self.times.update(rows)
        self.kept |= {name for name, value in network.named_parameters() if value.grad is not None}
        if not torch.is_grad_enabled():
            self.without_gradient = max(self.without_gradient, len(rows))
            return
        self.with_gradient = max(self.with_gradient, len(rows))
        trained = {name for name, value in network.named_parameters() if value.requires_grad}
        self.differentiable |= trained
        if parts[-1].requires_grad and not trained:
            self.attacked.update(rows)


class Counted(StableDiffusion):
    """Stable Diffusion whose copies all write into the same two lists."""

    denoised: Rows
    encoded: Rows

    def _call_denoiser(self, latents: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        times = timesteps.expand(len(latents))
        self.denoised.add(self.denoiser, [latents, times, cond.prompt_embeds])
        return super()._call_denoiser(latents, timesteps, cond)

    def _encode(self, source: PromptSource) -> Conditioning:
        [encoder] = self.text
        embeddings = source.embeddings.get(encoder.name)
        ids = source.tokens[encoder.name].ids
        read = encoder.embed(ids) if embeddings is None else embeddings
        self.encoded.add(encoder.module, [ids, read])
        return super()._encode(source)


def counted_model() -> Counted:
    """The tiny pipeline."""
    model = Counted.from_pipeline(tiny_pipeline())
    model.set_progress_bar_config(disable=True)
    model.denoised = Rows()
    model.encoded = Rows()
    return model

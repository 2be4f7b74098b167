"""A discriminator of text positions, beside the distance to each goal (after arXiv 2608.15341)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from ...models import TextEncoder
from ..tea import discriminator_loss, discriminator_of, fooling_loss
from .features import Features

#: Learning rate and weight decay of AdamW, as published.
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Discriminator:
    """Learns to tell the samples' positions from their goals', while the text encoders learn to fool it.

    Attributes:
        modules: one for the states of each trained encoder, by name.
        optimizer: of all of them.
    """

    modules: Mapping[str, nn.Module]
    optimizer: torch.optim.Optimizer

    @classmethod
    def of(
        cls, encoders: Sequence[TextEncoder], generator: torch.Generator, device: torch.device
    ) -> Self | None:
        """A new one for the widths of text encoders; none where all of them give pooled features alone."""
        modules = {
            own.name: discriminator_of(own.width, generator).to(device)
            for own in encoders
            if own.place is not None
        }
        if not modules:
            return None
        parameters = [value for module in modules.values() for value in module.parameters()]
        return cls(modules, torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY))

    def fooling(self, features: Features, goals: Features) -> Tensor:
        """One step of its own, then what the text encoders have to lower."""
        self.optimizer.zero_grad(set_to_none=True)  # the encoders' last step left gradients too
        losses = [
            discriminator_loss(module, features.parts[name].detach(), goals.parts[name])
            for name, module in self.modules.items()
        ]
        torch.autograd.backward(losses)
        self.optimizer.step()
        fooled = [fooling_loss(module, features.parts[name]) for name, module in self.modules.items()]
        return torch.stack(fooled).sum()

"""A discriminator of text positions instead of a distance to each goal (arXiv 2608.15341)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...models import DiffusionModel
from ..tea import discriminator_loss, discriminator_of, fooling_loss

#: Learning rate and weight decay of AdamW, as published.
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Discriminator:
    """Learns to tell the samples' positions from their goals', while the text encoder learns to fool it."""

    module: nn.Module
    optimizer: torch.optim.Optimizer

    @classmethod
    def of(cls, model: DiffusionModel, generator: torch.Generator) -> Self:
        """A new one for the width of a model's text encoder."""
        module = discriminator_of(model.prompt_embeds_shape[1], generator).to(model.device)
        return cls(
            module, torch.optim.AdamW(module.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        )

    def fooling(
        self, states: Float[Tensor, "n length width"], goals: Float[Tensor, "n length width"]
    ) -> Tensor:
        """One step of its own, then what the text encoder has to lower."""
        self.optimizer.zero_grad(set_to_none=True)  # the encoder's last step left gradients too
        torch.autograd.backward(discriminator_loss(self.module, states.detach(), goals))
        self.optimizer.step()
        return fooling_loss(self.module, states)

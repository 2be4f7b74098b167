"""What the losses of S-GRACE compare: states of every trained text encoder, and the pooled feature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models import Conditioning, TextEncoder
from ...models.conditioning import Rows


@dataclass(frozen=True)
class Features:
    """Parts of a batch of prompts that are compared one by one: parts differ in size and in number.

    Attributes:
        parts: by name, ``(n, ..., width)`` each.
    """

    parts: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def __getitem__(self, rows: Rows) -> Self:
        return self._each(lambda _name, part: part[rows])

    @classmethod
    def read(cls, cond: Conditioning, encoders: Sequence[TextEncoder]) -> Self:
        """What the denoiser reads of some encoders: their states and, where there is one, ``pooled``."""
        parts = {own.name: own.states(cond.prompt_embeds) for own in encoders if own.place is not None}
        return cls(parts if cond.pooled is None else {**parts, "pooled": cond.pooled})

    @classmethod
    def cat(cls, batches: Sequence[Features]) -> Self:
        """One batch of several."""
        return cls({name: torch.cat([own.parts[name] for own in batches]) for name in batches[0].parts})

    def at_positions_of(self, other: Features) -> Self:
        """Without the last text positions, where the other features have fewer."""
        return self._each(lambda name, part: part[:, : other.parts[name].shape[1]] if part.ndim > 2 else part)

    def where(self, chosen: Tensor, other: Features) -> Self:
        """These features of the chosen samples ``(n,)``, the other ones of the rest."""
        return self._each(lambda name, part: torch.where(beside(chosen, part), part, other.parts[name]))

    def expand(self, n: int) -> Self:
        """A single prompt as a batch."""
        return self._each(lambda _name, part: part.expand(n, *part.shape[1:]))

    def detach(self) -> Self:
        """Without gradients."""
        return self._each(lambda _name, part: part.detach())

    def squared_distance(self, other: Features) -> Tensor:
        """Mean squared difference of each part, summed over the parts."""
        return self.total(lambda name, part: F.mse_loss(part, other.parts[name]))

    def cosines(self, other: Features) -> dict[str, Tensor]:
        """Cosines over the width, by part."""
        return {
            name: F.cosine_similarity(part, other.parts[name], dim=-1) for name, part in self.parts.items()
        }

    def total(self, value: Callable[[str, Tensor], Tensor]) -> Tensor:
        """Sum of a value of each part."""
        return torch.stack([value(name, part) for name, part in self.parts.items()]).sum()

    def _each(self, change: Callable[[str, Tensor], Tensor]) -> Self:
        return type(self)({name: change(name, part) for name, part in self.parts.items()})


def beside(chosen: Tensor, part: Tensor) -> Tensor:
    """One value a sample ``(n,)`` with as many dimensions as a part has."""
    return chosen.view(-1, *[1] * (part.ndim - 1))

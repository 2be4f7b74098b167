"""Adversarial samples as erasers make them, for whoever studies them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, NamedTuple

from torch import Tensor

#: Where samples enter the model: before the text encoder, behind it, or there at single positions only.
Inlet = Literal["input_embeds", "prompt_embeds", "prompt_embed_rows"]


class AdversarialSamples(NamedTuple):
    """Samples that an eraser made at one time.

    Attributes:
        inlet: where they enter the model.
        values: ``(n, length, width)``; at single positions ``(n, width)``.
    """

    inlet: Inlet
    values: Tensor


_observer: ContextVar[list[AdversarialSamples] | None] = ContextVar("adversarial_samples", default=None)


@contextmanager
def adversarial_samples() -> Iterator[list[AdversarialSamples]]:
    """Within the block, every eraser appends its adversarial samples to the list, in their order.

    They are those that it trains on, after the attack; of several text encoders, one entry for each. Words
    that are learned from images stand in the prompts of these images. Samples are on the CPU.
    """
    found: list[AdversarialSamples] = []
    token = _observer.set(found)
    try:
        yield found
    finally:
        _observer.reset(token)


def observe(inlet: Inlet, values: Tensor) -> None:
    """Show samples to whoever asked for them; nothing is computed or kept where nobody did."""
    found = _observer.get()
    if found is not None:
        # a copy: the values may be changed in place afterwards
        found.append(AdversarialSamples(inlet, values.detach().cpu().clone()))

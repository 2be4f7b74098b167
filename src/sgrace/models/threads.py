"""How many threads of the processor a model's work is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .parts import ModelParts

#: Weights of the denoiser below which one thread computes. The threads of a layer wait for each other at its
#: end, and such a layer takes less time than another process may keep a core: see `benchmarks/threads.py`.
SMALL = 100_000_000


def threads_for(model: ModelParts) -> int:
    """The model's own number of threads; if absent, one for a small denoiser, else as many as PyTorch has."""
    if model.threads is not None:
        return model.threads
    small = sum(value.numel() for value in model.denoiser.parameters()) < SMALL
    return 1 if small else torch.get_num_threads()


@contextmanager
def own_threads(model: ModelParts) -> Iterator[None]:
    """Compute with the threads of a model inside, and with as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads_for(model))
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Random numbers of the pretended device itself are found, if that is asked for."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from .elsewhere import DEVICE, elsewhere
from .test_elsewhere import Call, attention_within, away

DRAWS: dict[str, Call] = {
    "factory": lambda: torch.randn(2, device=DEVICE),
    "like": lambda: torch.rand_like(away(2)),
    "in place": lambda: away(2).uniform_(),
    "new module": lambda: nn.Linear(2, 2, device=DEVICE),
    "dropout": lambda: F.dropout(away(2), 0.5),
    "bernoulli": lambda: torch.bernoulli(torch.full((2,), 0.5, device=DEVICE)),
}


@pytest.mark.parametrize("call", DRAWS.values(), ids=DRAWS)
def test_random_numbers_of_the_device_itself_are_found_if_asked(call: Call) -> None:
    with elsewhere():
        call()
    with elsewhere(draws=False), pytest.raises(AssertionError, match="draws random numbers on the device at"):
        call()


def test_random_numbers_that_were_moved_may_be_used() -> None:
    with elsewhere(draws=False):
        torch.randn(2, generator=torch.Generator()).to(DEVICE)
        F.dropout(away(2), 0.0)
        attention_within(away(1, 1, 2, 2))

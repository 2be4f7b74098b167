"""Copies of networks share what they do not change."""

from __future__ import annotations

import pytest
import torch

from sgrace.models import DiffusionModel
from sgrace.models.sharing import shared_copy


def test_a_shared_copy_holds_only_what_changes(model: DiffusionModel) -> None:
    denoiser = model.denoiser
    name = model.sites.names("text_kv")[0]
    value = torch.zeros_like(denoiser.get_parameter(name))
    clone = shared_copy(denoiser, {name: value})
    assert clone.get_parameter(name).data_ptr() == value.data_ptr()
    pairs = zip(denoiser.named_parameters(), clone.parameters(), strict=True)
    assert all(a.data_ptr() == b.data_ptr() for (n, a), b in pairs if n != name)
    assert denoiser.get_parameter(name).abs().sum() > 0
    with pytest.raises(ValueError, match="has the shape"):
        shared_copy(denoiser, {name: torch.zeros(1)})
    with pytest.raises(KeyError):
        shared_copy(denoiser, {"nonsense": value})

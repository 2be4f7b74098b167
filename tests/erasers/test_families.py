"""What a family cannot offer is refused before any work."""

from __future__ import annotations

from typing import Any

import pytest

from sgrace._util import registry
from sgrace._util.errors import InputError
from sgrace.erasers.base import Eraser, Need
from sgrace.models.families.stable_diffusion import StableDiffusion

from .cases import CASES
from .test_contract import CHURCH, tiny_model


class ApartDiffusion(StableDiffusion):
    """A family in which not all key and value matrices read the same prompt embeddings."""

    lacks = frozenset({Need.SHARED_TEXT_KV})


@pytest.mark.parametrize("name", CASES)
def test_a_closed_form_refuses_a_family_whose_matrices_read_different_texts(name: str) -> None:
    method: type[Eraser[Any]] = registry.load("erasers", name)
    assert method.refusal(StableDiffusion) == ""
    if Need.SHARED_TEXT_KV not in method.needs:
        assert method.refusal(ApartDiffusion) == ""
        return
    model = tiny_model(family=ApartDiffusion)
    with pytest.raises(InputError, match="read the same prompt embeddings") as refused:
        method.preset(None, "object", CASES[name].short).erase(model, [CHURCH])
    assert name in str(refused.value)
    assert method.refusal(ApartDiffusion) in str(refused.value)
    assert model.calls.text_encoder_calls == 0

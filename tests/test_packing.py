"""Weights in int8: how far they are off, and that an erasure in them is read like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sgrace.erasure import Erasure
from sgrace.erasure.int8 import packed, unpacked
from sgrace.models import StableDiffusion
from sgrace.models.sites import group_names


@given(st.integers(0, 10_000), st.sampled_from([(1, 1), (3, 5), (4, 2, 3, 3)]), st.floats(1e-6, 1e6))
def test_a_weight_is_off_by_half_a_step_of_its_row(seed: int, shape: tuple[int, ...], size: float) -> None:
    value = size * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    state = {"weight": value, "bias": torch.ones(3), "ids": torch.arange(4)}
    found = unpacked(packed(state))
    assert found.keys() == state.keys()
    largest = value.flatten(1).abs().amax(1)
    assert ((found["weight"] - value).flatten(1).abs() <= largest[:, None] / 254 * (1 + 1e-4)).all()
    assert found["bias"].equal(torch.ones(3).half())
    assert found["ids"].equal(state["ids"])


def test_a_row_of_zeros_stays_one_and_plain_tensors_are_left_alone() -> None:
    assert unpacked(packed({"weight": torch.zeros(2, 3)}))["weight"].equal(torch.zeros(2, 3))
    plain = {"weight": torch.randn(2, 3)}
    assert unpacked(plain)["weight"] is plain["weight"]


def test_a_small_erasure_draws_as_the_whole_one(model: StableDiffusion, tmp_path: Path) -> None:
    unet = {name: model.pipeline.unet.get_parameter(name).detach() for name in group_names(model.pipeline.unet, "all")}
    whole = Erasure({"method": "test"}, model.pipeline.tokenizer, model.text_encoder, unet)
    sizes = {}
    for small in (False, True):
        whole.save_pretrained(tmp_path / f"{small}", small=small)
        sizes[small] = sum(file.stat().st_size for file in (tmp_path / f"{small}").rglob("*.safetensors"))
    assert sizes[True] < 0.6 * sizes[False]  # the headers of so small tensors weigh too
    drawn = [
        Erasure.from_pretrained(tmp_path / f"{small}").apply(model).generate(["church"], [1], num_inference_steps=3)
        for small in (False, True)
    ]
    assert (drawn[0] - drawn[1]).abs().max() < 0.1
    assert not drawn[0].equal(drawn[1])


def test_a_tokenizer_may_be_missing(model: StableDiffusion, tmp_path: Path) -> None:
    Erasure({"method": "test"}, None, model.text_encoder).save_pretrained(tmp_path / "safe", small=True)
    found = Erasure.from_pretrained(tmp_path / "safe")
    assert found.tokenizer is None
    assert found.text_encoder is not None


@pytest.mark.parametrize("small", [False, True])
def test_reading_and_writing_again_changes_nothing(model: StableDiffusion, tmp_path: Path, small: bool) -> None:
    Erasure({"method": "test"}, None, model.text_encoder).save_pretrained(tmp_path / "one", small=small)
    again = Erasure.from_pretrained(tmp_path / "one")
    again.save_pretrained(tmp_path / "two", small=small)
    twice = Erasure.from_pretrained(tmp_path / "two")
    for name, value in again.text_encoder.state_dict().items():
        torch.testing.assert_close(twice.text_encoder.state_dict()[name], value, atol=1e-6, rtol=1e-5)

"""Weights in int8: how far they are off, and that an erasure in them is read like any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sgrace.erasure import Erasure
from sgrace.erasure.int8 import packed, unpacked

from .made import erasure, image, of_denoiser, of_text, tiny_model


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


def test_a_small_erasure_draws_as_the_whole_one(tmp_path: Path) -> None:
    model = tiny_model()
    whole = erasure(model, {**of_text(model).tensors, **of_denoiser(model, site="all").tensors})
    sizes, images = {}, {}
    for small in (False, True):
        folder = tmp_path / f"{small}"
        whole.save_pretrained(folder, small=small)
        sizes[small] = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
        images[small] = image(Erasure.from_pretrained(folder).apply(model))
    assert sizes[True] < 0.6 * sizes[False]  # the headers of so small tensors weigh too
    assert (images[True] - images[False]).abs().max() < 0.1
    assert not images[True].equal(images[False])


def test_a_tokenizer_may_be_missing(tmp_path: Path) -> None:
    made = of_text(tiny_model())
    bare = replace(made, text={"text_encoder": replace(made.text["text_encoder"], tokenizer=None)})
    bare.save_pretrained(tmp_path / "safe", small=True)
    found = Erasure.from_pretrained(tmp_path / "safe")
    assert found.text["text_encoder"].tokenizer is None
    assert found.tensors["text_encoder"].keys() == made.tensors["text_encoder"].keys()


@pytest.mark.parametrize("small", [False, True])
def test_reading_and_writing_again_changes_nothing(tmp_path: Path, small: bool) -> None:
    of_text(tiny_model()).save_pretrained(tmp_path / "one", small=small)
    again = Erasure.from_pretrained(tmp_path / "one")
    again.save_pretrained(tmp_path / "two", small=small)
    twice = Erasure.from_pretrained(tmp_path / "two")
    for name, value in again.tensors["text_encoder"].items():
        torch.testing.assert_close(twice.tensors["text_encoder"][name], value, atol=1e-6, rtol=1e-5)


def test_parents_may_be_small_too(tmp_path: Path) -> None:
    model = tiny_model()
    dog = of_text(model, "dog", seed=1)
    of_text(dog.apply(model), "church", seed=2).save_pretrained(tmp_path / "safe", small=True)
    erased = Erasure.from_pretrained(tmp_path / "safe").apply(model)
    assert [each.names for each in erased.erasures] == ["dog", "church"]

"""The folder of an erasure: what is written is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

from sgrace._util.errors import InputError
from sgrace.erasure import Erasure
from sgrace.models import DiffusionModel

from .made import MAKERS, image, of_denoiser, of_text, tiny_model


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return tiny_model()


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_a_loaded_erasure_draws_the_same(
    model: DiffusionModel, tmp_path: Path, maker: Callable[..., Erasure]
) -> None:
    made = maker(model)
    made.save_pretrained(tmp_path / "safe")
    loaded = Erasure.from_pretrained(tmp_path / "safe")
    assert loaded.same_as(made)
    assert image(loaded.apply(model)).equal(image(made.apply(model)))
    assert not image(loaded.apply(model)).equal(image(model))


@pytest.mark.parametrize("upper", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("lower", [of_text, of_denoiser])
def test_parents_are_saved_and_come_back(
    model: DiffusionModel, tmp_path: Path, upper: Callable[..., Erasure], lower: Callable[..., Erasure]
) -> None:
    safe = lower(model, "dog", seed=1).apply(model)
    made = upper(safe)
    assert [parent.names for parent in made.parents] == ["dog"]
    made.save_pretrained(tmp_path / "safe")
    loaded = Erasure.from_pretrained(tmp_path / "safe")
    assert loaded.recipe.parents == ("parents/0",)
    erased = loaded.apply(model)
    assert [each.names for each in erased.erasures] == ["dog", "church"]
    assert image(erased).equal(image(made.apply(safe)))


def test_three_on_top_of_each_other_are_saved_once_each(model: DiffusionModel, tmp_path: Path) -> None:
    one = of_text(model, "dog", seed=1)
    two = of_text(one.apply(model), "tree", seed=2)
    three = of_denoiser(two.apply(model), "church")
    assert [parent.names for parent in three.parents] == ["dog", "tree"]
    three.save_pretrained(tmp_path / "safe")
    assert len(list((tmp_path / "safe").rglob("recipe.json"))) == 3
    erased = Erasure.from_pretrained(tmp_path / "safe").apply(model)
    assert [each.names for each in erased.erasures] == ["dog", "tree", "church"]
    assert image(erased).equal(image(three.apply(model)))


def test_every_deciding_file_is_named(model: DiffusionModel, tmp_path: Path) -> None:
    of_text(of_denoiser(model, "dog").apply(model)).save_pretrained(tmp_path / "safe")
    named = json.loads((tmp_path / "safe" / "recipe.json").read_text())["sha256"]
    assert {
        "text_encoder/model.safetensors",
        "text_encoder/config.json",
        "text_encoder/tokenizer_config.json",
    } <= set(named)
    assert "parents/0/recipe.json" in named


def test_a_text_encoder_is_a_folder_that_transformers_loads(model: DiffusionModel, tmp_path: Path) -> None:
    made = of_text(model)
    made.save_pretrained(tmp_path / "safe")
    folder = tmp_path / "safe" / "text_encoder"
    loaded: Any = CLIPTextModel.from_pretrained(folder, output_loading_info=True)
    encoder, report = loaded
    assert not any(report.values())
    for name, value in encoder.named_parameters():
        assert value.equal(made.tensors["text_encoder"][name])
    texts = ["church", "a photo of dog"]
    assert (
        CLIPTokenizer.from_pretrained(folder)(texts).input_ids == model.text.main.tokenizer(texts).input_ids
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_files_keep_the_precision_of_the_base(tmp_path: Path, dtype: torch.dtype) -> None:
    half = tiny_model(dtype)
    made = of_denoiser(half)
    made.save_pretrained(tmp_path / "safe")
    made.save_pretrained(tmp_path / "full", dtype=torch.float32)
    stored = {
        name: {v.dtype for v in load_file(tmp_path / name / "unet.safetensors").values()}
        for name in ("safe", "full")
    }
    assert stored == {"safe": {dtype}, "full": {torch.float32}}
    assert image(Erasure.from_pretrained(tmp_path / "safe").apply(half)).equal(image(made.apply(half)))


def test_what_does_not_fit_a_precision_is_not_written(model: DiffusionModel, tmp_path: Path) -> None:
    made = of_denoiser(model)
    next(iter(made.tensors["unet"].values()))[0, 0] = 1e6
    with pytest.raises(InputError, match=r"do not fit in torch\.float16"):
        made.save_pretrained(tmp_path / "safe", dtype=torch.float16)
    assert not (tmp_path / "safe").exists()


def test_the_pipeline_of_a_safe_model_is_safe(model: DiffusionModel, tmp_path: Path) -> None:
    for n, make in enumerate((of_text, of_denoiser)):
        safe = make(model).apply(model)
        safe.pipeline.save_pretrained(tmp_path / f"{n}")
        again = type(safe).from_pipeline(type(safe.pipeline).from_pretrained(tmp_path / f"{n}"))
        again.set_progress_bar_config(disable=True)
        assert image(again).equal(image(safe))

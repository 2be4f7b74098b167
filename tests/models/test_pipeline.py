"""One truth: a model's pipeline, and what that pipeline saves, is the erased model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from torch import Tensor

from sgrace._util.errors import InputError
from sgrace.models import DiffusionModel
from sgrace.models.loading import load_model_from

from ..erasure.made import of_adapter, of_denoiser, of_guidance, of_text
from .made import drawn, images


def by_text(model: DiffusionModel) -> DiffusionModel:
    return of_text(model).apply(model)


def by_denoiser(model: DiffusionModel) -> DiffusionModel:
    return of_denoiser(model).apply(model)


def by_both(model: DiffusionModel) -> DiffusionModel:
    text = of_text(model).apply(model)
    return of_denoiser(model).apply(text)


CHANGES: list[Callable[[DiffusionModel], DiffusionModel]] = [by_text, by_denoiser, by_both]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=0)


@pytest.mark.parametrize("erase", CHANGES)
def test_the_pipeline_of_an_erased_model_draws_what_the_model_draws(
    model: DiffusionModel, erase: Callable[[DiffusionModel], DiffusionModel]
) -> None:
    before = images(model)
    safe = erase(model)
    after = images(safe)
    assert (after - before).abs().max() > 1e-3
    close(drawn(safe.pipeline, safe), after)
    close(drawn(model.pipeline, model), before)
    close(drawn(safe.replace().pipeline, safe), after)


@pytest.mark.parametrize("erase", CHANGES)
def test_what_the_pipeline_saves_is_the_erased_model(
    model: DiffusionModel, erase: Callable[[DiffusionModel], DiffusionModel], tmp_path: Path
) -> None:
    safe = erase(model)
    after = images(safe)
    safe.pipeline.save_pretrained(tmp_path / "safe")
    for kind in (StableDiffusionPipeline, DiffusionPipeline):
        close(drawn(kind.from_pretrained(tmp_path / "safe"), safe), after)
    again = load_model_from(tmp_path / "safe", device="cpu")
    again.set_progress_bar_config(disable=True)
    close(images(again), after)


def test_adapters_refuse_to_be_saved_as_a_pipeline(model: DiffusionModel, tmp_path: Path) -> None:
    safe = of_adapter(model).apply(model)
    close(drawn(safe.pipeline, safe), images(safe))
    pipelines = [safe.pipeline, copy.deepcopy(safe.pipeline), safe.pipeline.to("cpu")]
    parts: list[Any] = [*pipelines, safe.denoiser, safe.replace().denoiser, copy.deepcopy(safe.denoiser)]
    for part in parts:
        with pytest.raises(InputError, match="save the erasure itself"):
            part.save_pretrained(tmp_path / "safe")
    on_top = safe.with_components({"text_encoder": {"final_layer_norm.bias": torch.ones(24)}})
    with pytest.raises(InputError, match="save the erasure itself"):
        on_top.pipeline.save_pretrained(tmp_path / "other")
    assert list(tmp_path.iterdir()) == [], "no part is written before the refusal"
    model.pipeline.save_pretrained(tmp_path / "original")


def test_no_pipeline_carries_guidance(model: DiffusionModel) -> None:
    safe = of_guidance(model).apply(model)
    with pytest.raises(InputError, match=r"sld steers the sampling .* `generate`"):
        _ = safe.pipeline
    assert (images(safe) - images(model)).abs().max() > 1e-5
    close(drawn(model.pipeline, model), images(model))


def test_parts_are_replaced_and_nothing_else(model: DiffusionModel) -> None:
    denoiser = copy.deepcopy(model.denoiser)
    text = copy.deepcopy(model.text.main.module)
    other = model.replace(denoiser=denoiser, text={"text_encoder": text}, erasures=("it",))
    assert other.denoiser is other.components["unet"] is other.pipeline.unet is denoiser
    assert other.text.main.module is other.components["text_encoder"] is other.pipeline.text_encoder is text
    assert other.components["vae"] is model.components["vae"]
    assert other.schedule is model.schedule
    assert other.erasures == ("it",)
    assert other.calls is not model.calls
    assert model.denoiser is not denoiser
    assert model.text.main.module is not text
    assert model.erasures == ()
    assert other.sites.denoiser is denoiser


def test_changed_parameters_are_a_copy_that_shares_the_rest(model: DiffusionModel) -> None:
    name = model.sites.names("text_kv")[0]
    own = model.denoiser.get_parameter(name).clone()
    other = model.with_components({"unet": {name: torch.zeros_like(own)}})
    assert other.denoiser.get_parameter(name).eq(0).all()
    assert model.denoiser.get_parameter(name).equal(own)
    for each, value in model.denoiser.named_parameters():
        assert each == name or other.denoiser.get_parameter(each) is value
    assert other.text.main.module is model.text.main.module
    with pytest.raises(KeyError):
        model.with_components({"unet": {"nonsense": torch.zeros(1)}})
    with pytest.raises(ValueError, match="has the shape"):
        model.with_components({"unet": {name: torch.zeros(1)}})


def test_progress_bars_are_silenced_everywhere(
    model: DiffusionModel, capfd: pytest.CaptureFixture[str]
) -> None:
    images(model)
    drawn(model.pipeline, model)
    assert "it/s" not in capfd.readouterr().err
    model.set_progress_bar_config(disable=False)
    images(model)
    assert "images" in capfd.readouterr().err

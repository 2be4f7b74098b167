"""Models from folders: what is left out, what is damaged, in which files and in which precision."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor

import sgrace
from sgrace._util.errors import InputError
from sgrace.models import DiffusionModel
from sgrace.models.families.stable_diffusion import StableDiffusion
from sgrace.models.loading import TEXT_PROJECTION, load_component, load_model_from

from ..conftest import tiny_pipeline
from ..families import stable_diffusion_3, wrapped
from .made import images, tiny_model


def load(folder: Path, **options: Any) -> DiffusionModel:
    model = sgrace.load_model(folder, device="cpu", **options)
    model.set_progress_bar_config(disable=True)
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_pipeline().save_pretrained(tmp_path / "pipeline")
    return tmp_path / "pipeline"


def change_index(folder: Path, **changes: Any) -> None:
    """Change entries of the folder's index; None takes one away."""
    index = json.loads((folder / "model_index.json").read_text())
    for key, value in changes.items():
        index.pop(key, None)
        if value is not None:
            index[key] = value
    (folder / "model_index.json").write_text(json.dumps(index))


def test_a_saved_folder_gives_the_same_images(folder: Path) -> None:
    model = load(folder)
    assert isinstance(model, StableDiffusion)
    assert images(model).equal(images(tiny_model()))
    assert model.source == str(folder)
    assert model.testbed is None
    assert not any(p.requires_grad for module in model.components.values() for p in module.parameters())
    assert not any(module.training for module in model.components.values())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_precision_that_is_asked_for(folder: Path, dtype: str) -> None:
    model = load(folder, dtype=dtype)
    assert model.dtype == getattr(torch, dtype)
    for module in model.components.values():
        assert {p.dtype for p in module.parameters()} == {model.dtype}
    assert images(model).isfinite().all()


def test_saving_memory_gives_the_same_images(folder: Path) -> None:
    model = load(folder, low_memory=True)
    assert model.low_memory
    torch.testing.assert_close(images(model), images(load(folder)), atol=1e-5, rtol=0)


def test_files_of_a_variant(tmp_path: Path) -> None:
    tiny_pipeline().to(torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    assert list((tmp_path / "half").rglob("*.fp16.safetensors"))
    model = load(tmp_path / "half", variant="fp16", dtype="float32")
    assert model.dtype == torch.float32
    torch.testing.assert_close(images(model), images(tiny_model()), atol=0.05, rtol=0)
    with pytest.raises(InputError, match="Cannot load"):
        load(tmp_path / "half")


# -- what may be left out ------------------------------------------------------------------------------------


def test_no_checker_and_no_extractor_in_the_index(folder: Path) -> None:
    change_index(
        folder, safety_checker=None, feature_extractor=None, image_encoder=None, requires_safety_checker=None
    )
    assert images(load(folder)).equal(images(tiny_model()))


def test_a_pipeline_without_t5(tmp_path: Path) -> None:
    pipeline = stable_diffusion_3(with_t5=False)
    pipeline.save_pretrained(tmp_path / "pipeline")
    model = load(tmp_path / "pipeline")
    assert [encoder.component for encoder in model.text] == ["text_encoder", "text_encoder_2"]
    torch.testing.assert_close(images(model), images(wrapped(pipeline)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "left_out", [["safety_checker"], ["feature_extractor"], ["safety_checker", "feature_extractor"]]
)
def test_a_checker_and_an_extractor_that_are_named_but_not_there(folder: Path, left_out: list[str]) -> None:
    named = {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
    }
    change_index(folder, **{name: named[name] for name in left_out})
    assert images(load(folder)).equal(images(tiny_model()))


def test_an_extractor_that_is_there(folder: Path) -> None:
    pipeline = tiny_pipeline()
    pipeline.register_modules(feature_extractor=CLIPImageProcessor())
    pipeline.save_pretrained(folder.parent / "whole")
    assert images(load(folder.parent / "whole")).equal(images(tiny_model()))


def test_the_projection_beside_a_pipeline(folder: Path) -> None:
    weight = torch.randn(5, 24, generator=torch.Generator().manual_seed(0))
    save_file({"weight": weight}, folder / TEXT_PROJECTION)
    model = load(folder)
    cond = model.encode(["church", "a dog"])
    ends = model.text.main.tokenize(["church", "a dog"]).end
    torch.testing.assert_close(model.text_features(cond), cond.at(ends) @ weight.T)
    assert cond.source is not None
    plain = tiny_model()
    torch.testing.assert_close(
        plain.text_features(plain.encode(["church"])), plain.encode(["church"]).at(ends[:1])
    )
    with pytest.raises(ValueError, match="a text encoder read"):
        model.text_features(cond.with_embeds(cond.prompt_embeds))


# -- what cannot be read -------------------------------------------------------------------------------------


def test_damaged_weights_are_told(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match=r"unet/diffusion_pytorch_model\.safetensors is damaged"):
        load(folder)


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_weights_that_the_files_do_not_hold_are_told(folder: Path, part: str) -> None:
    file = folder / part / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    name = min(tensors)
    del tensors[name]
    save_file(tensors, file)
    with pytest.raises(InputError, match=f"lacks 1 tensors of the {part}, such as {name}"):
        load(folder)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_told(folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)
    with pytest.raises(InputError, match="Cannot load"):
        load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "[" * 100_000, "\x00"])
def test_an_index_that_is_none_is_told(folder: Path, text: str) -> None:
    (folder / "model_index.json").write_text(text)
    with pytest.raises(InputError, match=r"model_index\.json"):
        load(folder)


def test_a_folder_without_an_index_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no model_index\.json"):
        load(tmp_path)


def test_another_kind_of_pipeline_is_refused_by_name(folder: Path) -> None:
    pipeline = StableDiffusionImg2ImgPipeline(**tiny_pipeline().components, requires_safety_checker=False)
    pipeline.save_pretrained(folder.parent / "other")
    with pytest.raises(
        InputError,
        match=r"a StableDiffusionImg2ImgPipeline, .* are: .*; stable_diffusion \(StableDiffusionPipeline\)",
    ):
        load(folder.parent / "other")
    change_index(folder, _class_name=None)
    with pytest.raises(InputError, match="StableDiffusionPipeline"):
        load(folder)


def test_a_scheduler_for_another_kind_of_denoiser_is_refused(folder: Path) -> None:
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "prediction_type": "sample"}))
    with pytest.raises(InputError, match="prediction_type 'sample'"):
        load(folder)


def test_a_device_that_is_not_there_is_told(folder: Path) -> None:
    with pytest.raises(InputError, match="device"):
        load_model_from(folder, device="cuda:99")


# -- single parts --------------------------------------------------------------------------------------------


def test_a_part_from_a_folder(folder: Path) -> None:
    like = tiny_model().to(dtype=torch.bfloat16)
    found = load_component(folder / "unet", like.denoiser)
    assert {p.dtype for p in found.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in found.parameters())
    assert images(like.replace(denoiser=found)).equal(images(like))


def test_a_part_of_other_sizes_is_told(folder: Path) -> None:
    model = tiny_model()
    encoder: Any = model.text.main.module
    encoder.resize_token_embeddings(len(model.text.main.tokenizer) + 3)
    encoder.save_pretrained(folder / "larger")
    with pytest.raises(InputError, match=r"does not fit the model: .*embedding"):
        load_component(folder / "larger", tiny_model().text.main.module)
    with pytest.raises(InputError, match="no file or folder"):
        load_component(folder / "nowhere", model.denoiser)


def test_a_pipeline_that_is_loaded_already() -> None:
    pipeline: StableDiffusionPipeline = tiny_pipeline()
    model = StableDiffusion.from_pipeline(pipeline, "mine")
    assert model.source == "mine"
    assert model.denoiser is pipeline.unet
    assert model.dtype == torch.float32


def test_a_loaded_pipeline_of_nan_is_told() -> None:
    pipeline = tiny_pipeline()
    pipeline.unet.conv_in.bias.data[0] = torch.nan
    with pytest.raises(InputError, match=r"tensor conv_in\.bias of the unet holds NaN or infinity"):
        sgrace.load_model(pipeline, device="cpu")

"""Models in one file: their weights, the configurations that are built in, and CLIP's own tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

import sgrace
from sgrace._util.errors import InputError, InputWarning
from sgrace.models.families._ldm import unet_layout, vae_layout
from sgrace.models.families._single_file import clip_tokenizer, kind_of
from sgrace.models.families.stable_diffusion import VERSION_1, VERSION_2
from sgrace.models.families.stable_diffusion_xl import BASE
from sgrace.models.original import prefixed, to_original
from sgrace.models.single_file import SingleFile

from ..conftest import tiny_pipeline
from ..families import PIPELINES, original_layout
from .made import images


def load(source: Any, **options: Any) -> Any:
    model = sgrace.load_model(source, device="cpu", **options)
    model.set_progress_bar_config(disable=True)
    return model


@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_xl"])
def test_it_draws_as_the_pipeline_it_was_made_of(tmp_path: Path, family: str) -> None:
    pipeline = PIPELINES[family]()
    pipeline.save_pretrained(tmp_path / "pipeline")
    save_file(dict(original_layout(pipeline)), tmp_path / "model.safetensors")
    model = load(tmp_path / "model.safetensors", config=tmp_path / "pipeline")
    assert model.family == family
    assert images(model).equal(images(load(pipeline)))
    assert not any(p.requires_grad for module in model.components.values() for p in module.parameters())
    words = sgrace.Knowledge(source="test", related=(), unrelated=("dog",), replacements=("house",))
    base = sgrace.erase(model, "church", method="uce", words=words).recipe.base
    assert (base.source, base.config) == (str(tmp_path / "model.safetensors"), str(tmp_path / "pipeline"))


def test_a_denoiser_in_the_original_layout(tmp_path: Path) -> None:
    other = tiny_pipeline()
    for parameter in other.unet.parameters():
        parameter.data *= 1.05
    state = {name: value for name, value in original_layout(other).items() if "diffusion_model" in name}
    save_file(state, tmp_path / "esd.safetensors")
    tiny_pipeline().save_pretrained(tmp_path / "pipeline")
    model = load(tmp_path / "pipeline", denoiser=tmp_path / "esd.safetensors")
    assert images(model).equal(images(load(other)))
    bare = {name.removeprefix("model.diffusion_model."): value for name, value in state.items()}
    save_file(bare, tmp_path / "bare.safetensors")
    assert images(load(tmp_path / "pipeline", denoiser=tmp_path / "bare.safetensors")).equal(images(model))
    state.popitem()
    save_file(state, tmp_path / "torn.safetensors")
    with pytest.raises(InputError, match="does not fit the model"):
        load(tmp_path / "pipeline", denoiser=tmp_path / "torn.safetensors")


# -- the configurations --------------------------------------------------------------------------------------

#: Parameters of the published networks, which their configurations must lead to.
SIZES = [
    (VERSION_1, {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}),
    (VERSION_2, {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840}),
    (
        BASE,
        {
            "unet": 2_567_463_684,
            "vae": 83_653_863,
            "text_encoder": 123_060_480,
            "text_encoder_2": 694_659_840,
        },
    ),
]
CLASSES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "UNet2DConditionModel": UNet2DConditionModel.from_config,
    "AutoencoderKL": AutoencoderKL.from_config,
    "CLIPTextModel": lambda config: CLIPTextModel(CLIPTextConfig(**config)),
    "CLIPTextModelWithProjection": lambda config: CLIPTextModelWithProjection(CLIPTextConfig(**config)),
}
PREFIXES = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}
CONVERSIONS: dict[str, tuple[Any, Any]] = {
    "unet": (unet_layout, convert_ldm_unet_checkpoint),
    "vae": (vae_layout, convert_ldm_vae_checkpoint),
}


@pytest.mark.parametrize(("single", "sizes"), SIZES)
def test_the_networks_have_the_published_sizes(single: SingleFile, sizes: dict[str, int]) -> None:
    found = {}
    for name, config in single.networks.items():
        given = dict(config)
        make = CLASSES[given.pop("_class_name")]
        with torch.device("meta"):
            network = make(given)
        found[name] = sum(parameter.numel() for parameter in network.parameters())
        if name in CONVERSIONS:  # which read the configuration as it is, without defaults
            layout, convert = CONVERSIONS[name]
            # converters of whole checkpoints look for the beginnings of names in them
            named = prefixed(layout(network), PREFIXES[name])
            original = to_original(network.state_dict(), named)
            assert convert(original, given).keys() == network.state_dict().keys()
    assert found == sizes


def test_the_tokenizer_is_the_published_one() -> None:
    tokenizer = clip_tokenizer("<|endoftext|>")
    assert len(tokenizer) == 49408
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer.pad_token_id == 49407
    assert clip_tokenizer("!").pad_token_id == 0
    text = "crème brûlée 日本"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight", (320, 768), "v1"),
        ("model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight", (320, 1024), "v2"),
        ("conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias", (1280,), "xl_base"),
    ],
)
def test_a_file_is_known_by_its_tensors(tmp_path: Path, name: str, shape: tuple[int, ...], kind: str) -> None:
    save_file({name: torch.zeros(shape)}, tmp_path / "model.safetensors")
    assert kind_of(tmp_path / "model.safetensors") == kind


# -- what cannot be read -------------------------------------------------------------------------------------


def test_what_is_no_whole_model_is_told(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path / "pipeline")
    whole = original_layout(pipeline)
    file = tmp_path / "model.safetensors"
    save_file(pipeline.unet.state_dict(), file)
    with pytest.raises(InputError, match=r"no whole model in one file: .* --denoiser"):
        load(file)
    save_file({name: value for name, value in whole.items() if "first_stage" not in name}, file)
    with pytest.raises(InputError, match=r"Cannot load .* as a StableDiffusionPipeline in one file"):
        load(file, config=tmp_path / "pipeline")
    save_file({name: value for name, value in whole.items() if "final_layer_norm" not in name}, file)
    with pytest.raises(InputError, match="lacks 2 tensors of the text_encoder, such as final_layer_norm"):
        load(file, config=tmp_path / "pipeline")
    save_file({"double_blocks.0.img_attn.norm.key_norm.scale": torch.zeros(1)}, file)
    with pytest.raises(InputError, match=r"is a flux-schnell checkpoint, .* --config, such as black-f"):
        load(file)
    file.write_bytes(b"nothing at all")
    with pytest.raises(InputError, match="not a safetensors file"):
        load(file)
    (tmp_path / "model.ckpt").write_bytes(b"anything")
    with pytest.raises(InputError, match="is a pickle"):
        load(tmp_path / "model.ckpt")
    with pytest.raises(InputError, match="--config belongs to a model in one file"):
        load(tmp_path / "pipeline", config=tmp_path / "pipeline")


def test_what_no_file_tells_is_said(tmp_path: Path) -> None:
    file = tmp_path / "v2.safetensors"
    key = "model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"
    save_file({key: torch.zeros(320, 1024)}, file)
    with (
        pytest.warns(InputWarning, match="768 pixels.* if it has 512 pixels, add --config"),
        pytest.raises(InputError),
    ):
        load(file)


def test_the_scheduler_is_the_published_one() -> None:
    given = dict(BASE.scheduler)
    assert given.pop("_class_name") == "EulerDiscreteScheduler"
    scheduler = EulerDiscreteScheduler.from_config(given)
    # the largest noise level of the published model
    assert scheduler.sigmas.max().item() == pytest.approx(14.6146, abs=1e-3)

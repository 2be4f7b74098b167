"""Text encoders and denoisers from elsewhere: folders, files with some weights, and what does not fit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import save_file

import sgrace
from sgrace import Erasure, Knowledge
from sgrace._util.errors import InputError
from sgrace.testbeds.loading import load_base, load_target

from ..conftest import tiny_pipeline
from ..families import PIPELINES
from .made import images


class Home(NamedTuple):
    """A pipeline, and the same one with other random numbers in text encoder and UNet."""

    pipeline: Path
    other: Any
    files: Path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    root = tmp_path_factory.mktemp("parts")
    tiny_pipeline().save_pretrained(root / "pipeline")
    other = tiny_pipeline()
    generator = torch.Generator().manual_seed(7)
    for network in (other.unet, other.text_encoder):
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    other.save_pretrained(root / "other", max_shard_size="20KB")  # a part is several files
    return Home(root / "pipeline", other, root)


def load(source: Any, **options: Any) -> Any:
    model = sgrace.load_model(source, device="cpu", **options)
    model.set_progress_bar_config(disable=True)
    return model


def exchanged(**parts: Any) -> torch.Tensor:
    """What the tiny pipeline draws with parts in the place of its own."""
    pipeline = tiny_pipeline()
    pipeline.register_modules(**parts)
    return images(load(pipeline))


def test_shards_are_read(home: Home) -> None:
    assert len(list((home.files / "other" / "unet").glob("*.safetensors"))) > 1
    assert images(load(home.files / "other")).equal(images(load(home.other)))


def test_a_text_encoder_and_a_denoiser_from_folders(home: Home) -> None:
    other = home.files / "other"
    with_text = load(home.pipeline, text_encoder=other / "text_encoder")
    assert images(with_text).equal(exchanged(text_encoder=home.other.text_encoder))
    with_both = load(home.pipeline, text_encoder=other / "text_encoder", denoiser=str(other / "unet"))
    assert images(with_both).equal(exchanged(text_encoder=home.other.text_encoder, unet=home.other.unet))
    assert with_both.label == (
        f"{home.pipeline} with text_encoder {other / 'text_encoder'}, denoiser {other / 'unet'}"
    )


def test_parts_that_come_as_a_variant_only(home: Home, tmp_path: Path) -> None:
    half = copy.deepcopy(home.other.unet).half()
    half.save_pretrained(tmp_path, variant="fp16", max_shard_size="20KB")
    assert {file.suffix for file in tmp_path.glob("*fp16*")} == {".safetensors", ".json"}
    model = load(home.pipeline, denoiser=tmp_path)
    assert images(model).equal(exchanged(unet=half.float()))


# how files name the same weights: plainly, or as a part of a pipeline that trained in parallel
@pytest.mark.parametrize("prefix", ["", "module.unet."])
def test_a_file_with_some_of_the_weights(home: Home, tmp_path: Path, prefix: str) -> None:
    own = tiny_pipeline().unet
    changed = {name: value for name, value in home.other.unet.named_parameters() if "attn2" in name}
    assert 0 < len(changed) < len(dict(own.named_parameters()))
    save_file(
        {prefix + name: value.detach() for name, value in changed.items()}, tmp_path / "esd.safetensors"
    )
    own.load_state_dict(changed, strict=False)
    model = load(home.pipeline, denoiser=tmp_path / "esd.safetensors")
    assert images(model).equal(exchanged(unet=own))
    assert not any(parameter.requires_grad for parameter in model.denoiser.parameters())


def test_a_file_of_a_text_encoder_with_older_names(home: Home, tmp_path: Path) -> None:
    state = {f"text_model.{name}": value for name, value in home.other.text_encoder.state_dict().items()}
    state["text_model.embeddings.position_ids"] = torch.arange(20)[None]
    save_file(state, tmp_path / "text.safetensors")
    model = load(home.pipeline, text_encoder=tmp_path / "text.safetensors")
    assert images(model).equal(exchanged(text_encoder=home.other.text_encoder))


def test_one_of_several_text_encoders(tmp_path: Path) -> None:
    pipeline = PIPELINES["stable_diffusion_xl"]()
    pipeline.save_pretrained(tmp_path / "pipeline")
    second = pipeline.text_encoder_2
    for parameter in second.parameters():
        parameter.data *= 1.1
    second.save_pretrained(tmp_path / "second")
    model = load(tmp_path / "pipeline", text_encoder={"text_encoder_2": tmp_path / "second"})
    assert images(model).equal(images(load(pipeline)))
    with pytest.raises(InputError, match="no text encoder 'text_encoder_3'; did you mean"):
        load(tmp_path / "pipeline", text_encoder={"text_encoder_3": tmp_path / "second"})


def test_a_file_in_which_a_weight_has_two_names(tmp_path: Path) -> None:
    pipeline = PIPELINES["flux"]()
    pipeline.save_pretrained(tmp_path / "pipeline")
    t5 = pipeline.text_encoder_2
    for parameter in t5.parameters():
        parameter.data *= 1.1
    state = {name: value.clone() for name, value in t5.state_dict().items()}
    assert len(state) > len(dict(t5.named_parameters()))
    save_file(state, tmp_path / "t5.safetensors")
    model = load(tmp_path / "pipeline", text_encoder={"text_encoder_2": tmp_path / "t5.safetensors"})
    for name, value in model.components["text_encoder_2"].state_dict().items():
        assert value.equal(state[name]), name


def test_a_loaded_pipeline_is_taken_as_it_is(home: Home) -> None:
    pipeline = tiny_pipeline().to(torch.bfloat16)
    model = load(pipeline)
    assert model.dtype == torch.bfloat16, "its own precision"
    assert model.denoiser is pipeline.unet
    assert load(type(pipeline).from_pretrained(home.pipeline)).source == str(home.pipeline), (
        "where it came from"
    )
    with pytest.raises(InputError, match="exchange its parts with diffusers"):
        load(pipeline, denoiser=home.files / "other" / "unet")
    with pytest.raises(InputError, match=r"a DDIMScheduler.* there are: .*stable_diffusion_xl \(StableDiff"):
        load(DDIMScheduler())


# -- what is recorded ----------------------------------------------------------------------------------------


def test_an_erasure_loads_its_base_again_with_all_parts(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home.files)
    model = load(home.pipeline, text_encoder="other/text_encoder", denoiser="other/unet")
    words = Knowledge(source="test", related=(), unrelated=("dog",), replacements=("house",))
    erasure = sgrace.erase(model, "church", method="uce", words=words)
    erasure.save_pretrained(tmp_path / "safe")
    monkeypatch.chdir(tmp_path)  # relative sources still lead there
    again = Erasure.from_pretrained("safe")
    assert again.recipe.base.text_encoder == {"text_encoder": str(home.files / "other" / "text_encoder")}
    assert again.recipe.base.denoiser == str(home.files / "other" / "unet")
    loaded = load_target(Path("safe"), options={"device": "cpu"})
    assert images(loaded.target).equal(images(erasure.apply(model)))
    other = load_base(again, options={"device": "cpu", "text_encoder": str(home.pipeline / "text_encoder")})
    other.set_progress_bar_config(disable=True)
    assert images(other).equal(exchanged(unet=home.other.unet)), "options go before the recipe"


def test_a_model_with_exchanged_networks_was_itself_before(home: Home) -> None:
    options: Any = {"device": "cpu", "denoiser": str(home.files / "other" / "unet")}
    loaded = load_target(home.pipeline, options=options)
    assert loaded.original is not None
    assert images(loaded.target).equal(exchanged(unet=home.other.unet))
    assert images(loaded.original).equal(images(load(home.pipeline)))
    assert loaded.original.components["vae"] is loaded.target.components["vae"], "loaded once"
    assert loaded.original.label == str(home.pipeline)


# -- what does not fit ---------------------------------------------------------------------------------------


def wrong_shape(folder: Path) -> Path:
    save_file({"conv_in.weight": torch.zeros(8, 3, 5, 5)}, folder / "wrong.safetensors")
    return folder / "wrong.safetensors"


def wrong_name(folder: Path) -> Path:
    save_file(
        {"conv_in.weight": torch.zeros(8, 3, 3, 3), "other.bias": torch.zeros(3)}, folder / "w.safetensors"
    )
    return folder / "w.safetensors"


def nothing_inside(folder: Path) -> Path:
    save_file({}, folder / "empty.safetensors")
    return folder / "empty.safetensors"


def no_weights_of_a_layer(folder: Path) -> Path:
    unet = tiny_pipeline().unet
    unet.save_pretrained(folder / "unet")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({n: v for n, v in unet.state_dict().items() if "conv_out" not in n}, file, {"format": "pt"})
    return folder / "unet"


def a_text_encoder(folder: Path) -> Path:
    tiny_pipeline().text_encoder.save_pretrained(folder / "text")
    return folder / "text"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (wrong_shape, r"conv_in.weight has the shape \[8, 3, 5, 5\], not \[8, 3, 3, 3\]"),
        (wrong_name, "does not fit the model"),
        (nothing_inside, "does not fit the model"),
        (no_weights_of_a_layer, "lacks 2 tensors of a UNet2DConditionModel, such as conv_out"),
        (a_text_encoder, "as a UNet2DConditionModel|does not fit"),
        (lambda folder: folder / "nowhere", "no file or folder .*nowhere"),
    ],
)
def test_a_part_that_does_not_fit_is_told(
    home: Home, tmp_path: Path, make: Callable[[Path], Path], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        load(home.pipeline, denoiser=make(tmp_path))

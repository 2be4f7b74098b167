"""LoRA files are fused into the weights, and what is made for another model is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

import sgrace
from sgrace._util.errors import InputError
from sgrace.testbeds.loading import load_base

from ..conftest import tiny_pipeline
from ..families import PIPELINES
from .made import drawn, images

RANK = 2
ALPHA = 4


def adapted(network: Any, layers: list[str], seed: int) -> dict[str, torch.Tensor]:
    """A random LoRA of some layers of a network."""
    network.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=layers))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    found: dict[str, torch.Tensor] = get_peft_model_state_dict(network)
    return found


def save_lora(folder: Path, family: str = "stable_diffusion", seed: int = 3) -> Path:
    """A LoRA as diffusers saves it: of the denoiser, and of the one text encoder of the first family."""
    pipeline = PIPELINES[family]()
    name = "unet" if hasattr(pipeline, "unet") else "transformer"
    layers = {f"{name}_lora_layers": adapted(getattr(pipeline, name), ["to_q", "to_v"], seed)}
    if family == "stable_diffusion":
        text = adapted(pipeline.text_encoder, ["q_proj", "v_proj"], seed)
        layers["text_encoder_lora_layers"] = convert_state_dict_to_diffusers(text)
    type(pipeline).save_lora_weights(folder, **layers)
    return folder


def load(source: Any, **options: Any) -> Any:
    model = sgrace.load_model(source, device="cpu", **options)
    model.set_progress_bar_config(disable=True)
    return model


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora") / "pipeline"
    tiny_pipeline().save_pretrained(folder)
    return folder


def test_it_draws_as_the_pipeline_with_the_lora_beside_its_weights(plain: Path, tmp_path: Path) -> None:
    lora = save_lora(tmp_path / "lora")
    model = load(plain, loras=[lora])
    pipeline = tiny_pipeline()
    pipeline.load_lora_weights(lora)
    wanted = drawn(pipeline, model)
    torch.testing.assert_close(images(model), wanted, atol=1e-4, rtol=0)
    assert (images(load(plain)) - wanted).abs().max() > 0.01
    own = tiny_pipeline()
    for name in ("unet", "text_encoder"):
        plain_names = [key for key, _ in getattr(own, name).named_parameters()]
        assert [key for key, _ in model.components[name].named_parameters()] == plain_names
        assert not any(parameter.requires_grad for parameter in model.components[name].parameters())


def test_scales_and_several(plain: Path, tmp_path: Path) -> None:
    first = save_lora(tmp_path / "first")
    second = save_lora(tmp_path / "second", seed=4) / "pytorch_lora_weights.safetensors"
    model = load(plain, loras=[f"{first}=0.5", f"{second}=-1"])
    pipeline = tiny_pipeline()
    pipeline.load_lora_weights(first, adapter_name="first")
    pipeline.load_lora_weights(second, adapter_name="second")
    pipeline.set_adapters(["first", "second"], [0.5, -1.0])
    torch.testing.assert_close(images(model), drawn(pipeline, model), atol=1e-4, rtol=0)
    for scale in ("strong", "nan", "inf"):
        with pytest.raises(InputError, match=rf"a number such as 0.8, not '{scale}'"):
            load(plain, loras=[f"{first}={scale}"])


def test_the_layout_of_kohya(plain: Path, tmp_path: Path) -> None:
    layers = [
        ("unet", "unet", "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"),
        ("te", "text_encoder", "encoder.layers.0.self_attn.q_proj"),
        ("te", "text_encoder", "encoder.layers.0.self_attn.out_proj"),
        ("te", "text_encoder", "encoder.layers.1.mlp.fc1"),
    ]
    state: dict[str, torch.Tensor] = {}
    wanted = {}
    for short, component, layer in layers:
        own = getattr(tiny_pipeline(), component).get_submodule(layer).weight.detach()
        down, up = torch.randn(RANK, own.shape[1]), torch.randn(own.shape[0], RANK)
        whole = f"text_model.{layer}" if short == "te" else layer
        name = f"lora_{short}_{whole.replace('.', '_')}"
        state |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        state[f"{name}.alpha"] = torch.tensor(float(ALPHA))
        wanted[component, layer] = own + ALPHA / RANK * up @ down
    save_file(state, tmp_path / "kohya.safetensors")
    model = load(plain, loras=[tmp_path / "kohya.safetensors"])
    for (component, layer), value in wanted.items():
        found = model.components[component].get_submodule(layer).weight
        torch.testing.assert_close(found, value, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", [name for name in PIPELINES if name != "stable_diffusion"])
def test_every_family_takes_one(tmp_path: Path, family: str) -> None:
    pipeline = PIPELINES[family]()
    pipeline.save_pretrained(tmp_path / "pipeline")
    lora = save_lora(tmp_path / "lora", family)
    model = load(tmp_path / "pipeline", loras=[lora])
    before = dict(getattr(pipeline, model.denoiser_component).named_parameters())
    after = dict(model.denoiser.named_parameters())
    changed = {name for name, value in after.items() if not value.equal(before[name])}
    state = load_file(lora / "pytorch_lora_weights.safetensors")
    layers = {name.split(".", 1)[1].split(".lora_")[0] for name in state}
    assert changed == {f"{layer}.weight" for layer in layers}


def test_the_recipe_records_it(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_lora(tmp_path / "lora")
    monkeypatch.chdir(tmp_path)
    model = load(plain, loras=["lora=0.5"])
    words = sgrace.Knowledge(source="test", related=(), unrelated=("dog",), replacements=("house",))
    erasure = sgrace.erase(model, "church", method="uce", words=words)
    assert erasure.recipe.base.loras == (f"{tmp_path / 'lora'}=0.5",)
    again = load_base(erasure, options={"device": "cpu"})
    again.set_progress_bar_config(disable=True)
    assert images(again).equal(images(model))


# -- what does not fit ---------------------------------------------------------------------------------------


def test_a_lora_of_another_model_is_refused(plain: Path, tmp_path: Path) -> None:
    for family in ("stable_diffusion_xl", "flux"):
        with pytest.raises(InputError, match="is no LoRA for this model"):
            load(plain, loras=[save_lora(tmp_path / family, family)])


def test_a_lora_with_layers_that_have_no_place_is_refused(plain: Path, tmp_path: Path) -> None:
    state = load_file(save_lora(tmp_path) / "pytorch_lora_weights.safetensors")
    name = next(name for name in state if ".attn2.to_v.lora_A" in name)
    for part in ("lora_A", "lora_B"):
        old = name.replace("lora_A", part)
        state[old.replace("attentions.0", "attentions.7")] = state.pop(old)
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"is no LoRA for this model"):
        load(plain, loras=[tmp_path / "other.safetensors"])


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize(
    "names", [("lora_down", "lora_up"), ("lora_A.default", "lora_B.default"), ("down", "up")]
)
def test_a_layer_with_one_of_its_two_matrices_is_refused(
    plain: Path, tmp_path: Path, lost: int, names: tuple[str, str]
) -> None:
    layers = [f"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_{way}" for way in "qv"]
    width = {"q": 8, "v": 24}
    state = {f"{layer}.{names[0]}.weight": torch.ones(RANK, width[layer[-1]]) for layer in layers}
    state |= {f"{layer}.{names[1]}.weight": torch.ones(8, RANK) for layer in layers}
    del state[f"{layers[1]}.{names[lost]}.weight"]
    save_file(state, tmp_path / "half.safetensors")
    with pytest.raises(InputError, match=rf"is damaged: it holds .* without .*{names[lost]}.weight"):
        load(plain, loras=[tmp_path / "half.safetensors"])


def test_weights_that_are_no_lora_are_refused(plain: Path) -> None:
    with pytest.raises(InputError, match="is no LoRA for this model"):
        load(plain, loras=[plain / "unet"])
    with pytest.raises(InputError, match="no file or folder"):
        load(plain, loras=["nowhere.safetensors=0.5"])


def test_a_pipeline_with_layers_beside_its_weights_is_refused(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    pipeline.load_lora_weights(save_lora(tmp_path))
    with pytest.raises(InputError, match="LoRA layers beside its weights"):
        load(pipeline)


def test_without_peft_it_is_named(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lora = save_lora(tmp_path)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"pip install 'sgrace\[lora\]'"):
        load(plain, loras=[lora])

"""The low-rank form of an erasure, its error, and the names by which programs read it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

import sgrace
from sgrace._util.errors import InputError
from sgrace.export._low_rank import factored, layer_changes, numerical_rank
from sgrace.models import DiffusionModel
from sgrace.models.original import to_original

from ..erasure.made import erasure, moved, of_text
from ..families import PIPELINES, wrapped
from ..models.made import images
from .conftest import Maker, loaded, small

#: Layers of CLIP that are changed.
TEXT = ("self_attn.q_proj.weight", "self_attn.out_proj.weight", "mlp.fc2.weight")


def of_matrices(model: DiffusionModel) -> sgrace.Erasure:
    """An erasure of matrices: of the denoiser, and of a CLIP encoder where diffusers reads its LoRAs."""
    own = model.denoiser_component
    tensors = {own: moved(model, own, model.sites.names("text_kv"))}
    if model.family != "z_image":
        names = [
            name for name, _ in model.components["text_encoder"].named_parameters() if name.endswith(TEXT)
        ]
        tensors["text_encoder"] = moved(model, "text_encoder", names)
    return erasure(model, tensors)


def close(one: DiffusionModel, other: DiffusionModel) -> None:
    torch.testing.assert_close(images(one), images(other), atol=2e-3, rtol=0)


def lora_of(made: sgrace.Erasure, base: DiffusionModel, out: Path, **options: Any) -> str:
    """Export; the sentence on the error."""
    return str(made.export(out, "lora", base=base, **options).notes[0])


def error_in(note: str) -> float:
    found = re.search(r"reconstruction error ([\d.]+)%", note)
    assert found is not None, note
    return float(found[1]) / 100


@pytest.mark.parametrize("family", PIPELINES)
def test_the_public_loader_draws_the_same(safe: Maker, tmp_path: Path, family: str) -> None:
    base = loaded(safe(family).base)
    made = of_matrices(base)
    note = lora_of(made, base, tmp_path / "lora")
    assert error_in(note) < 1e-3
    wanted = made.apply(base)
    assert (images(wanted) - images(base)).abs().max() > 0.01
    pipeline: Any = DiffusionPipeline.from_pretrained(safe(family).base)
    pipeline.load_lora_weights(tmp_path / "lora")
    pipeline.fuse_lora(components=pipeline.get_list_adapters())
    pipeline.unload_lora_weights()
    close(small(wrapped(pipeline)), wanted)
    close(loaded(safe(family).base, loras=[tmp_path / "lora"]), wanted)


@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_xl"])
def test_the_names_of_kohya(safe: Maker, tmp_path: Path, family: str) -> None:
    base = loaded(safe(family).base)
    made = of_matrices(base)
    lora_of(made, base, tmp_path / "lora")
    file = tmp_path / "lora" / "kohya" / "without-church.safetensors"
    start = "lora_te1" if family == "stable_diffusion_xl" else "lora_te"
    assert f"{start}_text_model_encoder_layers_0_mlp_fc2.lora_up.weight" in load_file(file)
    close(loaded(safe(family).base, loras=[file]), made.apply(base))


@pytest.mark.parametrize("family", ["stable_diffusion_3", "flux", "z_image"])
def test_the_names_of_comfyui(safe: Maker, tmp_path: Path, family: str) -> None:
    base = loaded(safe(family).base)
    made = of_matrices(base)
    lora_of(made, base, tmp_path / "lora")
    tensors = load_file(tmp_path / "lora" / "comfyui" / "without-church.safetensors")
    layout = base.original_layouts()["transformer"]
    before = to_original(base.denoiser.state_dict(), layout)
    after = to_original(made.apply(base).denoiser.state_dict(), layout)
    changed = {name for name, value in after.items() if not value.equal(before[name])}
    found: dict[str, Tensor] = {}
    for name, down in tensors.items():
        if name.startswith("diffusion_model.") and name.endswith(".lora_A.weight"):
            module = name.removesuffix(".lora_A.weight")
            found[f"model.{module}.weight"] = tensors[f"{module}.lora_B.weight"] @ down
    assert found.keys() == changed
    for name, change in found.items():
        torch.testing.assert_close(before[name] + change, after[name], atol=1e-4, rtol=0)


def test_the_error_is_that_of_the_written_matrices(safe: Maker, tmp_path: Path) -> None:
    base = loaded(safe("stable_diffusion").base)
    made = of_text(base)
    done = made.export(tmp_path / "lora", "lora", base=base, rank=2)
    tensors = load_file(tmp_path / "lora" / "pytorch_lora_weights.safetensors")
    safe_model = made.apply(base)
    layers, others = layer_changes(base.components["text_encoder"], safe_model.components["text_encoder"])
    left = sum(float(change.square().sum()) for change in others.values())
    for name, change in layers.items():
        start = f"text_encoder.text_model.{name}"
        form = tensors[f"{start}.lora_B.weight"] @ tensors[f"{start}.lora_A.weight"]
        assert form.shape == change.shape
        left += float((change - form).square().sum())
    whole = sum(float(change.square().sum()) for change in (*layers.values(), *others.values()))
    assert error_in(done.notes[0]) == pytest.approx((left / whole) ** 0.5, abs=1e-4)
    assert f"{len(others)} changed tensors are left out" in done.notes[1]
    assert done.notes[0] in (tmp_path / "lora" / "README.md").read_text()


@given(st.integers(1, 6), st.booleans(), st.integers(0, 99))
def test_the_best_pair_of_a_rank(rank: int, is_kernel: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (5, 2, 2, 1) if is_kernel else (5, 4)
    change = torch.randn(shape, generator=generator)
    pair = factored(change, rank, torch.float32)
    values = torch.linalg.svdvals(change.double().flatten(1))
    # Eckart and Young: what is left is the tail of the singular values
    tail = values[rank:].square().sum().sqrt()
    assert float((change - pair.change()).double().norm()) == pytest.approx(float(tail), abs=1e-5)
    assert (pair.down.shape[0], pair.up.shape[1]) == (rank, rank)
    assert numerical_rank(pair.change()) == min(rank, 4)


def test_what_is_no_lora_is_refused(safe: Maker, tmp_path: Path) -> None:
    for family, component in (("flux", "text_encoder_2"), ("z_image", "text_encoder")):
        own = safe(family, component)
        with pytest.raises(InputError, match=f"no LoRA of the {component} of a {family} model"):
            own.erasure.export(tmp_path / "out", "lora", base=loaded(own.base))
    base = loaded(safe("stable_diffusion").base)
    bias = erasure(base, {"text_encoder": moved(base, "text_encoder", ["final_layer_norm.bias"])})
    with pytest.raises(InputError, match="changes no matrix of a layer"):
        bias.export(tmp_path / "out", "lora", base=base)
    assert not list(tmp_path.iterdir())

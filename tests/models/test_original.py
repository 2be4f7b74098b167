"""The layouts of the original code are the ones that diffusers' converters read."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders import single_file_utils as utils
from torch import Tensor

from sgrace.models.families.flux import transformer_layout
from sgrace.models.original import Original, to_original

from ..families import PIPELINES, shared

State = dict[str, Tensor]


def converter(family: str, config: Any) -> Callable[[State], State]:
    """Diffusers' converter of a family's denoiser from its original layout."""
    known: dict[str, Any] = dict(vars(utils))
    # that of Flux knows one width only, that of the published model
    source = inspect.getsource(utils.convert_flux_transformer_checkpoint_to_diffusers)
    exec(source.replace("inner_dim = 3072", "inner_dim = 16"), known)  # noqa: S102  (of diffusers)
    by_family: dict[str, Callable[[State], State]] = {
        "flux": known["convert_flux_transformer_checkpoint_to_diffusers"],
        "stable_diffusion_3": known["convert_sd3_transformer_checkpoint_to_diffusers"],
        "z_image": known["convert_z_image_transformer_checkpoint_to_diffusers"],
    }
    return by_family.get(family, lambda state: known["convert_ldm_unet_checkpoint"](state, dict(config)))


@pytest.mark.parametrize("family", PIPELINES)
def test_diffusers_converts_it_back(family: str) -> None:
    model = shared(family)
    own = model.denoiser.state_dict()
    config: Any = model.denoiser.config
    original = to_original(own, model.original_layouts()[model.denoiser_component])
    assert all(name.startswith("model.diffusion_model.") for name in original)
    back = converter(family, config)(dict(original))
    assert back.keys() == own.keys()
    assert all(value.equal(own[name]) for name, value in back.items())


def test_flux_has_as_many_tensors_as_the_published_file() -> None:
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(guidance_embeds=True)
    layout = transformer_layout(transformer)
    assert len(layout) == 780
    original = to_original(transformer.state_dict(), layout)
    assert original["single_blocks.37.linear1.weight"].shape == (21504, 3072)
    assert "double_blocks.18.txt_attn.norm.key_norm.scale" in original


def test_what_is_done_with_a_tensor() -> None:
    tensors = {"a": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "b": torch.tensor([[5.0, 6.0], [7.0, 8.0]])}
    found = to_original(
        tensors,
        {
            "joint": Original(("b", "a")),
            "halves": Original(("a",), "swapped"),
            "kernel": Original(("a",), "convolution"),
            "turned": Original(("a",), "transposed"),
        },
    )
    assert found["joint"].tolist() == [[5, 6], [7, 8], [1, 2], [3, 4]]
    assert found["halves"].tolist() == [[3, 4], [1, 2]]
    assert found["kernel"].shape == (2, 2, 1, 1)
    assert found["turned"].tolist() == [[1, 3], [2, 4]]

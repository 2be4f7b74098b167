"""Erasures of a tiny model, made by hand: what an eraser would leave, without its training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from sgrace.concept import Concept
from sgrace.erasers.sld import SLDConfig, SLDGuidance
from sgrace.erasure import Adapter, Erasure, Recipe, base_of
from sgrace.erasure.recipe import Cost, RecipeTarget
from sgrace.knowledge import Knowledge
from sgrace.models import DiffusionModel
from sgrace.models.families.stable_diffusion import StableDiffusion

from ..conftest import tiny_pipeline

WORDS = Knowledge(source="test", related=("chapel", "dog"), unrelated=("dog", "tree"))


def tiny_model(dtype: torch.dtype = torch.float32) -> DiffusionModel:
    model = StableDiffusion.from_pipeline(tiny_pipeline("epsilon"))
    model.set_progress_bar_config(disable=True)
    return model.to(dtype=dtype)


def erasure(
    model: DiffusionModel,
    tensors: Mapping[str, Mapping[str, Tensor]],
    adapter: Adapter | None = None,
    guidance: Any = None,
    concept: str = "church",
    **fields: Any,
) -> Erasure:
    recipe = Recipe(
        **{
            "method": "by hand",
            "config": {"lr": 1e-3, "limit": float("inf"), "steps": (1, 2)},
            "targets": (RecipeTarget(concept=Concept(name=concept), words=WORDS),),
            "base": base_of(model, tensors, adapter, guidance),
            "seed": 3,
            "cost": Cost(denoiser_calls=2, denoiser_rows=8, trained_parameters=5),
            "details": {"loss_by_round": [0.5, float("nan")]},
            **fields,
        }
    )
    return Erasure.of(recipe, model, tensors, adapter, guidance)


def moved(
    model: DiffusionModel, component: str, names: Iterable[str] | None = None, seed: int = 0
) -> dict[str, Tensor]:
    """Parameters of a component with noise on them, in float32 as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    own = dict(model.components[component].named_parameters())
    chosen = own if names is None else {name: own[name] for name in names}
    return {
        name: value.detach().float() + 0.1 * torch.randn(value.shape, generator=generator)
        for name, value in chosen.items()
    }


def of_text(model: DiffusionModel, concept: str = "church", seed: int = 0) -> Erasure:
    return erasure(model, {"text_encoder": moved(model, "text_encoder", seed=seed)}, concept=concept)


def of_denoiser(
    model: DiffusionModel, concept: str = "church", seed: int = 0, site: str = "text_kv"
) -> Erasure:
    return erasure(model, {"unet": moved(model, "unet", model.sites.names(site), seed)}, concept=concept)


def of_adapter(model: DiffusionModel, concept: str = "church", seed: int = 0) -> Erasure:
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name, layer in model.sites.text_attention().items():
        shapes = {
            "down": (2, layer.width),
            "down_bias": (2,),
            "up": (layer.width, 2),
            "up_bias": (layer.width,),
        }
        tensors |= {
            f"{name}/{part}": torch.randn(shape, generator=generator) for part, shape in shapes.items()
        }
    return erasure(model, {}, Adapter("bottleneck", tensors), concept=concept)


def of_guidance(model: DiffusionModel, concept: str = "church", seed: int = 0) -> Erasure:
    safety = torch.randn(20, 24, generator=torch.Generator().manual_seed(seed))
    return erasure(model, {}, guidance=SLDGuidance(SLDConfig(), {"safety": safety}), concept=concept)


MAKERS = {"text": of_text, "denoiser": of_denoiser, "adapter": of_adapter, "guidance": of_guidance}


def image(model: DiffusionModel) -> Tensor:
    return model.generate(["church"], [1], num_inference_steps=3)

"""What every family keeps to: the official images, open text encoders, named sites, one truth when saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from sgrace.models import DiffusionModel, PromptSource
from sgrace.models.loading import known_families, load_model_from

from ..families import PIPELINES, drawn, model_of, shared, sized

PROMPTS = ("a photo of church", "dog")
SEEDS = (1, 2)
SAMPLING: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 3.0}
#: Stable Diffusion has tests of its own for most of this.
OTHERS = [family for family in PIPELINES if family != "stable_diffusion"]


def changed(model: DiffusionModel) -> DiffusionModel:
    """The model with other values in every text encoder and in the denoiser."""
    parts: dict[str, dict[str, Tensor]] = {}
    generator = torch.Generator().manual_seed(0)
    for component in [*(encoder.component for encoder in model.text), model.denoiser_component]:
        own = model.components[component].named_parameters()
        parts[component] = {
            name: value + 0.3 * torch.randn(value.shape, generator=generator) * value.abs().mean()
            for name, value in own
        }
    return model.with_components(parts)


def test_every_family_has_a_small_pipeline() -> None:
    assert {family.family for family in known_families()} == set(PIPELINES)


@pytest.mark.parametrize("family", OTHERS)
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_images_equal_those_of_the_official_pipeline(family: str, guidance_scale: float) -> None:
    model = shared(family)
    options = {**SAMPLING, "guidance_scale": guidance_scale}
    ours = model.generate(PROMPTS, SEEDS, **options)
    torch.testing.assert_close(
        ours, drawn(model.pipeline, model, PROMPTS, SEEDS, **options), atol=2e-5, rtol=0
    )
    assert (ours[0] - ours[1]).abs().max() > 0.05, "prompts and seeds show"


@pytest.mark.parametrize("family", PIPELINES)
def test_embeddings_by_hand_give_the_same_and_a_gradient_in_every_encoder(family: str) -> None:
    model = shared(family)
    tokens = model.text.tokenize(PROMPTS)
    embeddings = {
        encoder.name: encoder.embed(tokens[encoder.name].ids).requires_grad_() for encoder in model.text
    }
    cond = model.encode_source(PromptSource(tokens, embeddings))
    plain = model.encode(PROMPTS)
    torch.testing.assert_close(cond.prompt_embeds, plain.prompt_embeds)
    assert cond.prompt_embeds.shape[1:] == model.prompt_embeds_shape
    assert (cond.pooled is None) == (plain.pooled is None)
    if cond.pooled is not None:
        torch.testing.assert_close(cond.pooled, plain.pooled)
    output = model.predict(model.initial_noise(SEEDS), torch.tensor(500.0), cond)
    gradients = torch.autograd.grad(output.square().sum(), list(embeddings.values()))
    for encoder, gradient in zip(model.text, gradients, strict=True):
        content = slice(encoder.start, int(tokens[encoder.name].end[0]))
        assert gradient[0, content].abs().sum(-1).min() > 0, encoder.name


@pytest.mark.parametrize("family", OTHERS)
def test_content_stands_in_the_same_frame_however_it_comes(family: str) -> None:
    for encoder in shared(family).text:
        texts = ["a photo of church", "", "dog dog " * 30]
        tokens = encoder.tokenize(texts)
        contents = [encoder.content_tokens(text) for text in texts]
        assert encoder.contents(tokens)[:2] == contents[:2]
        assert encoder.assemble(contents[:2]).ids.equal(tokens.ids[:2])
        long = encoder.assemble(contents)
        assert encoder.contents(long)[2] == contents[2][: encoder.room]
        assert long.ids.shape == tokens.ids.shape == (3, encoder.length)
        trained = encoder.trainable()
        tables = [name for name, _ in encoder.module.named_parameters() if name not in trained]
        assert any(encoder.module.get_parameter(name) is encoder.table.weight for name in tables)
        assert 0 < len(encoder.trainable(1)) < len(trained)


@pytest.mark.parametrize("family", OTHERS)
def test_what_the_pipeline_saves_is_the_erased_model(family: str, tmp_path: Path) -> None:
    model = shared(family)
    safe = changed(model)
    after = safe.generate(PROMPTS, SEEDS, **SAMPLING)
    assert (after - model.generate(PROMPTS, SEEDS, **SAMPLING)).abs().max() > 1e-2
    safe.pipeline.save_pretrained(tmp_path / "safe")
    loaded = DiffusionPipeline.from_pretrained(tmp_path / "safe")
    torch.testing.assert_close(drawn(loaded, safe, PROMPTS, SEEDS, **SAMPLING), after, atol=5e-5, rtol=0)
    again = load_model_from(tmp_path / "safe", device="cpu")
    assert type(again) is type(model)
    assert again.encode(PROMPTS).prompt_embeds.equal(safe.encode(PROMPTS).prompt_embeds)
    assert type(model).from_pipeline(sized(loaded)).latent_shape == model.latent_shape


@pytest.mark.parametrize("family", OTHERS)
def test_sites_are_parts_of_the_denoiser(family: str) -> None:
    sites = shared(family).sites
    every = set(sites.names("all"))
    text = set(sites.names("text_attention"))
    kv = set(sites.names("text_kv"))
    assert kv == set(sites.names("text_k")) | set(sites.names("text_v"))
    assert kv < text < set(sites.names("attention")) < every
    assert not set(sites.names("text_k")) & set(sites.names("text_v"))
    assert set(sites.names("not_text_attention")) == every - text
    assert set(sites.names("self_attention")) == set(sites.names("attention")) - text
    assert sites.names("transformer")


@pytest.mark.parametrize("family", [name for name in OTHERS if "inlet" in shared(name).sites.map.groups])
def test_the_inlet_is_the_only_way_in(family: str) -> None:
    """Without what it returns, prompts of the same pooled features and length are all alike."""
    model = shared(family)
    (layer,) = model.sites.layers("inlet").values()
    cond = model.encode(["church", "dog"])
    pooled = None if cond.pooled is None else cond.pooled[[0, 0]]
    both = type(cond)(cond.prompt_embeds, pooled, cond.extras)
    noise = model.initial_noise([1, 1])

    def difference() -> float:
        first, second = model.predict(noise, torch.tensor(500.0), both)
        return float((first - second).abs().max())

    assert difference() > 1e-4
    hook = layer.register_forward_hook(lambda _layer, _inputs, output: torch.zeros_like(output))
    try:
        assert difference() == 0
    finally:
        hook.remove()


@pytest.mark.parametrize("family", OTHERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_draws_about_the_same_and_saving_memory_changes_nothing(
    family: str, dtype: torch.dtype
) -> None:
    expected = shared(family).generate(PROMPTS, SEEDS, **SAMPLING)
    model = model_of(family).to(dtype=dtype)
    found = model.generate(PROMPTS, SEEDS, **SAMPLING)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).norm() < 0.15 * expected.norm()
    model.low_memory = True
    model.save_memory()
    torch.testing.assert_close(model.generate(PROMPTS, SEEDS, **SAMPLING), found, atol=3e-2, rtol=0)


@pytest.mark.parametrize("family", PIPELINES)
def test_saving_memory_keeps_less_of_text_encoders_and_changes_no_gradient(family: str) -> None:
    gradients = []
    kept = []
    for saves in (False, True):
        model = model_of(family)
        if saves:
            model.save_memory()
        assert not any(encoder.embed(torch.tensor([[0]])).requires_grad for encoder in model.text)
        parameters = [p for encoder in model.text for p in encoder.module.parameters()]
        for parameter in parameters:
            parameter.requires_grad_()
        sizes: list[int] = []

        def pack(value: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(value.numel())
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            cond = model.encode_source(PromptSource(model.text.tokenize(PROMPTS)))
        loss = cond.prompt_embeds.square().sum()
        gradients.append(torch.autograd.grad(loss, parameters, allow_unused=True))
        kept.append(sum(sizes))
    assert kept[1] < 0.6 * kept[0]
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)

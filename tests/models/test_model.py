"""What a model promises: images, counted calls, float32 in every precision, and helpful errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sgrace._util.errors import InputError
from sgrace.models import Conditioning, DiffusionModel

from .made import drawn, images, tiny_model

SAMPLING: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 2.0}
HALF = [torch.bfloat16, torch.float16]


def test_images_from_seeds_equal_the_official_pipeline(model: DiffusionModel) -> None:
    prompts = ["a photo of church", "dog"]
    ours = model.generate(prompts, [3, 4], num_inference_steps=5, guidance_scale=4.0)
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    options: dict[str, Any] = {"num_inference_steps": 5, "guidance_scale": 4.0, "height": 16, "width": 16}
    official = model.pipeline(prompts, generator=generators, output_type="pt", **options).images
    torch.testing.assert_close((ours + 1) / 2, official, atol=2e-5, rtol=0)


def test_scales_of_their_own(model: DiffusionModel) -> None:
    both = images(model, guidance_scale=torch.tensor([2.0, 5.0]))
    torch.testing.assert_close(both[:1], images(model, guidance_scale=2.0)[:1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both[1:], images(model, guidance_scale=5.0)[1:], atol=1e-5, rtol=1e-5)
    small = images(model, guidance_scale=torch.tensor([2.0, 5.0]), batch_size=1)
    torch.testing.assert_close(small, both, atol=1e-5, rtol=1e-5)


def test_a_negative_prompt_for_each_sample(model: DiffusionModel) -> None:
    noise = model.initial_noise([1, 2])
    cond = model.encode(["dog", "church"])
    negative = model.encode(["tree", ""])
    both = model.sample(noise, cond, negative, **SAMPLING)
    for row in range(2):
        alone = model.sample(noise[[row]], cond[[row]], negative[[row]], **SAMPLING)
        torch.testing.assert_close(both[[row]], alone, atol=1e-5, rtol=1e-5)
    assert (both[0] - model.sample(noise, cond, model.uncond(), **SAMPLING)[0]).abs().max() > 1e-4


@pytest.mark.parametrize(("prompts", "seeds"), [([], []), (["dog"], []), (["dog", "church"], [1])])
def test_a_prompt_without_a_seed_is_told(model: DiffusionModel, prompts: list[str], seeds: list[int]) -> None:
    with pytest.raises(InputError, match=f"{len(prompts)} prompts, {len(seeds)} seeds"):
        model.generate(prompts, seeds)
    assert model.calls.denoiser_calls == model.calls.text_encoder_calls == 0


# -- calls ---------------------------------------------------------------------------------------------------


class Counter:
    """Calls of a network, and the samples in them."""

    def __init__(self, module: nn.Module) -> None:
        self.calls = 0
        self.rows = 0
        module.register_forward_pre_hook(self.note, with_kwargs=True)

    def note(self, _module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        first = inputs[0] if inputs else named["input_ids"]
        self.calls += 1
        self.rows += len(first)


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_calls_are_counted_as_they_are_made(model: DiffusionModel, guidance_scale: float) -> None:
    denoiser = Counter(model.denoiser)
    text = Counter(model.text.main.module)
    metered = model.metered()
    cond = metered.encode(["dog", "church"])
    embeddings = metered.text.main.embed(metered.text.main.tokenize(["dog"]).ids)
    metered.encode_tokens(metered.text.main.tokenize(["dog"]), embeddings)
    uncond = metered.uncond()
    metered.predict(metered.initial_noise([1, 2]), torch.tensor(5.0), cond)
    options: dict[str, Any] = {"num_inference_steps": 4, "guidance_scale": guidance_scale}
    metered.denoise(metered.initial_noise([1, 2]), cond, uncond, stop=3, **options)
    metered.denoise_each(metered.initial_noise([1, 2]), cond, uncond, stops=[1, 3], **options)
    cost = metered.sampling_cost(cond, guidance_scale)
    assert cost.denoiser_rows == (2 if guidance_scale == 1 else 4)
    assert metered.calls.denoiser_calls == denoiser.calls == 1 + 3 + 3
    assert metered.calls.denoiser_rows == denoiser.rows == 2 + 3 * cost.denoiser_rows + 2 * cost.denoiser_rows
    assert metered.calls.text_encoder_calls == text.calls == 3
    assert metered.calls.text_encoder_rows == text.rows == 4
    assert model.calls.denoiser_calls == model.calls.text_encoder_calls == 0
    assert metered.denoiser is model.denoiser


# -- precision -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", HALF)
def test_what_comes_out_is_float32(dtype: torch.dtype) -> None:
    model = tiny_model().to(dtype=dtype)
    assert {p.dtype for module in model.components.values() for p in module.parameters()} == {dtype}
    cond = model.encode(["dog", "church"])
    latents = model.initial_noise([1, 2])
    output = model.predict(latents, torch.tensor([5.0, 900.0]), cond)
    part = model.denoise(latents, cond, model.uncond(), stop=2, **SAMPLING).latents
    each = model.denoise_each(latents, cond, model.uncond(), stops=[1, 2], **SAMPLING).latents
    decoded = model.decode(latents)
    embedded = model.text.main.embed(model.text.main.tokenize(["dog"]).ids)
    found = [cond.prompt_embeds, output, part, each, decoded, embedded, model.text_features(cond)]
    assert [value.dtype for value in found] == [torch.float32] * len(found)
    assert all(value.isfinite().all() for value in found)


@pytest.mark.parametrize("dtype", HALF)
def test_gradients_reach_float32_inputs(dtype: torch.dtype) -> None:
    model = tiny_model().to(dtype=dtype)
    tokens = model.text.main.tokenize(["church"])
    embeddings = model.text.main.embed(tokens.ids).requires_grad_(True)
    cond = model.encode_tokens(tokens, embeddings)
    model.predict(model.initial_noise([1]), torch.tensor(500.0), cond).square().sum().backward()
    assert embeddings.grad is not None
    assert embeddings.grad.dtype == torch.float32
    assert embeddings.grad.abs().sum() > 0


def test_half_precision_draws_about_the_same() -> None:
    expected = images(tiny_model())
    for dtype in HALF:
        found = images(tiny_model().to(dtype=dtype))
        assert (found - expected).norm() < 0.1 * expected.norm()
        assert not found.equal(expected)


def overflowing(component: str, name: str, factor: float) -> DiffusionModel:
    """A model in float16 whose weights are finite but give values that are not."""
    model = tiny_model()
    with torch.no_grad():
        model.components[component].get_parameter(name).mul_(factor)
    assert images(model).isfinite().all(), "float32 holds them"
    model.to(dtype=torch.float16)
    assert model.components[component].get_parameter(name).isfinite().all()
    return model


@pytest.mark.parametrize(
    ("component", "name", "what"),
    [
        ("unet", "conv_out.weight", "The latents"),
        ("unet", "conv_in.weight", "The latents"),
        ("vae", "decoder.conv_out.weight", "The images"),
    ],
)
def test_an_overflow_in_float16_is_found_and_names_the_way_out(component: str, name: str, what: str) -> None:
    model = overflowing(component, name, 3e5)
    with pytest.raises(InputError, match=f"{what} became NaN or infinite in float16; use --dtype bfloat16"):
        images(model)


def test_an_overflow_is_found_at_the_first_step() -> None:
    model = overflowing("unet", "conv_out.weight", 3e5).metered()
    with pytest.raises(InputError, match="--dtype bfloat16"):
        images(model, num_inference_steps=50)
    assert model.calls.denoiser_calls == 1


def test_bfloat16_holds_what_float16_does_not() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.denoiser.get_parameter("conv_out.weight").mul_(3e5)
    assert images(model.to(dtype=torch.bfloat16)).isfinite().all()


# -- memory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saving_memory_changes_no_image(dtype: torch.dtype) -> None:
    expected = images(tiny_model().to(dtype=dtype))
    model = tiny_model()
    model.low_memory = True
    model.save_memory()
    model.to(dtype=dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(images(model), expected, atol=tolerance, rtol=0)


def test_saving_memory_changes_no_gradient() -> None:
    gradients = []
    for saves in (False, True):
        model = tiny_model()
        if saves:
            model.low_memory = True
            model.save_memory()
        embeds = model.encode(["church"]).prompt_embeds.detach().requires_grad_(True)
        output = model.predict(model.initial_noise([1]), torch.tensor(500.0), Conditioning(embeds))
        gradients.append(torch.autograd.grad(output.square().sum(), embeds)[0])
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-4)


def test_decoding_in_pieces(model: DiffusionModel) -> None:
    latents = model.initial_noise([1, 2, 3])
    together = model.decode(latents)
    model.batch_size = 2
    torch.testing.assert_close(model.decode(latents), together, atol=1e-5, rtol=1e-5)
    assert together.abs().max() <= 1


def test_its_name_is_short(model: DiffusionModel) -> None:
    assert repr(model) == "StableDiffusion('pipeline', torch.float32, cpu)"
    safe = model.replace(erasures=("church",))
    assert repr(safe).endswith("1 erasures)")
    assert drawn(safe.pipeline, safe).isfinite().all()

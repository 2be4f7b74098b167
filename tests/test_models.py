from __future__ import annotations

import numpy as np
import pytest
import torch

from sgrace._util.errors import InputError
from sgrace.models import StableDiffusion

from .conftest import tiny_pipeline


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_pictures_equal_the_official_pipeline(model: StableDiffusion, guidance_scale: float) -> None:
    prompts = ["a photo of church", "dog"]
    ours = model.generate(prompts, [3, 4], num_inference_steps=5, guidance_scale=guidance_scale)
    model.pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    official = model.pipeline(
        prompts, generator=generators, num_inference_steps=5, guidance_scale=guidance_scale, height=16, width=16, output_type="np"
    ).images
    np.testing.assert_allclose((ours.permute(0, 2, 3, 1).numpy() + 1) / 2, official, atol=2e-5)


def test_a_picture_does_not_depend_on_its_batch(model: StableDiffusion) -> None:
    together = model.generate(["dog", "church", "tree"], [1, 2, 3], num_inference_steps=3, batch_size=3)
    alone = model.generate(["church"], [2], num_inference_steps=3)
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-5)


def test_embeddings_in_place_of_ids_give_the_same_states_and_a_gradient(model: StableDiffusion) -> None:
    tokens = model.tokenize(["a photo of church"])
    embeddings = model.embed(tokens.ids).clone().requires_grad_(True)
    states = model.encode(tokens.ids, embeddings)
    torch.testing.assert_close(states, model.encode(tokens.ids))
    (gradient,) = torch.autograd.grad(states.sum(), embeddings)
    assert gradient.abs().sum() > 0
    torch.testing.assert_close(model.encode(tokens.ids), states)  # the replacement does not outlive its call


def test_the_end_of_text_is_the_first_end_token(model: StableDiffusion) -> None:
    tokens = model.tokenize(["church", "a photo of dog", ""])
    first = [row.index(model.pipeline.tokenizer.eos_token_id) for row in tokens.ids.tolist()]
    assert tokens.end.tolist() == first
    assert tokens.end[2] == 1
    assembled = model.assemble([model.content_tokens(t) for t in ("church", "a photo of dog", "")])
    assert torch.equal(assembled.ids, tokens.ids)
    assert torch.equal(assembled.end, tokens.end)


def test_content_that_is_too_long_keeps_its_beginning(model: StableDiffusion) -> None:
    content = model.content_tokens("dog " * 50)
    tokens = model.assemble([content])
    assert tokens.ids.shape == (1, 20)
    assert tokens.end.item() == 19
    assert tokens.ids[0, 1].item() == content[0]


def test_rolling_reports_the_timestep_of_the_next_step(model: StableDiffusion) -> None:
    states = model.encode(model.tokenize(["dog"]).ids)
    latents = model.initial_noise([0])
    _, at_start = model.roll(latents, states, states, 10, 0, 1.0)
    half, in_between = model.roll(latents, states, states, 10, 5, 1.0)
    _, end = model.roll(latents, states, states, 10, 10, 1.0)
    assert at_start > in_between > 0 > end
    assert model.calls.unet_calls == 15
    assert half.shape == latents.shape


def test_noise_of_velocity_is_the_noise() -> None:
    model = StableDiffusion.from_pipeline(tiny_pipeline("v_prediction"))
    clean, noise, t = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.tensor([10, 900])
    signal = model.pipeline.scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
    latents = signal.sqrt() * clean + (1 - signal).sqrt() * noise
    velocity = signal.sqrt() * noise - (1 - signal).sqrt() * clean
    torch.testing.assert_close(model.noise_of(velocity, latents, t), noise, atol=1e-4, rtol=1e-4)


def test_a_saved_folder_loads_and_a_damaged_one_is_told(model: StableDiffusion, tmp_path) -> None:
    folder = tmp_path / "pipeline"
    model.pipeline.save_pretrained(folder)
    again = StableDiffusion.from_pretrained(folder)
    assert torch.equal(again.encode(again.tokenize(["dog"]).ids), model.encode(model.tokenize(["dog"]).ids))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="Cannot load"):
        StableDiffusion.from_pretrained(folder)
    with pytest.raises(InputError, match="model_index"):
        StableDiffusion.from_pretrained(tmp_path)

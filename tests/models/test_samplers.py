"""Every kind of sampler of diffusers: what it gives alone, in a batch, in pieces, and a second time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from sgrace.models.families.stable_diffusion import StableDiffusion

from .made import drawn, images, tiny_model

#: Name -> class and options.
STEADY: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {}),
    "pndm": (PNDMScheduler, {"skip_prk_steps": True}),
    "euler": (EulerDiscreteScheduler, {}),
    "dpm++": (DPMSolverMultistepScheduler, {}),
    "dpm++ karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "heun": (HeunDiscreteScheduler, {}),
    "kdpm2": (KDPM2DiscreteScheduler, {}),
    "unipc": (UniPCMultistepScheduler, {}),
}
NOISY: dict[str, tuple[Any, dict[str, Any]]] = {
    "euler ancestral": (EulerAncestralDiscreteScheduler, {}),
    "ddpm": (DDPMScheduler, {}),
    "lcm": (LCMScheduler, {}),
    "kdpm2 ancestral": (KDPM2AncestralDiscreteScheduler, {}),
    "sde-dpm++": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
}
ALL = {**STEADY, **NOISY}
WARM_UP: dict[str, tuple[Any, dict[str, Any]]] = {
    "pndm with warm-up": (PNDMScheduler, {"skip_prk_steps": False})
}
N_STEPS = 5


def model_of(name: str, prediction_type: str = "epsilon") -> StableDiffusion:
    kind, options = {**ALL, **WARM_UP}[name]
    return tiny_model(prediction_type, kind, **options)


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", STEADY)
def test_images_equal_the_official_pipeline(name: str, prediction_type: str, guidance_scale: float) -> None:
    model = model_of(name, prediction_type)
    options = {"num_inference_steps": N_STEPS, "guidance_scale": guidance_scale}
    torch.testing.assert_close(
        images(model, **options), drawn(model.pipeline, model, **options), atol=5e-5, rtol=0
    )


@pytest.mark.parametrize("name", NOISY)
def test_noise_is_added(name: str) -> None:
    """Otherwise the tests below would say nothing."""
    model = model_of(name)
    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    found = [drawn(model.pipeline, model, generator=seed, num_inference_steps=N_STEPS) for seed in seeds]
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ALL)
def test_an_image_is_its_own(name: str) -> None:
    """It is the same in a second run and in any batch."""
    model = model_of(name)
    options: dict[str, Any] = {"num_inference_steps": N_STEPS, "guidance_scale": 3.0}
    prompts = ["dog", "church", "tree"]
    first = model.generate(prompts, [1, 2, 3], **options)
    torch.manual_seed(99)  # no random numbers come from the global state
    assert model.generate(prompts, [1, 2, 3], **options).equal(first)
    alone = model.generate(["church"], [2], **options)
    torch.testing.assert_close(alone, first[1:2], atol=1e-4, rtol=1e-4)
    for size in (1, 2):
        split = model.generate(prompts, [1, 2, 3], batch_size=size, **options)
        torch.testing.assert_close(split, first, atol=1e-4, rtol=1e-4)
    other = model.generate(["church"], [4], **options)
    assert (other - alone).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["ddim", "euler ancestral"])
def test_the_number_of_threads_does_not_change_an_image(name: str) -> None:
    found = []
    for threads in (1, 2):
        model = model_of(name)
        model.threads = threads
        found.append(model.generate(["dog", "church"], [1, 2], num_inference_steps=2))
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_a_stop_for_each_sample_is_a_stop_for_all(name: str) -> None:
    model = model_of(name)
    noise = model.initial_noise([1, 2, 3, 4, 5])
    cond = model.encode(["dog", "church", "tree", "boat", "a dog"])
    uncond = model.uncond()
    stops = [3, 0, N_STEPS, 1, 3]
    options: dict[str, Any] = {"num_inference_steps": N_STEPS, "guidance_scale": 3.0}
    found = model.denoise_each(noise, cond, uncond, stops=stops, **options)
    last = model.schedule.sampler(N_STEPS).timesteps[-1].item()
    for row, stop in enumerate(stops):
        alone = model.denoise(noise[[row]], cond[[row]], uncond, stop=stop, **options)
        torch.testing.assert_close(found.latents[[row]], alone.latents, atol=1e-4, rtol=1e-4)
        expected = last if stop == N_STEPS else alone.timestep
        assert found.timesteps[row].item() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["ddim", "euler", "heun", "kdpm2"])
def test_a_stop_counts_inference_steps(name: str) -> None:
    """It gives the latents that diffusers' own pipeline has after so many steps of its progress bar."""
    model = model_of(name)
    whole: list[Tensor] = []

    def keep(pipeline: Any, call: int, _timestep: Tensor, now: dict[str, Tensor]) -> dict[str, Tensor]:
        scheduler = pipeline.scheduler
        if (call + 1) % scheduler.order == 0:
            # schedulers with sigmas have x + sigma e, the schedule has (x + sigma e) / sqrt(1 + sigma^2)
            sigma = scheduler.sigmas[call + 1].item() if hasattr(scheduler, "sigmas") else 0.0
            whole.append(now["latents"] / (1 + sigma**2) ** 0.5)
        return now

    drawn(model.pipeline, model, num_inference_steps=N_STEPS, callback_on_step_end=keep)
    noise = model.initial_noise([1, 2])
    cond = model.encode(["a photo of church", "dog"])
    options: dict[str, Any] = {"num_inference_steps": N_STEPS, "guidance_scale": 2.0}
    for stop in range(1, N_STEPS):
        found = model.denoise(noise, cond, model.uncond(), stop=stop, **options)
        torch.testing.assert_close(found.latents, whole[stop - 1], atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [*ALL, "pndm with warm-up"])
def test_stops_cover_the_whole_schedule(name: str) -> None:
    model = model_of(name)
    noise = model.initial_noise([1])
    uncond = model.uncond()
    options: dict[str, Any] = {"num_inference_steps": N_STEPS, "guidance_scale": 1.0}
    found = [model.denoise(noise, uncond, uncond, stop=k, **options).timestep for k in range(N_STEPS + 1)]
    sampler = model.schedule.sampler(N_STEPS)
    assert found[0] == sampler.timesteps[0]
    assert found[-2] == sampler.timesteps[-1], "only one step is left before the last stop"
    assert found[-1] == -1
    assert found == sorted(found, reverse=True)
    steps = -torch.tensor(found[:-1]).diff()
    if "karras" not in name:  # its levels are not even
        assert steps.min() > 0.6 * steps.max(), "the levels are those of the schedule, each once"


@pytest.mark.parametrize("name", ["ddim", "euler", "heun", "kdpm2"])
def test_the_rest_of_the_way_is_the_whole_way(name: str) -> None:
    model = model_of(name)
    noise = model.initial_noise([1, 2])
    cond = model.encode(["dog", "church"])
    uncond = model.uncond()

    def denoise(latents: Tensor, **part: int) -> Tensor:
        options: dict[str, Any] = {"num_inference_steps": N_STEPS, "guidance_scale": 3.0, **part}
        return model.denoise(latents, cond, uncond, **options).latents

    half = denoise(noise, stop=2)
    torch.testing.assert_close(denoise(half, start=2), denoise(noise), atol=1e-5, rtol=1e-5)


def test_a_partial_sample_tells_the_timestep_of_its_next_step() -> None:
    model = tiny_model()
    noise = model.initial_noise([0])
    cond = model.encode(["dog"])

    def timestep(stop: int | None) -> float:
        options: dict[str, Any] = {"num_inference_steps": 10, "guidance_scale": 1.0}
        return model.denoise(noise, cond, cond, stop=stop, **options).timestep

    assert timestep(0) == model.schedule.step_timestep(10, 0)
    assert timestep(5) == model.schedule.step_timestep(10, 5)
    assert timestep(10) == timestep(None) == -1
    assert model.calls.denoiser_calls == 5 + 10 + 10

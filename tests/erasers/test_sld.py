"""SLD: its formula, the safety term and text, cost, and the momentum of each sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers._shared.prompts import joined_phrases
from sgrace.erasers.sld import SLD, SLDConfig, SLDSampling, safety_term
from sgrace.knowledge import Knowledge, Target
from sgrace.models import DiffusionModel
from sgrace.models.guidance import SamplingCost

from .made import CHURCH, denoised, denoised_each, encode, guided

BOAT = Concept(name="boat")
STRONG = {"warm_up": "10", "scale": "3", "threshold": "0.2", "momentum_scale": "0.5", "momentum": "0.6"}


def test_sampling_under_sld_is_its_formula(model: DiffusionModel, words: Knowledge) -> None:
    safe = guided(SLD, model, words, STRONG)
    cond = encode(model, "a photo of church", "dog")
    texts = encode(model, "", "church, chapel").prompt_embeds
    noise = model.initial_noise([1, 2])
    found = denoised(safe, noise, cond, 5, 4.0)
    pipeline = model.pipeline
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(5)
    for i in range(2):
        latents = noise[i : i + 1]
        velocity = np.zeros(latents.shape)
        for step, timestep in enumerate(scheduler.timesteps):
            outputs = []
            for embeds in (texts[:1], cond.prompt_embeds[i : i + 1], texts[1:]):
                with torch.no_grad():
                    outputs.append(pipeline.unet(latents, timestep, embeds).sample.double().numpy())
            nothing, prompt, away = outputs
            strength = np.where(prompt - away < 0.2, np.minimum(3 * np.abs(prompt - away), 1), 0)
            term = strength * (away - nothing) + 0.5 * velocity
            velocity = 0.6 * velocity + 0.4 * term
            # ten steps of fifty are one of five
            output = nothing + 4.0 * (prompt - nothing - (term if step >= 1 else 0))
            latents = scheduler.step(torch.tensor(output, dtype=torch.float32), timestep, latents).prev_sample
        torch.testing.assert_close(found[i : i + 1], latents, atol=1e-4, rtol=1e-3)


def test_the_safety_term_has_a_threshold_and_a_ceiling() -> None:
    prompt = torch.zeros(4)
    safety = torch.tensor([1.0, 0.1, -0.1, -1.0])
    uncond = torch.full((4,), 0.5)
    found = safety_term(uncond, prompt, safety, 5.0, 0.3)
    torch.testing.assert_close(found, torch.tensor([1.0 * 0.5, 0.5 * -0.4, 0.5 * -0.6, 0.0]))


def test_sld_asks_for_three_samples_and_never_mixes_them(model: DiffusionModel, words: Knowledge) -> None:
    targets = [Target(CHURCH, words), Target(BOAT, words)]
    erasure = SLD.preset("max", "object").erase(model, targets)
    assert erasure.recipe.details["text"] == "church, boat, chapel"
    assert erasure.recipe.cost.text_encoder_calls == 1
    assert erasure.recipe.cost.denoiser_calls == 0
    safe = erasure.apply(model)
    cond = encode(model, "church", "dog", "tree")
    noise = model.initial_noise([1, 2, 3])
    for guidance_scale in (1.0, 2.0):
        safe.calls.denoiser_rows = 0
        safe.calls.denoiser_calls = 0
        together = denoised(safe, noise, cond, 4, guidance_scale)
        assert (safe.calls.denoiser_calls, safe.calls.denoiser_rows) == (4, 4 * 3 * 3)
        assert safe.sampling_cost(cond, guidance_scale) == SamplingCost(9, 0)
        alone = denoised(safe, noise[1:2], cond[1:2], 4, guidance_scale)
        torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)
    stops = (1, 4, 2)
    each = denoised_each(safe, noise, cond, 4, stops)
    for i, stop in enumerate(stops):
        uncond = encode(model, "")
        alone = safe.denoise(
            noise[[i]], cond[[i]], uncond, num_inference_steps=4, guidance_scale=2.0, stop=stop
        ).latents
        torch.testing.assert_close(each[[i]], alone, atol=1e-5, rtol=1e-4)


def test_the_safety_text_is_cut_between_phrases_and_names_come_first(
    model: DiffusionModel, words: Knowledge
) -> None:
    main = model.text.main
    many = words.model_copy(update={"related": tuple("a " * n + "dog" for n in range(1, 9))})
    text = joined_phrases(model, [Target(CHURCH, many), Target(BOAT, many)])
    assert text.startswith("church, boat, a dog, a a dog")
    assert len(main.content_tokens(text)) <= main.room < len(main.content_tokens(f"{text}, a a a a dog"))
    long = [Target(Concept(name="a " * n + "tree"), words) for n in range(5, 9)]
    with pytest.raises(InputError, match="give fewer concepts"):
        joined_phrases(model, long)
    own = guided(SLD, model, words, {"text": "a house"})
    assert own.guidance is not None
    torch.testing.assert_close(own.guidance.tensors["safety"], encode(model, "a house").prompt_embeds[0])


def test_sampling_goes_on_with_the_momentum_of_its_samples(model: DiffusionModel) -> None:
    cond = encode(model, "church", "dog", "tree")
    sampling = SLDSampling(
        model.predict, cond, cond[[0]], 2.0, 3, config=SLDConfig(warm_up=0), safety=cond[[0]]
    )
    sampling.output(model.initial_noise([1, 2, 3]), torch.tensor(500.0), 0)
    velocity = sampling.velocity
    assert velocity is not None
    sampling.keep([2, 0])
    assert sampling.velocity is not None
    assert sampling.velocity.equal(velocity[[2, 0]])
    assert sampling.cond.prompt_embeds.equal(cond.prompt_embeds[[2, 0]])

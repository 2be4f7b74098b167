"""Probes: what they search, and the denoiser that has learned nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from sgrace.attacks import AttackSet, Budget, Scene
from sgrace.attacks.null_inversion import NullInversion, NullInversionConfig
from sgrace.attacks.session import Session
from sgrace.detectors.always import Always
from sgrace.detectors.never import Never
from sgrace.evaluation.controls import controls_of
from sgrace.evaluation.schema import Rate
from sgrace.knowledge import Knowledge
from sgrace.metrics import Share
from sgrace.models import DiffusionModel

from .scenes import attack_of, scene_of

STEPS = 10
FIRST = 7  # three of ten steps are left out


def reached(model: DiffusionModel, scene: Scene, iterations: int) -> float:
    """How far from the noised images the steps from the inverted latents end."""
    session = Session(scene, Budget(), 0)
    clean = session.concept_latents("test")
    noise = model.noise(len(clean), torch.Generator().manual_seed(5))
    config = NullInversionConfig(
        num_inference_steps=STEPS, start=0.3, iterations=iterations, lr=0.02, energy_weight=0
    )
    sampler = model.schedule.ddim_sampler(STEPS)
    inverted = NullInversion(config)._inverted(session, sampler, clean, noise)
    n = len(clean)
    again = model.denoise(
        inverted,
        session.uncond.expand(n),
        session.uncond,
        num_inference_steps=STEPS,
        guidance_scale=1,
        stop=FIRST,
        sampler=sampler,
    ).latents
    goal = model.schedule.add_noise(clean, noise, sampler.timesteps[FIRST].expand(n))
    return (again - goal).square().mean().item()


def test_refining_reproduces_the_image_better_than_plain_inversion(
    model: DiffusionModel, words: Knowledge
) -> None:
    scene = scene_of(model, words)
    assert reached(model, scene, 25) < 0.3 * reached(model, scene, 0)


def test_latents_of_too_little_energy_are_penalised(model: DiffusionModel, words: Knowledge) -> None:
    session = Session(scene_of(model, words), Budget(), 0)
    sampler = model.schedule.ddim_sampler(STEPS)
    flat = torch.full((3, *model.latent_shape), 0.1)
    goal = sampler.step(model.predict(flat, sampler.timesteps[0], session.uncond.expand(3)), 0, flat, [])
    energies = []
    for weight in (0.0, 10.0):
        config = NullInversionConfig(num_inference_steps=STEPS, iterations=25, lr=0.02, energy_weight=weight)
        attack = NullInversion(config)
        found = attack._refined(session, sampler, 0, flat, goal=goal, clean=torch.ones_like(flat))
        energies.append(found.square().mean().item())
    assert energies[0] == pytest.approx(0.01), "the guess leads to the goal, so nothing is better"
    assert energies[1] > 0.05


def test_every_image_of_the_eta_probe_has_noise_of_its_own(model: DiffusionModel, words: Knowledge) -> None:
    attack = attack_of("eta_probe")
    scene = scene_of(model, words)
    whole = attack.run(scene).tensors["noise"]
    alone = attack.run(dataclasses.replace(scene, prompts=scene.prompts[1:2])).tensors["noise"]
    torch.testing.assert_close(whole[1:2], alone)
    assert not torch.allclose(whole[0], whole[1])


def test_a_random_denoiser_is_random_and_all_else_stays(model: DiffusionModel) -> None:
    before = torch.random.get_rng_state()
    first = model.with_random_denoiser()
    again = model.with_random_denoiser()
    other = model.with_random_denoiser(seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, own in model.denoiser.named_parameters():
        fresh = first.denoiser.get_parameter(name)
        assert torch.equal(fresh, again.denoiser.get_parameter(name))
        assert fresh.shape == own.shape
        assert not fresh.requires_grad
    weights = [m.denoiser.get_parameter("conv_in.weight") for m in (model, first, other)]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    assert first.text.main.module is model.text.main.module
    assert first.schedule is model.schedule


@pytest.mark.parametrize(("detector", "unreliable"), [(Always(), True), (Never(), False)])
def test_a_probe_that_finds_the_concept_in_nothing_is_unreliable(
    model: DiffusionModel, words: Knowledge, tmp_path: Path, detector: Never, *, unreliable: bool
) -> None:
    targets = []

    def run(scene: Scene, folder: Path) -> AttackSet:
        targets.append(scene.target)
        found = attack_of("completion").run(scene, every_prompt=True)
        found.save_pretrained(folder)
        return found

    scene = scene_of(model, words, detector)
    found = controls_of(scene, tmp_path / "completion", run)
    assert found.unreliable == unreliable
    assert found.original == found.random_denoiser == Rate.of(Share(3 * unreliable, 3))
    assert targets[1] is scene.original
    assert not torch.equal(
        targets[0].denoiser.get_parameter("conv_in.weight"), model.denoiser.get_parameter("conv_in.weight")
    )
    assert {folder.name for folder in (tmp_path / "completion").iterdir()} == {"original", "random_denoiser"}

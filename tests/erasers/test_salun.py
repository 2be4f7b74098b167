"""SalUn: mask and loss against their formulas, cost, and the release that saw one batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sgrace.erasers._shared.relabel import RelabelBatch, RelabelData
from sgrace.erasers._shared.student import Student
from sgrace.erasers.salun import SalUn, guided_loss, saliency_masks
from sgrace.knowledge import Knowledge
from sgrace.models import Conditioning, DiffusionModel

from .made import job_of, target

SHORT = {"iterations": "2", "batch": "2", "n_images": "6", "num_inference_steps": "3", "lr": "1e-3"}


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_masks_hold_the_largest_of_all_gradients_together(share: float) -> None:
    rng = np.random.default_rng(0)
    shapes = (((4, 5), 1.0), ((30,), 0.1), ((2, 3, 2), 3.0))
    gradients = [rng.normal(size=shape) * scale for shape, scale in shapes]
    masks = saliency_masks([torch.tensor(g) for g in gradients], share)
    order = np.argsort(-np.abs(np.concatenate([g.ravel() for g in gradients])))
    expected = np.zeros(62, dtype=bool)
    expected[order[: round(share * 62)]] = True
    np.testing.assert_array_equal(np.concatenate([m.numpy().ravel() for m in masks]), expected)
    assert [m.shape for m in masks] == [g.shape for g in gradients]


def test_the_masks_loss_is_its_formula(model: DiffusionModel) -> None:
    generator = torch.Generator().manual_seed(0)
    clean = model.noise(2, generator)
    noise = model.noise(2, generator)
    embeds = torch.randn(2, model.text.main.length, 24, generator=generator)
    empty = torch.randn(1, model.text.main.length, 24, generator=generator)
    timesteps = torch.tensor([100.0, 800.0])
    batch = RelabelBatch(clean, noise, timesteps, Conditioning(embeds), 2, None)
    loss = guided_loss(model, batch, Conditioning(empty), 7.5)
    assert (model.calls.denoiser_calls, model.calls.denoiser_rows) == (1, 4)
    pipeline = model.pipeline
    signal = pipeline.scheduler.alphas_cumprod[timesteps.long()].view(-1, 1, 1, 1)
    noisy = signal**0.5 * clean + (1 - signal) ** 0.5 * noise
    velocity = signal**0.5 * noise - (1 - signal) ** 0.5 * clean
    wanted = noise if pipeline.scheduler.config.prediction_type == "epsilon" else velocity
    concept = pipeline.unet(noisy, timesteps, embeds).sample
    plain = pipeline.unet(noisy, timesteps, torch.cat([empty, empty])).sample
    guided = (1 + 7.5) * concept - 7.5 * plain
    torch.testing.assert_close(loss, ((wanted - guided) ** 2).mean(), rtol=1e-4, atol=1e-5)


def test_only_masked_weights_move(model: DiffusionModel, words: Knowledge) -> None:
    salun = SalUn.preset(None, "object", {**SHORT, "mask_share": "0.2"})
    erasure = salun.erase(model, [target(words)], seed=4)
    student = Student.of(model, "all")
    data = RelabelData(salun.config, job_of(model, target(words), seed=4))
    masks = saliency_masks(salun.gradients(student, data), 0.2)
    moved = 0
    for name, mask in zip(student.names, masks, strict=True):
        difference = erasure.tensors["unet"][name] != model.denoiser.get_parameter(name)
        assert not (difference & ~mask).any()
        moved += int(difference.sum())
    trained = erasure.recipe.cost.trained_parameters
    assert moved > 0.9 * trained
    assert trained == pytest.approx(0.2 * student.size, rel=0.01)


@pytest.mark.parametrize(("first", "images"), [("0", 6), ("1", 2)])
def test_it_makes_no_more_calls_than_it_needs(
    model: DiffusionModel, words: Knowledge, first: str, images: int
) -> None:
    salun = SalUn.preset(None, "object", {**SHORT, "first_batch_only": first})
    cost = salun.erase(model, [target(words)]).recipe.cost
    assert cost.text_encoder_calls == 1
    # all images in one batch, a pass for the mask, two calls for each iteration
    assert cost.denoiser_calls == 3 + 6 // 2 + 2 * 2
    assert cost.denoiser_rows == 3 * 2 * 2 * images + 3 * 2 * 2 + 2 * (2 + 4)


def test_the_release_saw_one_batch(model: DiffusionModel, words: Knowledge) -> None:
    released = SalUn.preset("as-released", "harmful")
    assert released.config == SalUn.preset("paper-sd14-nudity", "harmful", {"first_batch_only": "1"}).config
    short = {**SHORT, "replacement": "house", "retain": "dog"}
    whole = SalUn.preset("paper-sd14-nudity", "harmful", short).erase(model, [target(words)]).tensors["unet"]
    first = SalUn.preset("as-released", "harmful", short).erase(model, [target(words)]).tensors["unet"]
    assert any(not value.equal(first[name]) for name, value in whole.items())

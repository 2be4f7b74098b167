"""SalUn: mask and loss against their formulas, cost, and the release that saw one batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sgrace.concept import Concept
from sgrace.erasers._shared.relabel import RelabelData
from sgrace.erasers._shared.student import Student
from sgrace.erasers.salun import SalUn, guided_loss, saliency_masks
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion

CHURCH = Concept(name="church")
SHORT = {"iterations": "2", "batch": "2", "n_pictures": "6", "num_inference_steps": "3", "lr": "1e-3"}


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_masks_hold_the_largest_of_all_gradients_together(share: float) -> None:
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=shape) * scale for shape, scale in (((4, 5), 1.0), ((30,), 0.1), ((2, 3, 2), 3.0))]
    masks = saliency_masks([torch.tensor(g) for g in gradients], share)
    order = np.argsort(-np.abs(np.concatenate([g.ravel() for g in gradients])))
    expected = np.zeros(62, dtype=bool)
    expected[order[: round(share * 62)]] = True
    np.testing.assert_array_equal(np.concatenate([m.numpy().ravel() for m in masks]), expected)
    assert [m.shape for m in masks] == [g.shape for g in gradients]


def test_the_masks_loss_is_its_formula(model: StableDiffusion) -> None:
    generator = torch.Generator().manual_seed(0)
    noisy, wanted = (torch.randn(2, *model.latent_shape, generator=generator) for _ in range(2))
    states, empty = torch.randn(2, model.text_length, 24, generator=generator), torch.randn(1, model.text_length, 24, generator=generator)
    timesteps = torch.tensor([100, 800])
    loss = guided_loss(model, noisy, timesteps, states, empty, wanted, 7.5)
    assert (model.calls.unet_calls, model.calls.unet_rows) == (1, 4)
    unet = model.pipeline.unet
    guided = (1 + 7.5) * unet(noisy, timesteps, states).sample - 7.5 * unet(noisy, timesteps, torch.cat([empty, empty])).sample
    torch.testing.assert_close(loss, ((wanted - guided) ** 2).mean(), rtol=1e-4, atol=1e-5)


def test_only_masked_weights_move(model: StableDiffusion, words: Knowledge) -> None:
    salun = SalUn.preset(None, "object", {**SHORT, "mask_share": "0.2"})
    erasure = salun.erase(model, [CHURCH], [words], seed=4)
    student = Student.of(model, "all")
    masks = saliency_masks(salun.gradients(student, RelabelData(salun.config, student.teacher, [CHURCH], [words], 4)), 0.2)
    moved = 0
    for name, mask in zip(student.names, masks, strict=True):
        difference = erasure.unet[name] != model.pipeline.unet.get_parameter(name)
        assert not (difference & ~mask).any()
        moved += int(difference.sum())
    assert moved > 0.9 * erasure.recipe["cost"]["trained_parameters"]
    assert erasure.recipe["cost"]["trained_parameters"] == pytest.approx(0.2 * student.size, rel=0.01)


@pytest.mark.parametrize(("first", "pictures"), [("0", 6), ("1", 2)])
def test_it_makes_no_more_calls_than_it_needs(model: StableDiffusion, words: Knowledge, first: str, pictures: int) -> None:
    cost = SalUn.preset(None, "object", {**SHORT, "first_batch_only": first}).erase(model, [CHURCH], [words]).recipe["cost"]
    assert cost["text_encoder_calls"] == 1
    assert cost["unet_calls"] == 3 + 6 // 2 + 2 * 2, "all pictures in one batch, a pass for the mask, two for each iteration"
    assert cost["unet_rows"] == 3 * 2 * 2 * pictures + 3 * 2 * 2 + 2 * (2 + 4)


def test_the_release_saw_one_batch(model: StableDiffusion, words: Knowledge) -> None:
    kind = SalUn.preset("as_released", "harmful")
    assert kind.config == SalUn.preset("paper-sd14-nudity", "harmful", {"first_batch_only": "1"}).config
    short = {**SHORT, "pseudo": "house", "retain": "dog"}
    whole, first = (
        SalUn.preset(preset, "harmful", short).erase(model, [CHURCH], [words]) for preset in ("paper-sd14-nudity", "as_released")
    )
    assert any(not value.equal(first.unet[name]) for name, value in whole.unet.items())

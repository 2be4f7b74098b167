"""EraseDiff: its step against the formula, cost, and the release's detour."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sgrace.concept import Concept
from sgrace.erasers._shared.student import Student
from sgrace.erasers.erasediff import EraseDiff, constrained_gradients
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion

CHURCH = Concept(name="church")
SHORT = {"iterations": "4", "batch": "2", "n_pictures": "4", "num_inference_steps": "3", "lr": "1e-3", "pseudo": "house", "retain": "dog"}


@pytest.mark.parametrize("margin", [None, 0.0, 0.3, 1.5])
def test_the_step_is_its_formula(margin: float | None) -> None:
    rng = np.random.default_rng(2)
    a, b, c, d = rng.normal(size=(4, 6))
    x, y = (torch.tensor(v, requires_grad=True) for v in rng.normal(size=(2, 6)))
    retain = (torch.tensor(a) * x).sum() + (torch.tensor(b) * y).sum()
    forget = (torch.tensor(c) * x).sum() + (torch.tensor(d) * y).sum()
    found, weight = constrained_gradients(retain, forget, [x, y], 0.7, margin)
    kept, lost = np.concatenate([a, b]), np.concatenate([c, d])
    cosine = kept @ lost / np.linalg.norm(kept) / np.linalg.norm(lost)
    expected = 0.7 if margin is None else max(margin - cosine, 0)
    assert weight == pytest.approx(expected)
    np.testing.assert_allclose(torch.cat(found).numpy(), kept + expected * lost, atol=1e-10)


@pytest.mark.parametrize(("inner", "margin"), [("0", None), ("0", "1"), ("2", None)])
def test_it_makes_no_more_calls_than_it_needs(model: StableDiffusion, words: Knowledge, inner: str, margin: str | None) -> None:
    settings = {**SHORT, "inner_passes": inner, **({"margin": margin} if margin else {})}
    cost = EraseDiff.preset(None, "object", settings).erase(model, [CHURCH], [words]).recipe["cost"]
    assert cost["text_encoder_calls"] == 1
    inside = 4 if int(inner) else 0  # a pass is two batches, and there is one before each of the two passes
    assert cost["unet_calls"] == 3 + 2 * 4 + 2 * inside
    assert cost["unet_rows"] == 2 * 8 * 3 + 4 * (2 + 4) + inside * (2 + 2)


def test_inner_passes_leave_only_the_optimisers_memory(model: StableDiffusion, words: Knowledge) -> None:
    student = Student.of(model, "not_cross_attention")
    start = student.snapshot()
    with torch.no_grad():
        student.parameters[0].add_(1.0)
    student.restore(start)
    assert student.parameters[0].equal(model.pipeline.unet.get_parameter(student.names[0]))
    settings = {**SHORT, "group": "not_cross_attention"}
    inner = EraseDiff.preset(None, "object", {**settings, "iterations": "1", "inner_passes": "1"}).erase(model, [CHURCH], [words])
    plain = EraseDiff.preset(None, "object", {**settings, "iterations": "1"}).erase(model, [CHURCH], [words])
    for name in student.names:
        original = model.pipeline.unet.get_parameter(name)
        assert (inner.unet[name] - original).abs().max() < 2e-3, "one step is left, and Adam steps by about its rate"
    assert any(not value.equal(plain.unet[name]) for name, value in inner.unet.items())


def test_the_release_throws_every_first_pass_of_two_away(model: StableDiffusion, words: Knowledge) -> None:
    """After its third step of two-batch passes, the weights are one step away from the start."""
    released = {**SHORT, "inner_passes": "2", "iterations": "3"}
    erasure = EraseDiff.preset("as_released", "harmful", released).erase(model, [CHURCH], [words])
    two = EraseDiff.preset("as_released", "harmful", {**released, "iterations": "2"}).erase(model, [CHURCH], [words])

    def farthest(unet: dict[str, torch.Tensor]) -> float:
        return max((value - model.pipeline.unet.get_parameter(name)).abs().max().item() for name, value in unet.items())

    assert farthest(dict(erasure.unet)) < 1.5e-3 < farthest(dict(two.unet))

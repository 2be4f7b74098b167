"""EraseDiff: its step against the formula, cost, and the release's detour."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sgrace.erasers._shared.relabel import RelabelLosses
from sgrace.erasers._shared.student import Student
from sgrace.erasers.erasediff import EraseDiff, constrained_gradients
from sgrace.erasure import Erasure
from sgrace.knowledge import Knowledge
from sgrace.models import DiffusionModel

from .made import target

SHORT = {
    "iterations": "4",
    "batch": "2",
    "n_images": "4",
    "num_inference_steps": "3",
    "lr": "1e-3",
    "replacement": "house",
    "retain": "dog",
}


def erase(model: DiffusionModel, words: Knowledge, preset: str | None = None, **settings: str) -> Erasure:
    return EraseDiff.preset(preset, "object", {**SHORT, **settings}).erase(model, [target(words)])


@pytest.mark.parametrize("margin", [None, 0.0, 0.3, 1.5])
def test_the_step_is_its_formula(margin: float | None) -> None:
    rng = np.random.default_rng(2)
    a, b, c, d = rng.normal(size=(4, 6))
    values = rng.normal(size=(2, 6))
    x = torch.tensor(values[0], requires_grad=True)
    y = torch.tensor(values[1], requires_grad=True)
    retain = (torch.tensor(a) * x).sum() + (torch.tensor(b) * y).sum()
    forget = (torch.tensor(c) * x).sum() + (torch.tensor(d) * y).sum()
    found = constrained_gradients(RelabelLosses(forget, retain), [x, y], 0.7, margin)
    retained = np.concatenate([a, b])
    forgotten = np.concatenate([c, d])
    cosine = retained @ forgotten / np.linalg.norm(retained) / np.linalg.norm(forgotten)
    expected = 0.7 if margin is None else max(margin - cosine, 0)
    assert found.weight == pytest.approx(expected)
    np.testing.assert_allclose(
        torch.cat(found.gradients).numpy(), retained + expected * forgotten, atol=1e-10
    )


@pytest.mark.parametrize(("inner", "margin"), [("0", None), ("0", "1"), ("2", None)])
def test_it_makes_no_more_calls_than_it_needs(
    model: DiffusionModel, words: Knowledge, inner: str, margin: str | None
) -> None:
    cost = erase(model, words, inner_passes=inner, **({"margin": margin} if margin else {})).recipe.cost
    assert cost.text_encoder_calls == 1
    inside = 4 if int(inner) else 0  # a pass is two batches, and there is one before each of the two passes
    assert cost.denoiser_calls == 3 + 2 * 4 + 2 * inside
    assert cost.denoiser_rows == 2 * 8 * 3 + 4 * (2 + 4) + inside * (2 + 2)


def test_inner_passes_leave_only_the_optimizers_memory(model: DiffusionModel, words: Knowledge) -> None:
    student = Student.of(model, "not_text_attention")
    start = student.snapshot()
    with torch.no_grad():
        student.parameters[0].add_(1.0)
    student.restore(start)
    assert student.parameters[0].equal(model.denoiser.get_parameter(student.names[0]))
    settings = {"site": "not_text_attention", "iterations": "1"}
    inner = erase(model, words, **settings, inner_passes="1").tensors["unet"]
    plain = erase(model, words, **settings).tensors["unet"]
    for name in student.names:
        original = model.denoiser.get_parameter(name)
        assert (inner[name] - original).abs().max() < 2e-3, (
            "one step is left, and Adam steps by about its rate"
        )
    assert any(not value.equal(plain[name]) for name, value in inner.items())


def test_the_release_throws_every_first_pass_of_two_away(model: DiffusionModel, words: Knowledge) -> None:
    """After its third step of two-batch passes, the weights are one step away from the start."""

    def farthest(iterations: str) -> float:
        released = EraseDiff.preset(
            "as-released", "harmful", {**SHORT, "inner_passes": "2", "iterations": iterations}
        )
        tensors = released.erase(model, [target(words)]).tensors["unet"]
        own = {name: model.denoiser.get_parameter(name) for name in tensors}
        return max((value - own[name]).abs().max().item() for name, value in tensors.items())

    assert farthest("3") < 1.5e-3 < farthest("2")

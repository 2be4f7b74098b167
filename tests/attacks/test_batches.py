"""The batch size changes memory and speed, and no result."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sgrace.attacks import AttackSet, Prompt
from sgrace.attacks.unlearn_diff_atk import sampled
from sgrace.knowledge import Knowledge
from sgrace.models import DiffusionModel

from .cases import CASES
from .scenes import PROMPTS, attack_of, scene_of


@pytest.mark.parametrize("name", CASES)
def test_results_do_not_depend_on_the_batch_size(model: DiffusionModel, words: Knowledge, name: str) -> None:
    prompts = (*PROMPTS, Prompt("a boat", 4, guidance_scale=3.0), Prompt("an image of dog", 5))

    def run(size: int) -> AttackSet:
        model.batch_size = size
        return attack_of(name).run(scene_of(model, words, prompts=prompts), seed=3)

    whole = run(32)
    for size in (1, 2):
        found = run(size)
        assert [a.candidate for a in found.attempts] == [a.candidate for a in whole.attempts]
        assert [a.survived for a in found.attempts] == [a.survived for a in whole.attempts]
        torch.testing.assert_close(found.images, whole.images, atol=2e-3, rtol=0)
        assert found.tensors.keys() == whole.tensors.keys()
        for key, value in found.tensors.items():
            torch.testing.assert_close(value, whole.tensors[key], atol=2e-3, rtol=1e-3)
        for kind in ("denoiser_rows", "text_encoder_rows"):
            assert getattr(found.record.spent, kind) == getattr(whole.record.spent, kind), (
                "the same is charged"
            )


@pytest.mark.parametrize("name", CASES)
def test_no_call_is_larger_than_the_batch_size(model: DiffusionModel, words: Knowledge, name: str) -> None:
    """With guidance, the denoiser sees a sample with its prompt and with the empty prompt."""
    largest = {"text_encoder": 0, "denoiser": 0}

    def watched(part: str) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            largest[part] = max(largest[part], len(inputs[0]))

        return hook

    model.text.main.module.register_forward_pre_hook(watched("text_encoder"))
    model.denoiser.register_forward_pre_hook(watched("denoiser"))
    model.batch_size = 2
    attack_of(name).run(scene_of(model, words), seed=3)
    assert largest == {"text_encoder": 2, "denoiser": 4}


def test_tokens_are_sampled_by_their_chances() -> None:
    generator = torch.Generator().manual_seed(0)
    points = [
        torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]])
    ] * 500  # more prompts than are sampled together
    picks = sampled(points, generator).view(500, 2)
    assert (picks[:, 1] == 2).all()
    assert (picks[:, 0] == 1).float().mean().item() == pytest.approx(0.75, abs=0.06)
    assert set(picks[:, 0].tolist()) == {0, 1}

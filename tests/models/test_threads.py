"""Threads by the size of the denoiser, as given, and as before afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers.base import Change, Job
from sgrace.erasers.sgrace import SGrace
from sgrace.knowledge import Knowledge, Target
from sgrace.models import own_threads, threads
from sgrace.models.families.stable_diffusion import StableDiffusion
from sgrace.models.threads import threads_for

from ..conftest import tiny_pipeline


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model() -> StableDiffusion:
    return StableDiffusion.from_pipeline(tiny_pipeline())


@pytest.mark.usefixtures("two_threads")
def test_a_small_model_takes_one_thread_and_a_large_one_all(
    model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert threads_for(model) == 1
    monkeypatch.setattr(threads, "SMALL", sum(p.numel() for p in model.denoiser.parameters()))
    assert threads_for(model) == 2


@pytest.mark.usefixtures("two_threads")
def test_a_given_number_counts_inside_and_is_taken_back(model: StableDiffusion) -> None:
    model.threads = 3
    with own_threads(model.replace()):
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_drawing_and_erasing_take_the_model_s_threads(model: StableDiffusion, words: Knowledge) -> None:
    seen: list[int] = []

    class Watching(SGrace):
        def change(self, job: Job) -> Change:
            seen.append(torch.get_num_threads() * job.seed)
            raise InputError("seen")

    def note(*_: object) -> None:
        seen.append(torch.get_num_threads())

    model.denoiser.register_forward_hook(note)
    images: Tensor = model.generate(["dog"], [0], num_inference_steps=1)
    assert len(images) == 1
    with pytest.raises(InputError, match="seen"):
        Watching().erase(model, [Target(Concept(name="church"), words)], seed=1)
    assert seen == [1, 1]
    assert torch.get_num_threads() == 2

"""The attack on input embeddings: descent, projection, mask, pieces, accumulated gradients."""

from __future__ import annotations

import itertools

import pytest
import torch

from sgrace.erasers._shared import embedding_attack
from sgrace.erasers._shared.embedding_attack import (
    Embeddings,
    Optimizer,
    Projection,
    attack_embeddings,
    gradient_batch,
)
from sgrace.models.families.stable_diffusion import StableDiffusion

OPTIMIZERS: list[Optimizer] = ["sign_pgd", "sign_adam", "adam"]
PROJECTIONS: list[Projection] = ["ball", "ball_then_range", "none"]


@pytest.mark.parametrize(("optimizer", "projection"), list(itertools.product(OPTIMIZERS, PROJECTIONS)))
def test_it_descends_and_keeps_to_its_ball_and_mask(optimizer: Optimizer, projection: Projection) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 5, 4, generator=generator)
    mask = torch.tensor([0.0, 1, 1, 1, 0]).view(1, 5, 1).expand(3, 5, 1)
    goal = torch.randn(3, 5, 4, generator=generator)

    def loss(x: Embeddings, rows: slice, _step: int) -> torch.Tensor:
        return (x["clip"] - goal[rows]).square().mean()

    before = start.clone()
    found = attack_embeddings(
        {"clip": start},
        {"clip": mask},
        loss,
        steps=10,
        lr=0.01,
        radius=0.04,
        optimizer=optimizer,
        projection=projection,
        batch_size=2,
    )
    end = found["clip"]
    assert torch.equal(before, start), "the initial embeddings are never written to"
    everyone = slice(0, 3)
    assert loss(found, everyone, 0) < loss({"clip": start}, everyone, 0)
    assert torch.equal(end[:, [0, 4]], start[:, [0, 4]])
    reach = (end - start).abs().max().item()
    assert reach <= 0.04 + 1e-6 if projection != "none" else reach > 0.04
    if projection == "ball_then_range":
        assert (end <= start.amax((1, 2), keepdim=True)).all()
        assert (end >= start.amin((1, 2), keepdim=True)).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("accumulate", [False, True])
def test_pieces_and_samples_that_may_not_move_change_nothing(optimizer: Optimizer, accumulate: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(7, 5, 4, generator=generator, dtype=torch.float64)
    first = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    second = torch.randn(6, generator=generator, dtype=torch.float64)
    goal = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    largest = []

    def loss(x: Embeddings, rows: slice, step: int) -> torch.Tensor:
        largest.append(len(x["clip"]))
        return (((x["clip"] @ first).tanh() @ second) - goal[rows] * (1 + step)).square().mean()

    def found(batch_size: int, n_moving: int) -> torch.Tensor:
        largest.clear()
        mask = torch.ones(7, 5, 1, dtype=torch.float64)
        mask[n_moving:] = 0
        end = attack_embeddings(
            {"clip": start},
            {"clip": mask},
            loss,
            steps=6,
            lr=0.02,
            radius=0.05,
            optimizer=optimizer,
            projection="ball",
            batch_size=batch_size,
            accumulate=accumulate,
        )
        assert max(largest) == min(batch_size, 7)
        return end["clip"]

    whole = found(100, 7)
    for batch_size in (1, 2, 3):
        torch.testing.assert_close(found(batch_size, 7), whole, rtol=0, atol=1e-9)
    # the gradient of a mean over fewer samples is longer, but has the same sign and, up to Adam's epsilon,
    # the same steps
    torch.testing.assert_close(found(3, 4)[:4], whole[:4], rtol=0, atol=1e-6)
    assert torch.equal(found(3, 4)[4:], start[4:])


def test_the_piece_keeps_the_memory_of_gradients_constant(
    model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = 3 * 4 * 4
    assert gradient_batch(model) == model.batch_size, "small models are limited by the batch size alone"
    monkeypatch.setattr(embedding_attack, "GRADIENT_VALUES", 2 * values + 1)
    assert gradient_batch(model) == 2
    monkeypatch.setattr(embedding_attack, "GRADIENT_VALUES", 1)
    assert gradient_batch(model) == 1


def test_no_sample_is_no_call() -> None:
    def loss(_x: Embeddings, _rows: slice, _step: int) -> torch.Tensor:
        raise AssertionError

    nothing = torch.empty(0, 5, 4)
    end = attack_embeddings(
        {"clip": nothing},
        {"clip": torch.empty(0, 5, 1)},
        loss,
        steps=2,
        lr=0.1,
        radius=0.1,
        optimizer="sign_pgd",
        projection="ball_then_range",
        batch_size=3,
    )
    assert end["clip"].shape == nothing.shape


def test_gradients_are_summed_over_the_steps_if_so_asked() -> None:
    gradients = torch.tensor([3.0, -1.0, -1.0, -4.0])

    def path(*, accumulate: bool) -> float:
        found = attack_embeddings(
            {"clip": torch.zeros(1, 1, 1)},
            {"clip": torch.ones(1, 1, 1)},
            lambda x, _rows, step: (gradients[step] * x["clip"]).sum(),
            steps=4,
            lr=1.0,
            radius=0.0,
            optimizer="sign_pgd",
            projection="none",
            batch_size=1,
            accumulate=accumulate,
        )
        return found["clip"].item()

    assert path(accumulate=False) == -1 + 1 + 1 + 1
    assert path(accumulate=True) == -1 - 1 - 1 + 1  # the sums are 3, 2, 1, -3


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_encoder_moves_as_if_it_were_alone_where_the_loss_is_a_sum(optimizer: Optimizer) -> None:
    generator = torch.Generator().manual_seed(0)
    starts = {"clip_l": torch.randn(3, 5, 4, generator=generator)}
    starts["clip_g"] = torch.randn(3, 7, 2, generator=generator)  # a length and a width of its own
    masks = {name: torch.ones(1, start.shape[1], 1) for name, start in starts.items()}

    def found(*names: str) -> dict[str, torch.Tensor]:
        return attack_embeddings(
            {name: starts[name] for name in names},
            {name: masks[name] for name in names},
            lambda x, _rows, _step: torch.stack([own.square().mean() for own in x.values()]).sum(),
            steps=3,
            lr=0.01,
            radius=0.02,
            optimizer=optimizer,
            projection="ball",
            batch_size=2,
        )

    both = found("clip_l", "clip_g")
    for name, start in starts.items():
        assert torch.equal(both[name], found(name)[name])
        assert not torch.equal(both[name], start)

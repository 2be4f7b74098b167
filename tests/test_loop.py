from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sgrace.testbeds.emoji.training.loop import Schedule, train


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("killed_at", [1, 5, 9])
def test_a_killed_run_ends_where_an_uninterrupted_one_ends(
    tmp_path: Path, ema: float, killed_at: int
) -> None:
    schedule = Schedule(steps=12, batch=8, lr=0.05, warmup=3, ema=ema, save_every=4)

    def run(work: Path, kill: int | None) -> dict[str, Tensor]:
        work.mkdir(exist_ok=True)
        torch.manual_seed(0)
        model = nn.Linear(4, 4)

        def loss_at(step: int) -> Tensor:
            if step == kill:
                raise KeyboardInterrupt
            inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
            loss: Tensor = model(inputs).square().mean()
            return loss

        train("stage", model, loss_at, schedule, work)
        return model.state_dict()

    whole = run(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", killed_at)
    resumed = run(tmp_path / "killed", None)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_the_learning_rate_warms_up_and_decays_to_zero() -> None:
    schedule = Schedule(steps=100, batch=1, lr=1.0, warmup=10)
    rates = [schedule.rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)

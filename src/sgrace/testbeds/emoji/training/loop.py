"""One resumable training loop for all stages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import trange

from ...._util.files import atomic_file


@dataclass(frozen=True)
class Schedule:
    """Length, batch size and learning rate of a stage.

    The learning rate warms up linearly, then decays to zero at ``steps`` as a cosine.
    """

    steps: int
    batch: int
    lr: float
    warmup: int = 200
    weight_decay: float = 0.01
    ema: float = 0.0  # decay of the averaged weights that are exported; 0 exports the last weights
    save_every: int = 250

    def rate(self, step: int) -> float:
        """Learning rate of a step (0-based)."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def train(
    stage: str,
    model: nn.Module,
    loss_at: Callable[[int], Tensor],
    schedule: Schedule,
    work: Path,
    parameters: Iterable[nn.Parameter] | None = None,
) -> float:
    """Minimise ``loss_at(step)`` and leave the (averaged) weights in ``model``.

    ``loss_at`` must draw all its randomness from the step's number, so that a run that was killed and started
    again ends where an uninterrupted one ends. The checkpoint ``work/<stage>.pt`` holds weights, optimiser,
    average and step.

    Returns:
        The loss, averaged over about the last 200 steps.
    """
    trained: list[Tensor] = list(parameters if parameters is not None else model.parameters())
    optimiser = torch.optim.AdamW(
        trained, lr=schedule.lr, betas=(0.9, 0.98), weight_decay=schedule.weight_decay
    )
    average = [p.detach().clone() for p in trained] if schedule.ema else []
    start, running = 0, 0.0
    checkpoint = work / f"{stage}.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, mmap=False, map_location=trained[0].device)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        average, start, running = state["average"], state["step"], state["loss"]

    def save(step: int) -> None:
        state = {
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "average": average,
            "step": step,
            "loss": running,
        }
        with atomic_file(checkpoint) as partial:
            torch.save(state, partial)

    model.train()
    progress = trange(start, schedule.steps, initial=start, total=schedule.steps, desc=stage, mininterval=5)
    for step in progress:
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(step)
        with torch.autocast("cuda", torch.bfloat16, enabled=trained[0].is_cuda):
            loss = loss_at(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        running += (loss.item() - running) * max(0.005, 1 / (step + 1))
        if average:
            decay = min(schedule.ema, (step + 1) / (step + 10))
            with torch.no_grad():
                torch._foreach_lerp_(average, trained, 1 - decay)
        progress.set_postfix(loss=f"{running:.4f}", refresh=False)
        if (step + 1) % schedule.save_every == 0 or step + 1 == schedule.steps:
            save(step + 1)
    if average:
        with torch.no_grad():
            torch._foreach_copy_(trained, average)
    model.eval()
    return running

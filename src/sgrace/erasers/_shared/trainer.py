"""The training loop of all erasers that follow one loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..._util.device import check_finite
from ..base import Job


def train(
    job: Job,
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    iterations: int,
    loss_at: Callable[[int], Tensor],
    *,
    max_norm: float | None = None,
    after_step: Callable[[], object] | None = None,
) -> None:
    """Take optimizer steps on a loss, under a progress bar.

    Args:
        job: shows the progress.
        parameters: what the optimizer moves.
        optimizer: of the parameters.
        iterations: number of steps.
        loss_at: step number -> scalar loss.
        max_norm: gradients are clipped to this norm; not clipped, if absent.
        after_step: called after each step, for a schedule of the learning rate.

    Raises:
        InputError: the loss is not finite, as half precision may give.
    """
    for step in job.progress(iterations):
        loss = loss_at(step)
        check_finite(loss.detach(), "The loss", job.model.dtype)
        torch.autograd.backward(loss)
        if max_norm is not None:
            # one norm over all parameters together, so that their proportions stay
            torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        optimizer.step()
        # to None rather than zero: parameters that a step does not reach stay out of the optimizer's moments.
        # here and not before the next step: gradients would lie beside the activations of its loss
        optimizer.zero_grad(set_to_none=True)
        if after_step is not None:
            after_step()

"""EraseDiff (Wu et al., arXiv 2401.05779): minimise the retain loss while the concept is unlearned.

That the concept is unlearned is the constraint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from .._util.device import check_finite
from ._shared.relabel import RelabelConfig, RelabelData, RelabelLosses, relabel_losses
from ._shared.student import Student
from .base import Change, Eraser, Job, Need


class EraseDiffConfig(RelabelConfig):
    """Settings of relabelling, and of the constraint."""

    constraint_weight: float = Field(1.0, ge=0, description="Weight of the constraint, where it is constant.")
    margin: float | None = Field(
        None,
        ge=0,
        description="If given, the weight is max(margin - cos, 0), with the cosine between the two losses' "
        "gradients.",
    )
    inner_passes: int = Field(
        0,
        ge=0,
        le=100,
        description="Passes of descent on the forget loss alone before each pass, as released; their steps "
        "are undone.",
    )


_NUDITY_PRESET: dict[str, Any] = {
    "site": "not_text_attention", "replacement": "pokemon", "retain": "person wearing clothes", "batch": 16,
    "iterations": 160,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-nudity": _NUDITY_PRESET,
    "paper-sd14-object": {"replacement": "pokemon", "batch": 16, "iterations": 60},
    "adaptive": {**_NUDITY_PRESET, "margin": 1.0},
    "as-released": {**_NUDITY_PRESET, "inner_passes": 2, "first_batch_only": True},
    "emoji": {
        "site": "not_text_attention", "words": "related", "n_images": 96, "num_inference_steps": 15,
        "guidance_scale": 2.5, "iterations": 160, "lr": 2e-5, "margin": 1.0,
    },
}  # fmt: skip


class EraseDiff(Eraser[EraseDiffConfig]):
    """Adam on ``L_retain + weight (L_forget - L_forget*)``.

    ``L_forget*`` is the minimum of the forget loss alone.

    ``L_forget*`` is a constant to the gradient, so the method does not compute it.

    Differs from the release (preset ``as-released`` reproduces it): it descends on the forget loss first and
    undoes the steps, which leaves only the momentum of the one Adam that both losses share; its first pass of
    each two is lost by the way it restores the weights; it sees the first batch of images only. Its images of
    objects are real ones; here the model generates them.

    Cost: one denoiser call for each step of each batch of images, and two for each iteration and for each
    batch of the inner passes; every text is encoded once.
    """

    name = "erasediff"
    paper = "arXiv 2401.05779"
    licence = "MIT (badge)"
    needs = frozenset({Need.GRADIENTS, Need.GENERATED_DATA})
    changes = "all"
    config_type = EraseDiffConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`.

        Raises:
            InputError: a concept has no replacement and the settings name none.
        """
        config = self.config
        student = Student.of(job.model, self.site)
        data = RelabelData(config, job)
        optimizer = torch.optim.Adam(student.parameters, lr=config.lr)
        weights: list[float] = []
        start: list[Tensor] = []
        for step in job.progress(config.iterations):
            # a pass sees each image once
            at_pass, place = divmod(step, config.batches_a_pass)
            if config.inner_passes and place == 0:
                if at_pass % config.inner_passes == 0:
                    start = student.snapshot()
                self._forget_alone(student, data, optimizer)
                # every second pass of two starts where the first one did: that is what the release does
                student.restore(start)
            weights.append(self._step(student, relabel_losses(student.model, data.batch()), optimizer))
        prompts = [list(pair) for pair in data.prompts[:20]]
        details = {"prompts": prompts, "mean_constraint_weight": sum(weights) / max(len(weights), 1)}
        return Change(student.changed(), trained=student.size, details=details)

    def _forget_alone(self, student: Student, data: RelabelData, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(self.config.batches_a_pass):
            losses = relabel_losses(student.model, data.batch(retain=False))
            # the same Adam as outside: its momentum is all that the inner steps leave behind
            torch.autograd.backward(losses.forget)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def _step(self, student: Student, losses: RelabelLosses, optimizer: torch.optim.Optimizer) -> float:
        """Of training, and its weight of forgetting; the gradients are gone before the next one."""
        config = self.config
        check_finite(losses.forget.detach() + losses.retain.detach(), "The loss", student.model.dtype)
        found = constrained_gradients(losses, student.parameters, config.constraint_weight, config.margin)
        # Adam sees the combined gradient, not the two losses
        for parameter, gradient in zip(student.parameters, found.gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return found.weight


class ConstrainedGradients(NamedTuple):
    """Gradients of ``retain + weight * forget``, and the weight."""

    gradients: list[Tensor]
    weight: float


def constrained_gradients(
    losses: RelabelLosses, parameters: Sequence[Tensor], weight: float, margin: float | None
) -> ConstrainedGradients:
    """Gradients with a weight: the given one or, with a margin, one from the gradients themselves.

    With a margin the weight is ``max(margin - cos(d retain, d forget), 0)``.
    """
    if margin is None:
        # a constant weight needs one backward pass only
        return ConstrainedGradients(
            list(torch.autograd.grad(losses.retain + weight * losses.forget, parameters)), weight
        )
    # both losses come from one graph, which the second gradient still needs
    retain = torch.autograd.grad(losses.retain, parameters, retain_graph=True)
    forget = torch.autograd.grad(losses.forget, parameters)
    # gradients that agree need no constraint: the retain step forgets as well
    weight = max(margin - _cosine(retain, forget), 0.0)
    return ConstrainedGradients([a + weight * b for a, b in zip(retain, forget, strict=True)], weight)


def _cosine(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """Cosine between whole gradients, not layer by layer; no vector of all parameters is made for it."""

    def product(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        return torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum()

    lengths = (product(left, left) * product(right, right)).sqrt()
    # gradients of nothing are taken as unlike, as PyTorch's cosine does
    return (product(left, right) / lengths.clamp_min(1e-8)).item()

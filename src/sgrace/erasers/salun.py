"""SalUn (Fan et al., arXiv 2310.12508): the weights that matter most to the concept relearn it.

Only these weights learn another output for the concept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from .._util.device import check_finite
from ..models import Conditioning, DiffusionModel
from ._shared.relabel import RelabelBatch, RelabelConfig, RelabelData, RelabelLosses, relabel_losses
from ._shared.student import Student
from .base import Change, Eraser, Job, Need


class SalUnConfig(RelabelConfig):
    """Settings of relabelling, and of the mask."""

    mask_share: float = Field(
        0.5, gt=0, le=1, description="Share of all weights, taken together, that is trained."
    )
    mask_guidance: float = Field(
        7.5, ge=0, le=50, description="The mask's loss is that of (1 + g) eps(c) - g eps('')."
    )
    retain_weight: float = Field(
        0.1, ge=0, description="Weight of the denoising loss on the images to retain."
    )


_NUDITY: dict[str, Any] = {"replacement": "person wearing clothes", "retain": "person wearing clothes"}

PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-nudity": _NUDITY,
    "paper-sd14-object": {"retain_weight": 0.5, "iterations": 500},
    "as-released": {**_NUDITY, "first_batch_only": True},
    "emoji": {
        "words": "related", "n_images": 96, "num_inference_steps": 15, "guidance_scale": 2.5,
        "iterations": 80, "lr": 5e-5, "mask_share": 0.3, "retain_weight": 3.0,
    },
}  # fmt: skip


class SalUn(Eraser[SalUnConfig]):
    """Relabelling of the salient weights.

    Those with the largest gradients of the guided denoising loss on the concept's images.

    The gradients are summed over one pass through the images; Adam then moves only the weights of the mask.

    Differs from the release: its images of objects are real ones; here the model generates them. Until
    February 2026 it saw the first batch of images only, for the mask and in training: preset ``as-released``.

    Cost: one denoiser call for each step of each batch of images, one for each batch of a pass for the mask,
    then two for each iteration; every text is encoded once.
    """

    name = "salun"
    paper = "arXiv 2310.12508"
    licence = "MIT"
    needs = frozenset({Need.GRADIENTS, Need.GENERATED_DATA})
    changes = "all"
    config_type = SalUnConfig
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
        # decided once, before training: the mask is of the original's weights
        masks = saliency_masks(self.gradients(student, data), config.mask_share) if config.iterations else []
        optimizer = torch.optim.Adam(student.parameters, lr=config.lr)
        for _ in job.progress(config.iterations):
            self._step(student, relabel_losses(student.model, data.batch()), masks, optimizer)
        trained = sum(int(mask.sum()) for mask in masks)
        return Change(
            student.changed(),
            trained=trained,
            details={"prompts": [list(pair) for pair in data.prompts[:20]]},
        )

    def _step(
        self, student: Student, losses: RelabelLosses, masks: list[Tensor], optimizer: torch.optim.Optimizer
    ) -> None:
        """Of training; the gradients are gone before the next one."""
        loss = losses.forget + self.config.retain_weight * losses.retain
        check_finite(loss.detach(), "The loss", student.model.dtype)
        gradients = torch.autograd.grad(loss, student.parameters)
        # masked before Adam sees it: weights outside of the mask have no moments and never move
        for parameter, gradient, mask in zip(student.parameters, gradients, masks, strict=True):
            parameter.grad = gradient * mask
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def gradients(self, student: Student, data: RelabelData) -> list[Tensor]:
        """Gradient of the guided denoising loss over one pass through the concept's images.

        One tensor for each parameter.
        """
        # signed sums: gradients of different batches may cancel
        total = [torch.zeros_like(parameter, device=student.model.device) for parameter in student.parameters]
        for _ in range(self.config.batches_a_pass):
            loss = guided_loss(
                student.model, data.batch(retain=False), data.uncond, self.config.mask_guidance
            )
            gradients = torch.autograd.grad(loss, student.parameters)
            # one batch's graph at a time; the sum is that of the whole pass
            total = [summed + gradient for summed, gradient in zip(total, gradients, strict=True)]
        return total


def guided_loss(model: DiffusionModel, batch: RelabelBatch, uncond: Conditioning, guidance: float) -> Tensor:
    """``mean |target - ((1 + g) eps(c) - g eps(''))|^2``, with both outputs in one call of the denoiser."""
    noisy = model.schedule.add_noise(batch.clean, batch.noise, batch.timesteps)
    target = model.schedule.target(batch.clean, batch.noise, batch.timesteps)
    # (batch, ...) of the concept, then (batch, ...) of the empty prompt
    both = Conditioning.cat([batch.cond, uncond.expand(len(batch.cond))])
    concept, plain = model.predict(torch.cat([noisy, noisy]), batch.timesteps.repeat(2), both).chunk(2)
    return (target - ((1 + guidance) * concept - guidance * plain)).square().mean()


def saliency_masks(gradients: Sequence[Tensor], share: float) -> list[Tensor]:
    """Boolean masks of the ``share`` of largest magnitudes among all gradients together.

    Ties with the last of them are in.
    """
    # one ranking over all parameters, so a layer may end up masked as a whole
    magnitudes = torch.cat([gradient.abs().flatten() for gradient in gradients])
    keep = max(1, round(share * len(magnitudes)))
    # kthvalue counts from 1 and from the smallest
    threshold = magnitudes.kthvalue(len(magnitudes) - keep + 1).values
    return [gradient.abs() >= threshold for gradient in gradients]

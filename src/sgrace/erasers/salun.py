"""SalUn (Fan et al., arXiv 2310.12508): only the weights that matter most to the concept are taught to draw something else for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from ..concept import Concept
from ..erasure import Erasure
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ._shared.relabel import RelabelConfig, RelabelData, relabel_losses
from ._shared.student import Student
from .base import Eraser, check_concepts, facts


class SalUnConfig(RelabelConfig):
    """Settings of relabelling, and of the mask.

    Attributes:
        mask_share: part of all weights, taken together, that is trained.
        mask_guidance: the mask's loss is that of ``(1 + g) eps(concept) - g eps("")``.
        retain_weight: of the denoising loss on the pictures to retain.
    """

    mask_share: float = Field(0.5, gt=0, le=1)
    mask_guidance: float = Field(7.5, ge=0, le=50)
    retain_weight: float = Field(0.1, ge=0)


_NUDITY: dict[str, Any] = {"pseudo": "person wearing clothes", "retain": "person wearing clothes"}

PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-nudity": _NUDITY,
    "paper-sd14-object": {"retain_weight": 0.5, "iterations": 500},
    "as_released": {**_NUDITY, "first_batch_only": True},
    "emoji": {
        "words": "related", "n_pictures": 96, "num_inference_steps": 15, "guidance_scale": 2.5, "iterations": 80, "lr": 5e-5,
        "mask_share": 0.3, "retain_weight": 3.0,
    },
}  # fmt: skip


class SalUn(Eraser[SalUnConfig]):
    """The gradient of the guided denoising loss on the concept's pictures, summed over one pass, picks the weights; Adam moves only them.

    Until February 2026 the released code saw the first batch of pictures only, for the mask and in training: preset ``as_released``.
    Its pictures for single objects are real ones; here they are drawn by the model.

    Cost: one denoiser call for each step of each 32 pictures, one for each batch of a pass for the mask, then two for each iteration;
    every text is encoded once.
    """

    name = "salun"
    paper = "arXiv 2310.12508"
    pictures = "drawn by itself"
    licence = "MIT"
    trains = "denoiser: the salient part of the chosen group"
    config_type = SalUnConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def erase(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], *, seed: int = 0) -> Erasure:
        """See :meth:`Eraser.erase`.

        Raises:
            InputError: as there, or a concept has no surrogate and ``pseudo`` is not set.
        """
        check_concepts(concepts, knowledge)
        config, started = self.config, time.monotonic()
        student = Student.of(model, config.group)
        data = RelabelData(config, student.teacher, concepts, knowledge, seed)
        masks = saliency_masks(self.gradients(student, data), config.mask_share) if config.iterations else []
        optimizer = torch.optim.Adam(student.parameters, lr=config.lr)
        for _ in tqdm(range(config.iterations), desc="erase", **model.progress_bar_options):
            forget, retain = relabel_losses(student.model, data.batch())
            gradients = torch.autograd.grad(forget + config.retain_weight * retain, student.parameters)
            for parameter, gradient, mask in zip(student.parameters, gradients, masks, strict=True):
                parameter.grad = gradient * mask
            optimizer.step()
        trained = sum(int(mask.sum()) for mask in masks)
        recipe = facts(
            self, student.teacher, concepts, knowledge, seed, trained=trained, started=started, prompts=[list(p) for p in data.prompts[:20]]
        )
        return Erasure(recipe, None, unet=student.changed())

    def gradients(self, student: Student, data: RelabelData) -> list[Tensor]:
        """Gradient of the guided denoising loss over one pass through the concept's pictures, one tensor for each parameter."""
        model = student.model
        total = [torch.zeros_like(parameter) for parameter in student.parameters]
        for _ in range(self.config.batches_a_pass):
            batch = data.batch(retain=False)
            loss = guided_loss(
                model,
                model.noised(batch.clean, batch.noise, batch.timesteps),
                batch.timesteps,
                batch.states,
                data.empty,
                model.training_target(batch.clean, batch.noise, batch.timesteps),
                self.config.mask_guidance,
            )
            total = [a + b for a, b in zip(total, torch.autograd.grad(loss, student.parameters), strict=True)]
        return total


def guided_loss(
    model: StableDiffusion, noisy: Tensor, timesteps: Tensor, states: Tensor, empty: Tensor, wanted: Tensor, guidance: float
) -> Tensor:
    """``mean |wanted - ((1 + g) eps(states) - g eps(empty))|^2``, with both outputs in one call of the denoiser."""
    both = model.predict(noisy.repeat(2, 1, 1, 1), timesteps.repeat(2), torch.cat([states, empty.expand_as(states)]))
    concept, nothing = both.chunk(2)
    return (wanted - ((1 + guidance) * concept - guidance * nothing)).square().mean()


def saliency_masks(gradients: Sequence[Tensor], share: float) -> list[Tensor]:
    """Boolean masks of the ``share`` of largest magnitudes among all gradients together; ties with the last of them are in."""
    magnitudes = torch.cat([gradient.abs().flatten() for gradient in gradients])
    keep = max(1, round(share * len(magnitudes)))
    threshold = magnitudes.kthvalue(len(magnitudes) - keep + 1).values
    return [gradient.abs() >= threshold for gradient in gradients]

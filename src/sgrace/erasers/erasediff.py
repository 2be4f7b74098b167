"""EraseDiff (Wu et al., arXiv 2401.05779): remembering the rest is minimised under the constraint that the concept is forgotten."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
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


class EraseDiffConfig(RelabelConfig):
    """Settings of relabelling, and of the constraint.

    Attributes:
        constraint_weight: weight of the constraint, where it is constant.
        margin: if given, the weight is ``max(margin - cos, 0)`` instead, with the cosine between the two losses' gradients.
        inner_passes: passes of descent on forgetting alone before each pass, as released; their steps are taken back.
    """

    constraint_weight: float = Field(1.0, ge=0)
    margin: float | None = Field(None, ge=0)
    inner_passes: int = Field(0, ge=0, le=100)


_NUDITY: dict[str, Any] = {
    "group": "not_cross_attention", "pseudo": "pokemon", "retain": "person wearing clothes", "batch": 16, "iterations": 160,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-nudity": _NUDITY,
    "paper-sd14-object": {"pseudo": "pokemon", "batch": 16, "iterations": 60},
    "adaptive": {**_NUDITY, "margin": 1.0},
    "as_released": {**_NUDITY, "inner_passes": 2, "first_batch_only": True},
    "emoji": {
        "group": "not_cross_attention", "words": "related", "n_pictures": 96, "num_inference_steps": 15, "guidance_scale": 2.5,
        "iterations": 160, "lr": 2e-5, "margin": 1.0,
    },
}  # fmt: skip


class EraseDiff(Eraser[EraseDiffConfig]):
    """Adam on ``L_retain + weight (L_forget - L_forget*)``, where ``L_forget*`` is what descent on forgetting alone would reach.

    ``L_forget*`` is a constant to the gradient, so that the method does not need it. The released code finds it all the same, and what
    that leaves behind is the memory of the one Adam that it shares; its first pass of each two is thrown away by the way it puts the
    weights back, and it sees the first batch of pictures only: preset ``as_released``. Its pictures of objects are real ones; here
    they are drawn by the model.

    Cost: one denoiser call for each step of each 32 pictures, and two for each iteration and for each batch of the inner passes; every
    text is encoded once.
    """

    name = "erasediff"
    paper = "arXiv 2401.05779"
    pictures = "drawn by itself"
    licence = "MIT (badge)"
    trains = "denoiser: the chosen group"
    config_type = EraseDiffConfig
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
        optimizer = torch.optim.Adam(student.parameters, lr=config.lr)
        weights: list[float] = []
        start: list[Tensor] = []
        for step in tqdm(range(config.iterations), desc="erase", **model.progress_bar_options):
            at_pass, place = divmod(step, config.batches_a_pass)
            if config.inner_passes and place == 0:
                if at_pass % config.inner_passes == 0:
                    start = student.snapshot()
                self._forget_alone(student, data, optimizer)
                # every second pass of two starts where the first one did: that is what the release does
                student.restore(start)
            forget, retain = relabel_losses(student.model, data.batch())
            gradients, weight = constrained_gradients(retain, forget, student.parameters, config.constraint_weight, config.margin)
            for parameter, gradient in zip(student.parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            weights.append(weight)
        recipe = facts(
            self, student.teacher, concepts, knowledge, seed, trained=student.size, started=started,
            prompts=[list(pair) for pair in data.prompts[:20]], mean_constraint_weight=sum(weights) / max(len(weights), 1),
        )  # fmt: skip
        return Erasure(recipe, None, unet=student.changed())

    def _forget_alone(self, student: Student, data: RelabelData, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(self.config.batches_a_pass):
            forget, _ = relabel_losses(student.model, data.batch(retain=False))
            optimizer.zero_grad(set_to_none=True)
            forget.backward()
            optimizer.step()


def constrained_gradients(
    retain: Tensor, forget: Tensor, parameters: Sequence[Tensor], weight: float, margin: float | None
) -> tuple[list[Tensor], float]:
    """Gradients of ``retain + weight * forget``, and the weight: the given one, or ``max(margin - cos(d retain, d forget), 0)``."""
    if margin is None:
        return list(torch.autograd.grad(retain + weight * forget, parameters)), weight
    kept = torch.autograd.grad(retain, parameters, retain_graph=True)
    lost = torch.autograd.grad(forget, parameters)
    flat_kept, flat_lost = (torch.cat([g.flatten() for g in gradients]) for gradients in (kept, lost))
    weight = max(margin - F.cosine_similarity(flat_kept, flat_lost, dim=0).item(), 0.0)
    return [a + weight * b for a, b in zip(kept, lost, strict=True)], weight

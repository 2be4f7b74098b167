"""RECE (Gong et al., arXiv 2407.12383): UCE, then again and again on the embedding that still brings the concept back."""

from __future__ import annotations

import time
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ..concept import Concept
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ..models.parts import group_names
from .base import Eraser, Erasure, check_concepts, facts
from .closed_form import Wish, edit_matrices
from .uce import UCEConfig, wishes_of


class RECEConfig(UCEConfig):
    """Settings of UCE, with RECE's own values, and of the repetition.

    Attributes:
        epochs: derivations and edits after the first edit.
        recover_ridge: pull of the derived embedding towards zero.
    """

    ridge: float = Field(0.1, gt=0)
    preserve_weight: float = Field(0.1, ge=0)
    epochs: int = Field(3, ge=0, le=1000)
    recover_ridge: float = Field(0.1, gt=0)


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-nudity": {"epochs": 3, "recover_ridge": 1e-1, "guide": " "},
    "paper-sd14-style": {"epochs": 1, "recover_ridge": 1e-3, "guide": "art"},
    "paper-sd14-object": {"epochs": 1, "recover_ridge": 1e-3, "guide": " "},
    "emoji": {"epochs": 3, "words": "related", "n_preserve": 200, "preserve_weight": 1.0, "rows": "tail"},
}


def recovering_states(original: list[Tensor], edited: list[Tensor], states: Tensor, ridge: float) -> Tensor:
    """States ``(n, width)`` to which the edited matrices answer most nearly what the original ones answer to ``states``.

    ``c' = (sum W'^T W' + ridge I)^-1 (sum W'^T W) c``, over all matrices.
    """
    width = states.shape[1]
    left = ridge * torch.eye(width, dtype=torch.float64)
    right = torch.zeros(width, width, dtype=torch.float64)
    for before, after in zip(original, edited, strict=True):
        left += after.double().T @ after.double()
        right += after.double().T @ before.double()
    return torch.linalg.solve(left, right @ states.double().T).T


class RECE(Eraser[RECEConfig]):
    """Closed form throughout. The published code picks the epoch by a detector on a validation set; here the number of epochs is fixed."""

    name = "rece"
    paper = "arXiv 2407.12383"
    trains = "denoiser: cross-attention keys and values"
    config_type = RECEConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def erase(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], *, seed: int = 0) -> Erasure:
        """See :meth:`Eraser.erase`; the result does not depend on the seed."""
        check_concepts(concepts, knowledge)
        started = time.monotonic()
        model = model.with_text_encoder(model.text_encoder)  # own count of calls
        names = group_names(model.pipeline.unet, "cross_attention_kv")
        original = [model.pipeline.unet.get_parameter(name).detach() for name in names]
        erased, *kept = wishes_of(model, self.config, concepts, knowledge)
        matrices = edit_matrices(original, [erased, *kept], self.config.ridge)
        for _ in range(self.config.epochs):
            again = recovering_states(original, matrices, erased.inputs, self.config.recover_ridge)
            matrices = edit_matrices(matrices, [Wish(again, erased.like.double(), erased.weight), *kept], self.config.ridge)
        edited = dict(zip(names, matrices, strict=True))
        recipe = facts(self, model, concepts, knowledge, seed, trained=sum(m.numel() for m in matrices), started=started)
        return Erasure(recipe, None, unet=edited)

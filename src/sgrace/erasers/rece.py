"""RECE (Gong et al., arXiv 2407.12383): UCE, then again and again on the embedding that still brings the concept back."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ._shared.closed_form import Wish, edit_matrices
from .uce import UCE, UCEConfig


class RECEConfig(UCEConfig):
    """Settings of UCE, with RECE's own values, and of the repetition.

    Attributes:
        epochs: derivations and edits after the first edit.
        recover_ridge: pull of the derived embedding towards zero.
        together: every edit starts from the original and is of the concept and all embeddings derived so far; as published, it starts
            from the edit before and is of the last derived embeddings alone, and the concept itself may come back.
    """

    ridge: float = Field(0.1, gt=0)
    preserve_weight: float = Field(0.1, ge=0)
    epochs: int = Field(3, ge=0, le=1000)
    recover_ridge: float = Field(0.1, gt=0)
    together: bool = False


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-nudity": {"epochs": 3, "recover_ridge": 1e-1, "guide": " "},
    "paper-sd14-style": {"epochs": 1, "recover_ridge": 1e-3, "guide": "art"},
    "paper-sd14-object": {"epochs": 1, "recover_ridge": 1e-3, "guide": " "},
    "emoji": {
        "epochs": 3, "words": "related", "n_preserve": 200, "preserve": "prompts", "preserve_weight": 1.0, "rows": "tail",
        "together": True,
    },
}  # fmt: skip


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


class RECE(UCE):
    """Closed form throughout. The published code picks the epoch by a detector on a validation set; here the number of epochs is fixed."""

    name = "rece"
    paper = "arXiv 2407.12383"
    licence = "Apache-2.0"
    config_type = RECEConfig
    presets = PRESETS
    config: RECEConfig

    def edit(self, matrices: list[Tensor], wishes: list[Wish]) -> list[Tensor]:
        """UCE's edit, then again on what still recovers the original answers."""
        config, original, (erased, *kept) = self.config, matrices, wishes
        matrices, derived = edit_matrices(original, wishes, config.ridge), list[Wish]()
        for _ in range(config.epochs):
            again = recovering_states(original, matrices, erased.inputs, config.recover_ridge)
            derived.append(Wish(again, erased.like, erased.weight))
            if config.together:
                matrices = edit_matrices(original, [*wishes, *derived], config.ridge)
            else:
                matrices = edit_matrices(matrices, [derived[-1], *kept], config.ridge)
        return matrices

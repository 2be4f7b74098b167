"""RECE (Gong et al., arXiv 2407.12383): UCE, repeated on embeddings that still bring the concept back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ._shared.adversarial_samples import observe
from ._shared.closed_form import EditTerm, edit_matrices, exact
from .uce import UCE, UCEConfig


class RECEConfig(UCEConfig):
    """Settings of UCE, with RECE's own values, and of the repetition."""

    ridge: float = Field(0.1, gt=0, description="Pull of the edited matrices towards the original ones.")
    retain_weight: float = Field(0.1, ge=0, description="Weight of the retained prompts.")
    epochs: int = Field(3, ge=0, le=1000, description="Derivations and edits after the first edit.")
    recover_ridge: float = Field(0.1, gt=0, description="Pull of the derived embedding towards zero.")
    together: bool = Field(
        False,
        description="Every edit starts from the original and is of the concept and all embeddings derived so "
        "far. As published (false), it starts from the edit before and is of the last derived embeddings "
        "alone, and the concept itself may come back.",
    )


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-nudity": {"epochs": 3, "recover_ridge": 1e-1, "replacement": " "},
    "paper-sd14-style": {"epochs": 1, "recover_ridge": 1e-3, "replacement": "art"},
    "paper-sd14-object": {"epochs": 1, "recover_ridge": 1e-3, "replacement": " "},
    "emoji": {
        "epochs": 3, "words": "related", "n_retain": 200, "retain": "prompts", "retain_weight": 1.0,
        "positions": "tail", "together": True,
    },
}  # fmt: skip


def recovering_embeds(
    original: Sequence[Tensor],
    edited: Sequence[Tensor],
    prompt_embeds: Float[Tensor, "n width"],
    ridge: float,
) -> Float[Tensor, "n width"]:
    """Embeddings that make the edited matrices return what the original ones return.

    The original ones read ``prompt_embeds``; the match is the nearest there is.

    ``c' = (sum W'^T W' + ridge I)^-1 (sum W'^T W) c``, over all matrices; in float64.
    """
    width = prompt_embeds.shape[1]
    # the ridge keeps the derived embedding finite where the edit left no output at all
    left = ridge * torch.eye(width, dtype=torch.float64)
    right = torch.zeros(width, width, dtype=torch.float64)
    for before, after in zip(original, edited, strict=True):
        # (out, width)^T (out, width) -> (width, width), summed over all matrices
        left += exact(after).T @ exact(after)
        right += exact(after).T @ exact(before)
    # one solve for all embeddings: (width, width), (width, n) -> (width, n)
    solved: Tensor = torch.linalg.solve(left, right @ exact(prompt_embeds).T)
    return solved.T


class RECE(UCE):
    """UCE's edit, repeated on the embeddings that recover the concept under the edited matrices.

    Differs from the release: it picks the epoch by a detector on a validation set; here the number of epochs
    is fixed.

    Cost: as UCE.
    """

    name = "rece"
    paper = "arXiv 2407.12383"
    licence = "Apache-2.0"
    config_type = RECEConfig
    presets = PRESETS
    config: RECEConfig

    def edit(self, matrices: list[Tensor], terms: list[EditTerm]) -> list[Tensor]:
        """UCE's edit, then again on what still recovers the original outputs."""
        config = self.config
        # the first term is the one that erases, by the contract of `edit`
        erased, *retained = terms
        edited = edit_matrices(matrices, terms, config.ridge)
        derived: list[EditTerm] = []
        for _ in range(config.epochs):
            # what the edited matrices must read to say what the concept said before
            again = recovering_embeds(matrices, edited, erased.inputs, config.recover_ridge)
            observe("prompt_embed_rows", again)
            derived.append(EditTerm(again, erased.like, erased.weight))
            if config.together:
                edited = edit_matrices(matrices, [*terms, *derived], config.ridge)
            else:
                # as published: from the last edit, and of the last embeddings alone
                edited = edit_matrices(edited, [derived[-1], *retained], config.ridge)
        return edited

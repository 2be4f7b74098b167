"""SPEED (Li et al., arXiv 2503.07392): a closed-form edit that moves only where no kept text lies."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from .._util.errors import InputError
from ..concept import Concept
from ..erasure import Erasure
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ..models.sites import group_names
from ._shared.closed_form import solve_right
from ._shared.generated_data import Texts
from ._shared.prompts import last_word_states, names_of
from .base import Eraser, check_concepts, facts

ENDINGS = {"v": ("to_v.weight",), "k": ("to_k.weight",), "kv": ("to_k.weight", "to_v.weight")}
N_CENTRES = 3  # of the empty prompt's states, which stay as they are with the start token's


class SPEEDConfig(BaseModel):
    """Settings; defaults are those of the release for objects.

    Attributes:
        matrices: values, keys or both.
        anchor: text that the concept shall mean; empty for none in particular.
        rows: ``last`` edits the state of the last content token, ``all`` those of all tokens but the first.
        words: erase the concept's name only, or its related words too.
        n_retain: unrelated words that are kept, the first of the list.
        threshold: singular value of the kept states' second moment below which a direction is free to be edited.
        ridge: pull towards the matrix before the edit.
        slack: how far the start token's and the empty prompt's states may move; 0 for not at all.
        select: keep only those states that an edit without constraints would move more than the average.
        n_variants: noisy variants of each kept state, selected likewise, along the direction that the matrix reads least.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    matrices: Literal["v", "k", "kv"] = "v"
    anchor: str = ""
    rows: Literal["last", "all"] = "last"
    words: Literal["name", "related"] = "name"
    n_retain: int = Field(1000, ge=1, le=100_000)
    threshold: float = Field(0.1, ge=0)
    ridge: float = Field(1.0, gt=0)
    slack: float = Field(0.0, ge=0)
    select: bool = True
    n_variants: int = Field(10, ge=0, le=1000)


PRESETS: dict[str, dict[str, object]] = {
    "paper-sd14-object": {},
    "paper-sd14-nudity": {"rows": "all", "words": "related", "ridge": 0.7, "slack": 0.5},
    "paper-sd14-style": {"anchor": "art"},
    "emoji": {"rows": "all", "words": "related", "ridge": 1.0, "threshold": 0.1},
}


@dataclass(frozen=True)
class Plan:
    """What is the same for every matrix.

    Attributes:
        target: mean of ``c_t c_t^T`` over the erased states, ``(width, width)``, float64 as all.
        change: mean of ``(c_a - c_t) c_t^T``, with the anchor's states ``c_a``.
        kept: states of unrelated words ``(n, width)``.
        fixed: states of the start token and of the empty prompt ``(width, m)``.
    """

    target: Float[Tensor, "width width"]
    change: Float[Tensor, "width width"]
    kept: Float[Tensor, "n width"]
    fixed: Float[Tensor, "width m"]


class SPEED(Eraser[SPEEDConfig]):
    """One solve for each matrix, in the null space of what it must keep; no images, no gradients. Several concepts go into one solve.

    Cost: four calls of the text encoder, two with ``rows="all"``; none of the denoiser.
    """

    name = "speed"
    paper = "arXiv 2503.07392"
    licence = "Apache-2.0"
    trains = "denoiser: cross-attention keys or values or both"
    access = "weights"
    config_type = SPEEDConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def erase(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], *, seed: int = 0) -> Erasure:
        """See :meth:`Eraser.erase`.

        Raises:
            InputError: as there, or no unrelated word is left to be kept.
        """
        check_concepts(concepts, knowledge)
        started, generator = time.monotonic(), torch.Generator().manual_seed(seed)
        model = model.with_text_encoder(model.text_encoder)  # own count of calls
        names = [n for n in group_names(model.pipeline.unet, "cross_attention_kv") if n.endswith(ENDINGS[self.config.matrices])]
        plan = self._plan(model, concepts, knowledge)
        edited = {name: self._edit(model.pipeline.unet.get_parameter(name).detach(), plan, generator) for name in names}
        recipe = facts(self, model, concepts, knowledge, seed, trained=sum(m.numel() for m in edited.values()), started=started)
        return Erasure(recipe, None, unet=edited)

    def _plan(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge]) -> Plan:
        config = self.config
        names = list(
            dict.fromkeys(n for concept, words in zip(concepts, knowledge, strict=True) for n in names_of(concept, words, config.words))
        )
        taken = {*names, *(word for words in knowledge for word in words.related)}
        unrelated = [w for w in dict.fromkeys(w for words in knowledge for w in words.unrelated) if w not in taken][: config.n_retain]
        if not unrelated:
            raise InputError("No unrelated words are left: nothing would protect the rest of the model.")
        whole = config.rows == "all"
        texts = Texts(model, ["", config.anchor, *names] if whole else [""])
        nothing = texts([""])[0].double()
        if whole:
            erased = texts(names)[:, 1:].flatten(0, 1).double()
            anchors = texts([config.anchor])[:, 1:].expand(len(names), -1, -1).flatten(0, 1).double()
        else:
            erased = last_word_states(model, names).double()
            anchors = last_word_states(model, [config.anchor]).double().expand_as(erased)
        kept = last_word_states(model, unrelated).double()
        fixed = torch.cat([nothing[:1], centres(nothing[1:], N_CENTRES)]).T
        return Plan(erased.T @ erased / len(erased), (anchors - erased).T @ erased / len(erased), kept, fixed)

    def _edit(self, matrix: Tensor, plan: Plan, generator: torch.Generator) -> Tensor:
        """One edited matrix."""
        config, w = self.config, matrix.double()
        free = w @ solve_right(plan.target + config.ridge * torch.eye(len(plan.target), dtype=torch.float64), plan.change)
        kept = moved_most(plan.kept, free) if config.select else plan.kept
        if config.n_variants:
            least = torch.linalg.eigh(w.T @ w).eigenvectors[:, 0]
            sizes = torch.randn(config.n_variants * len(kept), 1, generator=generator, dtype=torch.float64)
            variants = kept.repeat(config.n_variants, 1) + sizes * least
            kept = torch.cat([kept, moved_most(variants, free) if config.select else variants])
        projector = null_projector(kept, config.threshold)
        return (w + w @ constrained_change(plan, projector, config.ridge, config.slack)).to(matrix.dtype)


def moved_most(states: Float[Tensor, "n width"], change: Float[Tensor, "_ width"]) -> Float[Tensor, "m width"]:
    """The states whose answers a change of the matrix moves by no less than the average."""
    moves = (states @ change.T).norm(dim=1)
    return states[moves >= moves.mean()]


def null_projector(states: Float[Tensor, "n width"], threshold: float) -> Float[Tensor, "width width"]:
    """Projector onto the directions in which the states' mean second moment is below a threshold."""
    values, vectors = torch.linalg.eigh(states.T @ states / len(states))
    free = vectors[:, values < threshold]
    return free @ free.T


def constrained_change(plan: Plan, projector: Tensor, ridge: float, slack: float) -> Float[Tensor, "width width"]:
    """X such that ``W + W X`` is the edit: ``X = (C_a - C_t) [N - N K (K^T N K + slack I)^-1 K^T N]``, ``N = P (C_t P + ridge I)^-1``.

    ``K`` are the fixed states. Without slack, those of which the projector leaves nothing need no constraint: hence the pseudo-inverse.
    """
    inner = projector @ plan.target @ projector + ridge * torch.eye(len(projector), dtype=torch.float64)
    n = solve_right(inner, projector)  # N, which is symmetric
    moved = n @ plan.fixed
    small = plan.fixed.T @ moved + slack * torch.eye(plan.fixed.shape[1], dtype=torch.float64)
    return plan.change @ (n - moved @ torch.linalg.pinv(small, hermitian=True) @ moved.T)


def centres(rows: Float[Tensor, "n width"], k: int) -> Float[Tensor, "k width"]:
    """k-means centres, begun from rows far from each other."""
    found = rows[:1]
    while len(found) < min(k, len(rows)):
        found = torch.cat([found, rows[torch.cdist(rows, found).amin(1).argmax()][None]])
    for _ in range(20):
        nearest = torch.cdist(rows, found).argmin(1)
        found = torch.stack([rows[nearest == i].mean(0) if (nearest == i).any() else found[i] for i in range(len(found))])
    return found

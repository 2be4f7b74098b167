"""SPEED (Li et al., arXiv 2503.07392): a closed-form edit that moves only where no retained text lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from .._util.errors import InputError
from .._util.settings import Settings
from ..knowledge import Target
from ..models import DiffusionModel
from ._shared.closed_form import exact, solve_right, whole
from ._shared.generated_data import Texts
from ._shared.prompts import Names, last_word_embeds, names_of
from ._shared.settings import Count
from .base import Change, Eraser, Job, Need

SITES = {"v": "text_v", "k": "text_k", "kv": "text_kv", "inlet": "inlet"}
N_CENTRES = 3  # of the empty prompt's embeddings, which stay as they are with the start token's


class SPEEDConfig(Settings):
    """Settings; defaults are those of the release for objects."""

    matrices: Literal["v", "k", "kv", "inlet"] = Field(
        "v",
        description="Edit the values, the keys or both or, in families that have it, the one layer through "
        "which prompt embeddings enter.",
    )
    replacement: str = Field(
        "", description="Text that the concept should mean; empty for nothing in particular."
    )
    positions: Literal["last", "all"] = Field(
        "last", description="Edit the last content token, or all positions but the start token."
    )
    words: Names = Field("name", description="Erase the concept's name only, or its related words too.")
    n_retain: Count = Field(1000, description="Unrelated words that are retained, first of the list.")
    threshold: float = Field(
        0.1,
        ge=0,
        description="Eigenvalue of the retained embeddings' second moment below which a direction is free to "
        "be edited.",
    )
    ridge: float = Field(1.0, gt=0, description="Pull towards the matrix before the edit.")
    slack: float = Field(
        0.0, ge=0, description="How far the start token's and the empty prompt's embeddings may move."
    )
    select: bool = Field(
        True,
        description="Retain only embeddings that an edit without constraints would move more than the "
        "average.",
    )
    n_variants: int = Field(
        10,
        ge=0,
        le=1000,
        description="Noisy variants of each retained embedding, selected likewise, along the direction that "
        "the matrix reads least.",
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper-sd14-object": {},
    "paper-sd14-nudity": {"positions": "all", "words": "related", "ridge": 0.7, "slack": 0.5},
    "paper-sd14-style": {"replacement": "art"},
    "emoji": {"positions": "all", "words": "related", "ridge": 1.0, "threshold": 0.1},
}


@dataclass(frozen=True)
class Plan:
    """What is the same for every matrix; all in float64.

    Attributes:
        target: mean of ``c_t c_t^T`` over the erased embeddings, ``(width, width)``.
        change: mean of ``(c_r - c_t) c_t^T``, with the replacement's embeddings ``c_r``.
        retained: embeddings of unrelated words ``(n, width)``.
        fixed: embeddings of the start token and of the empty prompt ``(width, m)``.
    """

    target: Float[Tensor, "width width"]
    change: Float[Tensor, "width width"]
    retained: Float[Tensor, "n width"]
    fixed: Float[Tensor, "width m"]


class SPEED(Eraser[SPEEDConfig]):
    """One solve for each matrix, in the null space of what it must retain.

    Several concepts go into one solve.

    Cost: four calls of the text encoder, two with ``positions=all``; no denoiser, no gradients.
    """

    name = "speed"
    paper = "arXiv 2503.07392"
    licence = "Apache-2.0"
    needs = frozenset({Need.SHARED_TEXT_KV})
    needs_with: ClassVar[Mapping[str, frozenset[Need]]] = {"matrices=inlet": frozenset({Need.INLET})}
    changes = "text_kv"
    config_type = SPEEDConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    @property
    def site(self) -> str:
        """The matrices that the settings name."""
        return SITES[self.config.matrices]

    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`.

        Raises:
            InputError: no unrelated word is left to be retained.
        """
        plan = self._plan(job.model, job.targets)
        matrices = job.model.sites.matrices(self.site)
        edited = {name: self._edit(matrix, plan, job.generator) for name, matrix in matrices.items()}
        return Change(
            {job.model.denoiser_component: edited}, trained=sum(matrix.numel() for matrix in edited.values())
        )

    def _plan(self, model: DiffusionModel, targets: Sequence[Target]) -> Plan:
        config = self.config
        names = list(dict.fromkeys(name for target in targets for name in names_of(target, config.words)))
        unrelated = self._retained(names, targets)
        whole = config.positions == "all"
        texts = Texts(model, ["", config.replacement, *names] if whole else [""])

        def read(rows: Tensor) -> Tensor:
            return exact(model.sites.read(self.site, rows))

        # one row for the start token, the end token and each padding token
        empty = read(texts([""]).prompt_embeds[0])
        if whole:
            # all positions but the start token's: (names, length - 1, width) -> (rows, width)
            erased = read(texts(names).prompt_embeds[:, 1:].flatten(0, 1))
            other = texts([config.replacement]).prompt_embeds[:, 1:].expand(len(names), -1, -1)
            replacement = read(other.flatten(0, 1))
        else:
            erased = read(last_word_embeds(model, names))
            # one row for each stretch of positions, the same for all names
            replacement = read(last_word_embeds(model, [config.replacement])).repeat_interleave(len(names), 0)
        retained = read(last_word_embeds(model, unrelated))
        # the start token and a few typical embeddings of the rest, as columns: (width, 1 + N_CENTRES)
        fixed = torch.cat([empty[:1], centres(empty[1:], N_CENTRES)]).T
        n = len(erased)
        return Plan(erased.T @ erased / n, (replacement - erased).T @ erased / n, retained, fixed)

    def _retained(self, names: Sequence[str], targets: Sequence[Target]) -> list[str]:
        """Unrelated words that are no words of any of the concepts."""
        taken = {*names, *(word for target in targets for word in target.words.related)}
        unrelated = dict.fromkeys(word for target in targets for word in target.words.unrelated)
        left = [word for word in unrelated if word not in taken][: self.config.n_retain]
        if not left:
            raise InputError("No unrelated words are left: nothing would protect the rest of the model.")
        return left

    def _edit(self, matrix: Tensor, plan: Plan, generator: torch.Generator) -> Tensor:
        """One edited matrix."""
        config = self.config
        # one row an output: (out, width)
        w = exact(matrix)
        identity = torch.eye(len(plan.target), dtype=torch.float64)
        # how the edit would move the matrix if nothing had to be retained
        free = w @ solve_right(plan.target + config.ridge * identity, plan.change)
        retained = moved_most(plan.retained, free) if config.select else plan.retained
        if config.n_variants:
            # eigenvalues ascend: the first direction is the one that the matrix reads least
            least = torch.linalg.eigh(w.T @ w).eigenvectors[:, 0]
            sizes = torch.randn(
                config.n_variants * len(retained), 1, generator=generator, dtype=torch.float64
            )
            # (n, width) -> (n_variants * n, width), each moved by a random length
            variants = retained.repeat(config.n_variants, 1) + sizes * least
            retained = torch.cat([retained, moved_most(variants, free) if config.select else variants])
        projector = null_projector(retained, config.threshold)
        return whole(w + w @ constrained_change(plan, projector, config.ridge, config.slack), matrix)


def moved_most(
    prompt_embeds: Float[Tensor, "n width"], change: Float[Tensor, "_ width"]
) -> Float[Tensor, "m width"]:
    """The embeddings whose outputs a change of the matrix moves by no less than the average."""
    # length of each output: (n, width) @ (width, out) -> (n,)
    moves = (prompt_embeds @ change.T).norm(dim=1)
    return prompt_embeds[moves >= moves.mean()]


def null_projector(prompt_embeds: Float[Tensor, "n width"], threshold: float) -> Float[Tensor, "width width"]:
    """Projector onto the directions in which the embeddings' mean second moment is below a threshold."""
    values, vectors = torch.linalg.eigh(prompt_embeds.T @ prompt_embeds / len(prompt_embeds))
    # (width, k): where retained embeddings have next to nothing
    free: Tensor = vectors[:, values < threshold]
    return free @ free.T


def constrained_change(
    plan: Plan, projector: Tensor, ridge: float, slack: float
) -> Float[Tensor, "width width"]:
    """X such that ``W + W X`` is the edit.

    ``X = (C_r - C_t) [N - N K (K^T N K + slack I)^-1 K^T N]``, with ``N = P (C_t P + ridge I)^-1``.

    ``K`` are the fixed embeddings. Without slack, those of which the projector leaves nothing need no
    constraint: hence the pseudo-inverse.
    """
    # the system of N within the null space, symmetric by construction
    inner = projector @ plan.target @ projector + ridge * torch.eye(len(projector), dtype=torch.float64)
    n = solve_right(inner, projector)  # N, which is symmetric
    moved = n @ plan.fixed
    # one row and column for each of the m fixed embeddings: (m, m)
    small = plan.fixed.T @ moved + slack * torch.eye(plan.fixed.shape[1], dtype=torch.float64)
    change: Tensor = plan.change @ (n - moved @ torch.linalg.pinv(small, hermitian=True) @ moved.T)
    return change


def centres(rows: Float[Tensor, "n width"], k: int) -> Float[Tensor, "k width"]:
    """k-means centres, begun from rows far from each other."""
    found = rows[:1]
    while len(found) < min(k, len(rows)):
        # each new centre is the row farthest from those found: no random choice
        farthest = torch.cdist(rows, found).amin(1).argmax()
        found = torch.cat([found, rows[farthest][None]])
    for _ in range(20):
        nearest = torch.cdist(rows, found).argmin(1)
        means = [rows[nearest == i].mean(0) if (nearest == i).any() else found[i] for i in range(len(found))]
        found = torch.stack(means)
    return found

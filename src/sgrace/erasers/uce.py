"""UCE, Unified Concept Editing (Gandikota et al., arXiv 2308.14761).

A closed-form edit of the cross-attention keys and values.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from .._util.settings import Settings
from ..knowledge import Target
from ..models import DiffusionModel
from ._shared.closed_form import EditTerm, edit_matrices
from ._shared.prompts import (
    PHRASINGS,
    Names,
    all_embeds,
    last_word_embeds,
    names_of,
    own_words,
    retain_prompts,
    tail_embeds,
    tails,
)
from .base import Change, Eraser, Job, Need


class UCEConfig(Settings):
    """Settings; defaults are those of the 2025 release."""

    site: Literal["text_kv", "inlet"] = Field(
        "text_kv",
        description="Edit the keys and values of the cross-attention or, in families that have it, the one "
        "layer through which prompt embeddings enter.",
    )

    replacement: str = Field(
        "", description="Text that the concept should mean; empty for nothing in particular."
    )
    positions: Literal["last", "tail"] = Field(
        "last",
        description="Edit and retain the last content token only, or all positions from there on (release of "
        "2023).",
    )
    erase_weight: float = Field(1.0, gt=0, description="Weight of the erased prompts.")
    retain_weight: float = Field(1.0, ge=0, description="Weight of the retained prompts.")
    ridge: float = Field(0.5, gt=0, description="Pull of the edited matrices towards the original ones.")
    words: Names = Field("name", description="Erase the concept's name only, or its related words too.")
    n_retain: int = Field(0, ge=0, le=100_000, description="Unrelated texts that are retained.")
    retain: Literal["words", "prompts"] = Field(
        "words", description="Retain the first words of the list, or random prompts of the words in contexts."
    )


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-object": {},
    "paper-sd14-nudity": {},
    "paper-sd14-style": {"replacement": "art", "n_retain": 1000},
    "release-2023": {"positions": "tail", "replacement": " ", "retain_weight": 0.1},
    "emoji": {
        "words": "related",
        "erase_weight": 0.5,
        "n_retain": 50,
        "retain": "prompts",
        "positions": "tail",
    },
}


class UCE(Eraser[UCEConfig]):
    """One linear solve for all key and value matrices, or for the inlet.

    ``W' c_concept = W c_replacement`` and ``W' c_retained = W c_retained``. At the inlet, ``c`` is what its
    linear layer reads, and its bias stays. Pooled features do not go through it.

    Several concepts go into one solve. The result does not depend on the seed.

    Cost: two or three calls of the text encoder; no denoiser, no gradients.
    """

    name = "uce"
    paper = "arXiv 2308.14761"
    licence = "MIT"
    needs = frozenset({Need.SHARED_TEXT_KV})
    needs_with: ClassVar[Mapping[str, frozenset[Need]]] = {"site=inlet": frozenset({Need.INLET})}
    changes = "text_kv"
    config_type = UCEConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`."""
        sites = job.model.sites
        matrices = sites.matrices(self.site)
        terms = [
            replace(term, inputs=sites.read(self.site, term.inputs), like=sites.read(self.site, term.like))
            for term in edit_terms(job.model, self.config, job.targets)
        ]
        # one solve for all: every key and value matrix reads the same prompt embeddings
        edited = self.edit(list(matrices.values()), terms)
        tensors = dict(zip(matrices, edited, strict=True))
        return Change(
            {job.model.denoiser_component: tensors}, trained=sum(matrix.numel() for matrix in edited)
        )

    def edit(self, matrices: list[Tensor], terms: list[EditTerm]) -> list[Tensor]:
        """The edited matrices; the first term is the one that erases."""
        return edit_matrices(matrices, terms, self.config.ridge)


class EditTexts(NamedTuple):
    """Texts of the concepts, and those that they should be read like."""

    erased: list[str]
    replacements: list[str]


def edit_texts(config: UCEConfig, targets: Sequence[Target]) -> EditTexts:
    """Names and words of the concepts in several phrasings, and the replacement in the same ones."""
    erased: list[str] = []
    replacements: list[str] = []
    for target in targets:
        names = names_of(target, config.words)
        # both in the same phrasing, so that only the concept differs
        for phrasing in PHRASINGS[target.concept.template_kind]:
            other = phrasing.format(config.replacement) if config.replacement.strip() else config.replacement
            erased += [phrasing.format(name) for name in names]
            replacements += [other] * len(names)
    return EditTexts(erased, replacements)


def edit_terms(model: DiffusionModel, config: UCEConfig, targets: Sequence[Target]) -> list[EditTerm]:
    """The concept's phrasings should be read like the replacement's, unrelated texts like themselves."""
    erased, replacements = edit_texts(config, targets)
    retained = retained_texts(config, targets)
    if config.positions == "last":
        inputs = last_word_embeds(model, erased)
        like = last_word_embeds(model, replacements)
    else:
        # pairs of equal length, joined: (rows, width) each
        inputs, like = tail_embeds(model, erased, replacements)
        # the empty prompt is in every guided image
        retained = ["", *retained]
    terms = [EditTerm(inputs, like, config.erase_weight)]
    if retained and config.retain_weight:
        # inputs and goals are the same embeddings: the term holds the matrices where they are
        same = (
            last_word_embeds(model, retained) if config.positions == "last" else all_embeds(model, retained)
        )
        terms.append(EditTerm(same, same, config.retain_weight))
    return terms


@torch.no_grad()
def whole_prompts(
    model: DiffusionModel, config: UCEConfig, targets: Sequence[Target], rows: Float[Tensor, "rows width"]
) -> Float[Tensor, "texts length width"]:
    """Prompt embeddings of the texts that are erased, with rows in the places of those that are edited."""
    erased, replacements = edit_texts(config, targets)
    whole = model.encode(erased).prompt_embeds.clone()
    at = 0
    for encoder in model.text.rows:
        for own, place in zip(whole, tails(encoder, erased, replacements), strict=True):
            n = 1 if config.positions == "last" else place.own.stop - place.own.start
            own[place.own.start : place.own.start + n] = rows[at : at + n]
            at += n
    return whole


def retained_texts(config: UCEConfig, targets: Sequence[Target]) -> list[str]:
    """The texts that stay as they are, at most ``n_retain``."""
    if config.retain == "prompts" and config.n_retain:
        # a fixed seed: the result depends on the settings alone
        return retain_prompts(targets, config.n_retain, random.Random(0))
    # an unrelated word of one concept may be the name of another
    taken = own_words(targets)
    unrelated = dict.fromkeys(word for target in targets for word in target.words.unrelated)
    return [word for word in unrelated if word not in taken][: config.n_retain]

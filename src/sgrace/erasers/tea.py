"""TEA, Text Encoder Alignment (Farashah et al., arXiv 2608.15341): no position tells concept from anchor."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from .._util.errors import InputError
from .._util.settings import Settings
from ..knowledge import Target
from ..models import Tokens
from ._shared.generated_data import Texts, shuffled_batches
from ._shared.prompts import Names, names_of, own_words
from ._shared.settings import AdamWRate, Count, Encoders, Iterations, WeightDecay
from ._shared.student import TextStudent
from ._shared.trainer import train
from .base import Change, Eraser, Job, Need


class TEAConfig(Settings):
    """Settings; defaults are those of the paper for nudity on SD 1.4."""

    n_prompts: Count = Field(50, description="Concept prompts, over all concepts.")
    n_anchors: int = Field(
        5, ge=1, le=1000, description="Anchor prompts of each concept prompt; fewer where words are few."
    )
    anchors: Literal["replacements", "unrelated"] = Field(
        "replacements",
        description="Anchor prompts have a replacement in the place of the concept, or any unrelated word.",
    )
    words: Names = Field(
        "related", description="Concept prompts contain the name only, or the related words too."
    )
    adversarial_weight: float = Field(
        0.5, ge=0, description="Weight of the loss that fools the discriminator."
    )
    retain_weight: float = Field(1.0, ge=0, description="Weight of the retain loss on the anchor prompts.")
    iterations: Iterations = Field(
        16,
        description="Training steps, each with one of the discriminator before it; 16 are two passes over "
        "the pairs.",
    )
    batch: int = Field(32, ge=1, le=4096, description="Pairs of prompts in a training step.")
    lr: AdamWRate = Field(1e-5, description="Learning rate of AdamW for the text encoder.")
    discriminator_lr: AdamWRate = Field(1e-3, description="Learning rate of AdamW for the discriminator.")
    weight_decay: WeightDecay = Field(0.01, description="Weight decay of both.")
    encoders: Encoders = "clip"


PRESETS: dict[str, dict[str, Any]] = {
    "published": {},
    "published-style": {"n_prompts": 20, "iterations": 8},
    "emoji": {
        "n_prompts": 256,
        "adversarial_weight": 0.1,
        "iterations": 200,
        "batch": 16,
        "lr": 5e-5,
    },
}


class Pair(NamedTuple):
    """Two prompts that differ in the concept only."""

    concept: str
    anchor: str


class TEA(Eraser[TEAConfig]):
    """Train the text encoder until a discriminator ``D`` cannot tell concept prompts from anchor prompts.

    ``D`` reads one text state at a time: a linear layer to half the width, ReLU, and one to a logit. With
    pairs of a concept prompt ``c`` and an anchor prompt ``a``, states ``h`` of the encoder in training and
    ``h*`` of the original, and all means over pairs and positions, each iteration takes a step of ``D`` and
    then one of the encoder::

        discriminator: -mean log sigmoid(D(h(c))) - mean log sigmoid(-D(h(a)))
        encoder: -w_adv mean log sigmoid(-D(h(c))) + w_retain mean (1 - cos(h(a), h*(a)))

    Public facts that are kept: the discriminator, both losses, AdamW with its default decay, both learning
    rates and weights, 50 prompts (20 for a style) with 5 anchors each, batches of 32, two passes.

    Not public, chosen here:
        - Objects have no published pairs. Prompts for every kind are made of the concept's words in its
          contexts, where the authors wrote theirs by hand; the anchor has another word in the same context.
        - Several concepts have equal parts of the pairs and share one discriminator.

    Differs from the release:
        - Prompts have a start and an end token, as in drawing.
        - The discriminator and the retain loss read padding too, since the cross-attention does. The
          discriminator leaves out the start token, which is the same in every prompt.
        - States are read after the final norm, as the denoiser reads them.
        - Token and position embeddings are frozen, and there is no running average of the weights.
        - Several text encoders are trained together, not one after the other. No loss reads the pooled
          feature.

    Cost: the anchors once; then a call of the text encoder for each iteration. No denoiser.
    """

    name = "tea"
    paper = "arXiv 2608.15341"
    licence = "none stated"
    needs = frozenset({Need.GRADIENTS, Need.TEXT_ENCODER})
    changes = "text"
    config_type = TEAConfig
    presets = PRESETS
    default_preset = "published"

    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`.

        Raises:
            InputError: no word can take a concept's place.
        """
        student = TextStudent.of(job.model, self.config.encoders)
        pairs = pairs_of(self.config, job.targets, job.rng)
        if self.config.iterations:
            self._train(job, student, pairs)
        return Change(student.changed(), trained=student.size, details={"pairs": pairs[:20]})

    def _train(self, job: Job, student: TextStudent, pairs: list[Pair]) -> None:
        config = self.config
        main = job.model.text.main
        anchors = [pair.anchor for pair in pairs]
        texts = Texts(job.model, anchors)
        concept_ids = main.tokenize([pair.concept for pair in pairs])
        anchor_ids = main.tokenize(anchors)
        discriminator = discriminator_of(job.model.prompt_embeds_shape[1], job.generator).to(job.model.device)
        decay = config.weight_decay
        teach = torch.optim.AdamW(discriminator.parameters(), lr=config.discriminator_lr, weight_decay=decay)
        optimizer = torch.optim.AdamW(student.parameters, lr=config.lr, weight_decay=decay)
        batches = shuffled_batches(len(pairs), config.batch, job.generator)
        student.requires_grad_(True)

        def loss_at(_step: int) -> Tensor:
            rows = next(batches)
            tokens = Tokens.cat([concept_ids[rows], anchor_ids[rows]])
            concept, anchor = student.model.encode_tokens(tokens).prompt_embeds.chunk(2)
            teach.zero_grad(set_to_none=True)  # the encoder's step leaves gradients too
            torch.autograd.backward(discriminator_loss(discriminator, concept.detach(), anchor.detach()))
            teach.step()
            before = texts([anchors[row] for row in rows.tolist()]).prompt_embeds
            fool = fooling_loss(discriminator, concept)
            return config.adversarial_weight * fool + config.retain_weight * retain_loss(anchor, before)

        train(job, student.parameters, optimizer, config.iterations, loss_at)
        student.requires_grad_(False)


def pairs_of(config: TEAConfig, targets: Sequence[Target], rng: random.Random) -> list[Pair]:
    """At most ``n_prompts`` concept prompts over all concepts, each with at most ``n_anchors`` anchors.

    Raises:
        InputError: no word can take a concept's place.
    """
    share = max(1, config.n_prompts // len(targets))
    taken = own_words(targets)
    pairs = []
    for target in targets:
        words = target.words.replacements if config.anchors == "replacements" else target.words.unrelated
        others = [word for word in words if word not in taken]
        if not others:
            raise InputError(
                f"Nothing can take the place of {target.concept.name!r}: its words name no {config.anchors}."
            )
        names = names_of(target, config.words)
        found = [(context, name) for context in target.words.contexts for name in names]
        for context, name in rng.sample(found, min(len(found), share)):
            chosen = rng.sample(others, min(len(others), config.n_anchors))
            pairs += [Pair(context.format(name), context.format(other)) for other in chosen]
    return pairs


def discriminator_of(width: int, generator: torch.Generator) -> nn.Sequential:
    """The discriminator of text states: two linear layers, drawn uniformly as torch does."""
    first = nn.utils.skip_init(nn.Linear, width, width // 2)
    last = nn.utils.skip_init(nn.Linear, width // 2, 1)
    for layer in (first, last):
        bound = layer.in_features**-0.5
        nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return nn.Sequential(first, nn.ReLU(), last)


def discriminator_loss(
    discriminator: nn.Module,
    concept: Float[Tensor, "n length width"],
    anchor: Float[Tensor, "n length width"],
) -> Tensor:
    """``-mean log sigmoid(D(concept)) - mean log sigmoid(-D(anchor))`` behind the start token."""
    return -F.logsigmoid(discriminator(concept[:, 1:])).mean() + fooling_loss(discriminator, anchor)


def fooling_loss(discriminator: nn.Module, states: Float[Tensor, "n length width"]) -> Tensor:
    """``-mean log sigmoid(-D(states))`` behind the start token: low where they pass for an anchor's."""
    return -F.logsigmoid(-discriminator(states[:, 1:])).mean()


def retain_loss(now: Float[Tensor, "n length width"], before: Float[Tensor, "n length width"]) -> Tensor:
    """Mean over prompts and positions of ``1 - cos`` to what the states were."""
    return (1 - F.cosine_similarity(now, before, dim=-1)).mean()

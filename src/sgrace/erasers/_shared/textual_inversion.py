"""Textual inversion (Gal et al., arXiv 2208.01618): words whose embeddings are learnt from pictures of a concept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from ..._util.errors import InputError
from ...concept import Concept
from ...knowledge import Knowledge
from ...models import StableDiffusion, Tokens
from .generated_data import ENCODE_BATCH, noise_for, picks
from .prompts import names_of


@dataclass(frozen=True)
class Prompt:
    """A prompt that says a word of a concept, taken apart into content tokens.

    Attributes:
        text: the whole prompt.
        concept: place of the concept in the list.
        before, word, after: its tokens.
    """

    text: str
    concept: int
    before: list[int]
    word: list[int]
    after: list[int]

    @property
    def span(self) -> range:
        """Positions of the word's tokens, behind the start token."""
        return range(1 + len(self.before), 1 + len(self.before) + len(self.word))


def picture_prompts(
    model: StableDiffusion,
    concepts: Sequence[Concept],
    knowledge: Sequence[Knowledge],
    words: Literal["name", "related"],
    n: int,
    generator: torch.Generator,
) -> list[Prompt]:
    """The prompts of ``n`` pictures: words of the concepts in their contexts, the concepts in turn.

    Raises:
        InputError: a prompt is so long that the concept in it would be cut.
    """
    each = []
    for place, (concept, own) in enumerate(zip(concepts, knowledge, strict=True)):
        found = [(context, name) for context in own.contexts for name in names_of(concept, own, words)]
        shuffled = [found[i] for i in torch.randperm(len(found), generator=generator).tolist()]
        each.append([taken_apart(model, context, name, place) for context, name in shuffled])
        long = next((p.text for p in each[-1] if p.span.stop >= model.text_length), None)
        if long is not None:
            raise InputError(f"This prompt is longer than the model reads, and the concept comes at its end: {long[:80]!r}.")
    turns = [each[i % len(each)] for i in range(n)]
    return [own[i // len(each) % len(own)] for i, own in enumerate(turns)]


def taken_apart(model: StableDiffusion, pattern: str, name: str, concept: int) -> Prompt:
    """The prompt that says a name in a pattern's ``{}``."""
    before, _, after = pattern.partition("{}")
    return Prompt(before + name + after, concept, model.content_tokens(before), model.content_tokens(name), model.content_tokens(after))


def assemble(model: StableDiffusion, prompts: Sequence[Prompt]) -> Tokens:
    """Token rows of prompts."""
    return model.assemble([prompt.before + prompt.word + prompt.after for prompt in prompts])


class _Sayings:
    """Text states of prompts with learnt embeddings in the places of their words' own."""

    def __init__(self, model: StableDiffusion, prompts: Sequence[Prompt]) -> None:
        self._model, self._ids = model, assemble(model, prompts).ids
        self._spans = torch.tensor([list(prompt.span) for prompt in prompts])
        self._concepts = torch.tensor([prompt.concept for prompt in prompts])
        self._plain = model.embed(self._ids)

    def __call__(self, rows: Int[Tensor, " n"], learnt: Float[Tensor, "concepts k features"]) -> Float[Tensor, "n length features"]:
        places = torch.arange(len(rows))[:, None], self._spans[rows]
        return self._model.encode(self._ids[rows], self._plain[rows].index_put(places, learnt[self._concepts[rows]]))


def inverted(
    model: StableDiffusion,
    prompts: Sequence[Prompt],
    latents: Float[Tensor, "n channels height width"],
    start: Float[Tensor, "concepts k features"],
    *,
    steps: int,
    batch: int,
    lr: float,
    weight_decay: float,
    generator: torch.Generator,
) -> Float[Tensor, "concepts k features"]:
    """Embeddings of each concept's ``k`` tokens, learnt by AdamW on the denoising loss of its pictures; a call of each network a step.

    Args:
        model: draws with the words; none of its weights is given a gradient.
        prompts: one for each picture, each with a word of ``k`` tokens.
        latents: clean latents of the pictures.
        start: where the embeddings start.
        steps: of the optimizer.
        batch: pictures in a step.
        lr: of the optimizer.
        weight_decay: of the optimizer.
        generator: source of noise and choices.
    """
    say, learnt = _Sayings(model, prompts), start.detach().clone().requires_grad_(True)
    optimizer = torch.optim.AdamW([learnt], lr=lr, weight_decay=weight_decay)
    batches = picks(len(prompts), batch, generator)
    for _ in tqdm(range(steps), desc="words", **model.progress_bar_options):
        rows = next(batches)
        noise, timesteps = noise_for(model, latents[rows], generator)
        output = model.predict(model.noised(latents[rows], noise, timesteps), timesteps, say(rows, learnt))
        loss = F.mse_loss(output, model.training_target(latents[rows], noise, timesteps))
        (learnt.grad,) = torch.autograd.grad(loss, learnt)
        optimizer.step()
    return learnt.detach()


@torch.no_grad()
def said(
    model: StableDiffusion, prompts: Sequence[Prompt], learnt: Float[Tensor, "concepts k features"]
) -> Float[Tensor, "n length features"]:
    """Text states of prompts with learnt words."""
    say = _Sayings(model, prompts)
    return torch.cat([say(rows, learnt) for rows in torch.arange(len(prompts)).split(ENCODE_BATCH)])

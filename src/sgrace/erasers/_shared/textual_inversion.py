"""Textual inversion (Gal et al., arXiv 2208.01618): words learned from images of a concept.

What is learned is their embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from ..._util.errors import InputError
from ...knowledge import Target
from ...models import Conditioning, DiffusionModel, PromptSource, TextEncoder, Tokens
from .adversarial_samples import observe
from .embedding_attack import Embeddings
from .generated_data import ENCODE_BATCH, noise_for, shuffled_batches
from .prompts import Names, names_of


@dataclass(frozen=True)
class WordPrompt:
    """A prompt that contains a word of a concept, taken apart into content tokens.

    Attributes:
        text: the whole prompt.
        concept: index of the concept in the list.
        before: tokens before the word.
        word: tokens of the word.
        after: tokens after the word.
        start: position of the first content token.
    """

    text: str
    concept: int
    before: list[int]
    word: list[int]
    after: list[int]
    start: int

    @property
    def span(self) -> range:
        """Positions of the word's tokens."""
        start = self.start + len(self.before)
        return range(start, start + len(self.word))

    def read_by(self, encoder: TextEncoder, main: TextEncoder) -> Self:
        """The prompt in the tokens of another encoder than the main one."""
        if encoder.tokenizer.get_vocab() == main.tokenizer.get_vocab():
            return replace(self, start=encoder.start)
        around = [encoder.content_tokens(main.decode(part)) for part in (self.before, self.after)]
        # as many tokens for the word, any at all: what is learned are their embeddings
        word = [0] * len(self.word)
        return replace(self, before=around[0], word=word, after=around[1], start=encoder.start)


def image_prompts(
    model: DiffusionModel, targets: Sequence[Target], names: Names, n: int, generator: torch.Generator
) -> list[WordPrompt]:
    """The prompts of ``n`` images: words of the concepts in their contexts, the concepts in turn.

    Raises:
        InputError: a prompt is so long that the concept in it would be cut.
    """
    each = []
    for place, target in enumerate(targets):
        found = [(context, name) for context in target.words.contexts for name in names_of(target, names)]
        # each concept has an order of its own, so that few images show different contexts
        order: list[int] = torch.randperm(len(found), generator=generator).tolist()
        each.append([taken_apart(model, *found[i], place) for i in order])
        last = model.text.main.start + model.text.main.room
        long = next((p.text for p in each[-1] if p.span.stop > last), None)
        if long is not None:
            raise InputError(
                "This prompt is longer than the model reads, and the concept comes at its end: "
                f"{long[:80]!r}."
            )
    # concepts take turns, and each goes through its own prompts over and over
    turns = [each[i % len(each)] for i in range(n)]
    return [own[i // len(each) % len(own)] for i, own in enumerate(turns)]


def taken_apart(model: DiffusionModel, pattern: str, name: str, concept: int) -> WordPrompt:
    """The prompt that has a name in a pattern's ``{}``."""
    before, _, after = pattern.partition("{}")
    # each part by itself, so that the word's own tokens are known; its neighbours never merge with it
    main = model.text.main
    left = main.content_tokens(before)
    word = main.content_tokens(name)
    return WordPrompt(before + name + after, concept, left, word, main.content_tokens(after), main.start)


def blank(prompt: WordPrompt) -> WordPrompt:
    """The prompt with one token for the word, any at all: its embedding is learned."""
    return replace(prompt, word=[0])


def assemble(encoder: TextEncoder, prompts: Sequence[WordPrompt]) -> Tokens:
    """Token rows of prompts in an encoder's tokens."""
    return encoder.assemble([prompt.before + prompt.word + prompt.after for prompt in prompts])


class LearnedTokens:
    """Prompts with learned embeddings in the places of their words' own.

    Args:
        model: its main encoder has read the prompts' tokens.
        prompts: the prompts.
        names: of the encoders with learned embeddings; all others read the tokens.

    Attributes:
        source: of the prompts, with the tokens' own embeddings.
    """

    def __init__(self, model: DiffusionModel, prompts: Sequence[WordPrompt], names: Iterable[str]) -> None:
        main = model.text.main
        rows = model.text.follow(assemble(main, prompts))
        self._spans = {}
        for name in names:
            # in each encoder's own tokens, so that the word's positions are known
            own = [prompt.read_by(model.text[name], main) for prompt in prompts]
            rows[name] = assemble(model.text[name], own)
            self._spans[name] = torch.tensor([list(prompt.span) for prompt in own])
        self._concepts = torch.tensor([prompt.concept for prompt in prompts])
        self._model = model
        # (prompts, length, width), without positions: the encoders add these themselves
        self.source = model.text.embedded(rows, [model.text[name] for name in self._spans])

    def with_words(self, rows: Int[Tensor, " n"], words: Embeddings) -> PromptSource:
        """Some of the prompts, each with a word of its own ``(n, k, width)`` by encoder."""
        source = self.source[rows]
        placed = {}
        for name, plain in source.embeddings.items():
            # indices (n, 1) and (n, k) meet as (n, k): all tokens of each prompt's word
            places = (torch.arange(len(rows))[:, None], self._spans[name][rows])
            # out of place, so that the gradient reaches `words`: (n, length, width)
            placed[name] = plain.index_put(places, words[name])
        return replace(source, embeddings=placed)

    def read(self, rows: Int[Tensor, " n"], learned: Embeddings) -> PromptSource:
        """Some of the prompts, with the words of their concepts ``(concepts, k, width)`` by encoder."""
        own = self._concepts[rows]
        return self.with_words(rows, {name: words[own] for name, words in learned.items()})

    def encode(self, rows: Int[Tensor, " n"], learned: Embeddings) -> Conditioning:
        """Conditioning of some of the prompts, with the words of their concepts."""
        return self._model.encode_source(self.read(rows, learned))


def learn_words(
    model: DiffusionModel,
    prompts: Sequence[WordPrompt],
    latents: Float[Tensor, "n ..."],
    start: Embeddings,
    *,
    steps: int,
    batch: int,
    lr: float,
    weight_decay: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Embeddings of each concept's ``k`` tokens, learned by AdamW on the denoising loss of its images.

    A step is one call of each network.

    Args:
        model: the denoiser and the text encoders; none of their weights is given a gradient.
        prompts: one for each image, each with a word of ``k`` tokens.
        latents: clean latents of the images.
        start: where the embeddings start, ``(concepts, k, width)`` by text encoder.
        steps: of the optimizer.
        batch: images in a step.
        lr: of the optimizer.
        weight_decay: of the optimizer.
        generator: source of noise and choices.
    """
    tokens = LearnedTokens(model, prompts, start)
    # the words are the only leaves: no network is given a gradient
    learned = {name: words.detach().clone().requires_grad_(True) for name, words in start.items()}
    leaves = list(learned.values())
    optimizer = torch.optim.AdamW(leaves, lr=lr, weight_decay=weight_decay)
    batches = shuffled_batches(len(prompts), batch, generator)
    schedule = model.schedule
    for _ in tqdm(range(steps), desc="words", **model.progress_bar_options):
        rows = next(batches)
        noise, timesteps = noise_for(model, latents[rows], generator)
        noisy = schedule.add_noise(latents[rows], noise, timesteps)
        output = model.predict(noisy, timesteps, tokens.encode(rows, learned))
        loss = F.mse_loss(output, schedule.target(latents[rows], noise, timesteps))
        # instead of backward(), which would fill the gradients of a student's weights
        for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
            leaf.grad = gradient
        optimizer.step()
    for embeddings in tokens.read(torch.arange(len(prompts)), learned).embeddings.values():
        observe("input_embeds", embeddings)
    return {name: words.detach() for name, words in learned.items()}


@torch.no_grad()
def encode_learned(model: DiffusionModel, prompts: Sequence[WordPrompt], learned: Embeddings) -> Conditioning:
    """Conditioning of prompts with learned words ``(concepts, k, width)``, by text encoder."""
    tokens = LearnedTokens(model, prompts, learned)
    parts = [tokens.encode(rows, learned) for rows in torch.split(torch.arange(len(prompts)), ENCODE_BATCH)]
    return Conditioning.cat(parts)

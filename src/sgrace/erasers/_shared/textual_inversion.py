"""Textual inversion (Gal et al., arXiv 2208.01618): words learned from images of a concept.

What is learned is their embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from ..._util.errors import InputError
from ...knowledge import Target
from ...models import Conditioning, DiffusionModel, Tokens
from .adversarial_samples import observe
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


def assemble(model: DiffusionModel, prompts: Sequence[WordPrompt]) -> Tokens:
    """Token rows of prompts."""
    return model.text.main.assemble([prompt.before + prompt.word + prompt.after for prompt in prompts])


class LearnedTokens:
    """Prompts with learned embeddings in the places of their words' own.

    Attributes:
        tokens: of the prompts.
    """

    def __init__(self, model: DiffusionModel, prompts: Sequence[WordPrompt]) -> None:
        self._model = model
        self.tokens = assemble(model, prompts)
        self._spans = torch.tensor([list(prompt.span) for prompt in prompts])
        self._concepts = torch.tensor([prompt.concept for prompt in prompts])
        # (prompts, length, width), without positions: the encoder adds these itself
        self._plain = model.text.main.embed(self.tokens.ids)

    def embeddings(
        self, rows: Int[Tensor, " n"], words: Float[Tensor, "n k width"]
    ) -> Float[Tensor, "n length width"]:
        """Input embeddings of some of the prompts, each with a word of its own."""
        # indices (n, 1) and (n, k) meet as (n, k): all tokens of each prompt's word
        places = (torch.arange(len(rows))[:, None], self._spans[rows])
        # out of place, so that the gradient reaches `words`: (n, length, width)
        return self._plain[rows].index_put(places, words)

    def embed(
        self, rows: Int[Tensor, " n"], learned: Float[Tensor, "concepts k width"]
    ) -> Float[Tensor, "n length width"]:
        """Input embeddings of some of the prompts, with the words of their concepts."""
        return self.embeddings(rows, learned[self._concepts[rows]])

    def encode(self, rows: Int[Tensor, " n"], learned: Float[Tensor, "concepts k width"]) -> Conditioning:
        """Conditioning of some of the prompts, with the words of their concepts."""
        return self._model.encode_tokens(self.tokens[rows], self.embed(rows, learned))


def learn_words(
    model: DiffusionModel,
    prompts: Sequence[WordPrompt],
    latents: Float[Tensor, "n ..."],
    start: Float[Tensor, "concepts k width"],
    *,
    steps: int,
    batch: int,
    lr: float,
    weight_decay: float,
    generator: torch.Generator,
) -> Float[Tensor, "concepts k width"]:
    """Embeddings of each concept's ``k`` tokens, learned by AdamW on the denoising loss of its images.

    A step is one call of each network.

    Args:
        model: the denoiser and the text encoder; none of their weights is given a gradient.
        prompts: one for each image, each with a word of ``k`` tokens.
        latents: clean latents of the images.
        start: where the embeddings start.
        steps: of the optimizer.
        batch: images in a step.
        lr: of the optimizer.
        weight_decay: of the optimizer.
        generator: source of noise and choices.
    """
    tokens = LearnedTokens(model, prompts)
    # the words are the only leaf: no network is given a gradient
    learned = start.detach().clone().requires_grad_(True)
    optimizer = torch.optim.AdamW([learned], lr=lr, weight_decay=weight_decay)
    batches = shuffled_batches(len(prompts), batch, generator)
    schedule = model.schedule
    for _ in tqdm(range(steps), desc="words", **model.progress_bar_options):
        rows = next(batches)
        noise, timesteps = noise_for(model, latents[rows], generator)
        noisy = schedule.add_noise(latents[rows], noise, timesteps)
        output = model.predict(noisy, timesteps, tokens.encode(rows, learned))
        loss = F.mse_loss(output, schedule.target(latents[rows], noise, timesteps))
        # instead of backward(), which would fill the gradients of a student's weights
        (learned.grad,) = torch.autograd.grad(loss, learned)
        optimizer.step()
    observe("input_embeds", tokens.embed(torch.arange(len(prompts)), learned))
    return learned.detach()


@torch.no_grad()
def encode_learned(
    model: DiffusionModel, prompts: Sequence[WordPrompt], learned: Float[Tensor, "concepts k width"]
) -> Conditioning:
    """Conditioning of prompts with learned words."""
    tokens = LearnedTokens(model, prompts)
    parts = [tokens.encode(rows, learned) for rows in torch.split(torch.arange(len(prompts)), ENCODE_BATCH)]
    return Conditioning.cat(parts)

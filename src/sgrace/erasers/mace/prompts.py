"""Prompts of MACE: each beside the same with the replacement, and what stands around the concept in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from ...knowledge import Target
from ...models import DiffusionModel
from .._shared.generated_data import Texts
from .._shared.prompts import Pairs, names_of, own_words, replacement_of
from .config import MACEConfig


@dataclass(frozen=True)
class Phrase:
    """A prompt with the concept in the positions ``start .. stop``.

    ``replaced`` has the replacement in ``start .. replaced_stop``.
    """

    text: str
    start: int
    stop: int
    replaced: str
    replaced_stop: int


def concept_tokens(phrases: Sequence[Phrase], length: int) -> Bool[Tensor, "n length"]:
    """Which tokens are the concept's."""
    places = torch.arange(length)
    # one row a phrase: (n, length)
    return torch.stack([(places >= phrase.start) & (places < phrase.stop) for phrase in phrases])


def phrases_of(
    model: DiffusionModel, config: MACEConfig, target: Target, generator: torch.Generator
) -> list[Phrase]:
    """At most ``n_prompts`` prompts of a concept, each beside the one with the replacement.

    The plain name comes first.

    Raises:
        InputError: there is no replacement.
    """
    main = model.text.main
    replacement = replacement_of(target, config.replacement)
    # every context with every name, of which a random part is used
    texts = [(pattern, name) for pattern in target.words.contexts for name in names_of(target, config.words)]
    order: list[int] = torch.randperm(len(texts), generator=generator).tolist()
    chosen = list(dict.fromkeys([("{}", target.concept.name), *(texts[i] for i in order)]))[
        : config.n_prompts
    ]
    last = main.length - 1  # the end token's position, at the latest
    found = []
    for pattern, name in chosen:
        # behind the start token and the words before the concept
        start = 1 + len(main.content_tokens(pattern.partition("{}")[0].strip()))
        stop = min(start + len(main.content_tokens(name)), last)
        replaced_stop = min(start + len(main.content_tokens(replacement)), last)
        found.append(Phrase(pattern.format(name), start, stop, pattern.format(replacement), replaced_stop))
    return found


def other_embeds(texts: Texts, phrases: Sequence[Phrase]) -> Pairs:
    """Embeddings of all tokens but the concept's, and those in their place beside the replacement.

    Both are cut to equal length.
    """
    own: list[Tensor] = []
    replaced: list[Tensor] = []
    before = texts(phrase.text for phrase in phrases).prompt_embeds
    after = texts(phrase.replaced for phrase in phrases).prompt_embeds
    for phrase, a, b in zip(phrases, before, after, strict=True):
        # the longer of the two names leaves fewer positions behind it
        n = len(a) - max(phrase.stop, phrase.replaced_stop)
        # (length, width) without the concept's positions: what comes before them, and what comes after
        own += [a[: phrase.start], a[phrase.stop : phrase.stop + n]]
        replaced += [b[: phrase.start], b[phrase.replaced_stop : phrase.replaced_stop + n]]
    # all prompts below each other: (rows, width) each
    return Pairs(torch.cat(own), torch.cat(replaced))


def retained_prompts(targets: Sequence[Target], n: int, generator: torch.Generator) -> list[str]:
    """At most ``n`` prompts of unrelated words that are no word of any of the concepts."""
    taken = own_words(targets)
    prompts: list[str] = []
    for target in targets:
        left = [word for word in target.words.unrelated if word not in taken]
        prompts += [context.format(word) for word in left for context in target.words.unrelated_contexts]
    return [prompts[i] for i in torch.randperm(len(prompts), generator=generator)[:n].tolist()]

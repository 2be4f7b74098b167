"""Prompts that must keep their meaning: of listed words, of words of the vocabulary, of the replacement."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..._util.device import batches
from ...models import DiffusionModel, PromptSource
from .._shared.generated_data import ENCODE_BATCH, encoded
from ..base import Job
from .config import SGraceConfig
from .subject import Ranked, Subject

#: Contexts in which the replacement itself is a retain prompt.
REPLACEMENT_CONTEXTS = 32
#: Phrasings of the published code, "a image" among them.
PLAIN_PHRASINGS = ("a photo of {}", "a picture of {}", "a image of {}")


def retain_prompts(config: SGraceConfig, job: Job, subjects: Sequence[Subject]) -> list[str]:
    """Unrelated prompts, those of the replacements, and the empty one.

    Where distinct words are drawn: every unrelated word in each of the plain phrasings, word by word.
    """
    if config.retain_draw == "distinct_words":
        every = dict.fromkeys(word for subject in subjects for word in subject.words.unrelated)
        return [phrasing.format(word) for word in every for phrasing in PLAIN_PHRASINGS]
    prompts: list[str] = []
    for subject in subjects:
        words = subject.words
        # an equal share for every concept
        n = config.retain_pool // len(subjects)
        n_random = round(n * config.random_share)
        n_near = round((n - n_random) * config.near_share)
        near = nearest(job.model, subject.concept.name, words.unrelated) if n_near else []
        anywhere = vocabulary_words(job.model, subjects, subject, n_random, job.generator) if n_random else []
        n_listed = n - n_near - len(anywhere)
        prompts += prompts_of(near, words.unrelated_contexts, n_near, job.rng)
        prompts += prompts_of(words.unrelated, words.unrelated_contexts, n_listed, job.rng)
        # a word comes once, in one context: there are more words than contexts
        prompts += [job.rng.choice(words.unrelated_contexts).format(word) for word in anywhere]
    if config.erase_target == "replacement":
        for subject in subjects:
            contexts = subject.words.contexts[:REPLACEMENT_CONTEXTS]
            prompts += [context.format(subject.replacement.word) for context in contexts]
    return [*prompts, ""]  # guidance uses the empty prompt in every image


def prompts_of(words: Sequence[str], contexts: Sequence[str], n: int, rng: random.Random) -> list[str]:
    """At most ``n`` of the words in the contexts."""
    found = [(context, word) for context in contexts for word in words]
    return [context.format(word) for context, word in rng.sample(found, min(len(found), n))]


def nearest(model: DiffusionModel, name: str, words: Sequence[str]) -> list[str]:
    """The quarter of the words that is nearest to the concept: erasing it puts them most at risk."""
    return [word for word, _ in ranked(model, name, list(words))[: math.ceil(len(words) / 4)]]


def ranked(model: DiffusionModel, name: str, words: list[str]) -> list[Ranked]:
    """Words with the cosine of their text feature to that of the name, nearest first."""
    # (1 + words, features), the name first
    pooled = model.text_features(encoded(model, [name, *words]))
    cosines = F.cosine_similarity(pooled[1:], pooled[:1]).tolist()
    found = [Ranked(word, round(cosine, 4)) for word, cosine in zip(words, cosines, strict=True)]
    return sorted(found, key=lambda word: -word.cosine)


@torch.no_grad()
def vocabulary_words(
    model: DiffusionModel,
    subjects: Sequence[Subject],
    subject: Subject,
    n: int,
    generator: torch.Generator,
) -> list[str]:
    """``n`` words of one random token each that are not too near to a concept; fewer if there are no more.

    A word's nearness is the highest cosine of its text feature to a word of any concept. Words that are
    nearer than three quarters of the subject's unrelated words are left out: they may be a concept's names.
    """
    main = model.text.main
    own = unit_features(model, [name for each in subjects for name in each.names])
    # (words, features) x (features, own) -> the highest of each word
    ceiling = (unit_features(model, subject.words.unrelated) @ own.T).amax(1).quantile(0.75)
    tokens = main.shuffled_tokens(generator).tolist()
    words = [word for word in dict.fromkeys(main.decode([token]).strip() for token in tokens) if word]
    found: list[str] = []
    for start in range(0, len(words), n):
        looked_at = words[start : start + n]
        near = (unit_features(model, looked_at) @ own.T).amax(1)
        found += itertools.compress(looked_at, (near <= ceiling).tolist())
        if len(found) >= n:
            break
    return found[:n]


def unit_features(model: DiffusionModel, words: Sequence[str]) -> Float[Tensor, "words features"]:
    """Text features of words, of length 1."""
    source = PromptSource(model.text.tokenize(words))
    if model.text.ignores_padding:
        source = source.until_end()  # most of a row is padding
    pieces = [source[rows] for rows in batches(len(words), ENCODE_BATCH)]
    features = torch.cat([model.text_features(model.encode_source(piece)) for piece in pieces])
    return F.normalize(features, dim=-1)

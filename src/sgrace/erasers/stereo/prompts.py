"""Prompts of STEREO: contexts of the concepts, their words in them, and anchors."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import cycle

from ...knowledge import Target
from .._shared.prompts import ADDED, Names, names_of, replacement_of, retain_prompts
from .config import STEREOConfig


def contexts_of(target: Target, n: int, rng: random.Random) -> list[str]:
    """``n`` contexts of a concept, repeated where there are fewer; for 0, the pattern of its own prompt."""
    concept = target.concept
    contexts = target.words.contexts
    # for n = 0 the sample is empty, and the concept's own prompt stands in
    found = rng.sample(contexts, min(len(contexts), n)) or [concept.prompt.removesuffix(concept.name) + "{}"]
    # every concept has as many: `WordBank` finds a prompt by arithmetic
    return [found[i % len(found)] for i in range(max(n, 1))]


def prompts_of_words(target: Target, patterns: Sequence[str], which: Names) -> list[str]:
    """The prompt of each context: the concept's words in turn, its name first."""
    # contexts end the pairing: the names begin again where they are fewer
    return [
        pattern.format(name) for pattern, name in zip(patterns, cycle(names_of(target, which)), strict=False)
    ]


def anchor_prompts(
    config: STEREOConfig, targets: Sequence[Target], patterns: Sequence[Sequence[str]], rng: random.Random
) -> list[list[str]]:
    """The anchors of each concept, repeated where there are too few.

    Args:
        config: settings.
        targets: the concepts.
        patterns: contexts of each of them.
        rng: source of the choices.

    Raises:
        InputError: a concept has no replacement, or no unrelated word.
    """
    prompts = []
    for target, own in zip(targets, patterns, strict=True):
        if config.anchors == "replacement":
            prompts.append([pattern.format(replacement_of(target, "")) for pattern in own])
            continue
        found = retain_prompts(targets, config.n_anchors, rng)
        if config.anchors == "scenes":
            added = ADDED[target.concept.template_kind]
            found = [added.format(prompt=prompt, name=target.concept.name) for prompt in found]
        # as many of each concept, so that an anchor is found by arithmetic
        prompts.append([found[i % len(found)] for i in range(config.n_anchors)])
    return prompts

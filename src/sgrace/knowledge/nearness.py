"""How near words are to a concept, as text encoders see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

#: A name and words -> the cosine of each word's text feature to the name's.
Nearness = Callable[[str, Sequence[str]], Sequence[float]]
#: Related words of which the nearness says where the concept ends.
LEAST = 4


def nearest_first(name: str, words: Sequence[str], scales: Sequence[Nearness]) -> tuple[str, ...]:
    """Words by the mean of their ranks on every scale; in the given order where there is none."""
    ranks = dict.fromkeys(words, 0)
    for scale in scales:
        cosines = dict(zip(words, scale(name, words), strict=True))
        for rank, word in enumerate(sorted(cosines, key=lambda one: -cosines[one])):
            ranks[word] += rank
    return tuple(sorted(ranks, key=lambda word: ranks[word]))


def too_near(name: str, related: Sequence[str], words: Sequence[str], scale: Nearness) -> set[str]:
    """Words that are nearer to the concept than any of its own related words is."""
    if len(related) < LEAST or not words:
        return set()
    cosines = scale(name, [*related, *words])
    limit = max(cosines[: len(related)])
    return {word for word, cosine in zip(words, cosines[len(related) :], strict=True) if cosine > limit}

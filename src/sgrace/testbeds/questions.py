"""What a model should still draw, and what it should not: prompts with a judge that counts the images."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from .._util.images import from_bytes, to_bytes
from ..metrics import Share
from ..models import DiffusionModel

#: Questions whose images a safe model no longer shows.
ERASED = ("target", "synonyms")
CROSS_DOMAIN = "cross domain"


class Question(Protocol):
    """Prompts, and which of their images count."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """One for each image."""

    def hits(self, verdict: Any) -> Tensor:  # noqa: ANN401  (what the judge returns)
        """Whether each image shows what its prompt asks for ``(n,)``, by the judge's verdict on it."""


@dataclass(frozen=True)
class Questions:
    """The retention questions of a concept.

    Attributes:
        judge: images ``(n, 3, height, width)`` in -1..1 -> a verdict that the questions can read.
        asked: questions by name; ``target`` (the concept by name) and ``synonyms`` (held-out words of it)
            should no longer be shown, all others should.
        in_domain: names of the questions about the concept's own domain (IRA of UnlearnCanvas).
        cross_domain: question about the other domains (CRA of UnlearnCanvas).
        compared: name of the question whose images before and after erasing are compared (FID and others).
    """

    judge: Callable[[Tensor], Any]
    asked: Mapping[str, Question]
    in_domain: tuple[str, ...] = ()
    cross_domain: Question | None = None
    compared: str = "unrelated"


class Measured(NamedTuple):
    """What a model drew for the questions.

    Attributes:
        shares: of images that count, by question.
        images: in -1..1, by question; questions with equal prompts share them.
        cross_domain: share of :attr:`Questions.cross_domain`.
    """

    shares: dict[str, Share]
    images: dict[str, Tensor]
    cross_domain: Share | None


def draw(
    model: DiffusionModel,
    questions: Questions,
    *,
    num_inference_steps: int,
    guidance_scale: float,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Images of all questions in 0..255 as a file holds them, by question.

    Of questions with equal prompts only the first has images.
    """
    names: dict[tuple[str, ...], str] = {}
    for name, question in _every(questions).items():
        names.setdefault(question.prompts, name)
    # one call for all of them: batches are full, also where each question has few prompts
    images = to_bytes(
        model.generate(
            [prompt for prompts in names for prompt in prompts],
            [one for prompts in names for one in seeds_of(prompts, seed)],
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
        )
    )
    parts = images.split([len(prompts) for prompts in names])
    # each its own memory, as files of tensors want it
    return {name: part.clone() for name, part in zip(names.values(), parts, strict=True)}


def judged(questions: Questions, drawn: Mapping[str, Tensor]) -> Measured:
    """Hits of the images of :func:`draw`; images of equal prompts are judged once."""
    every = _every(questions)
    images = {every[name].prompts: from_bytes(found) for name, found in drawn.items()}
    verdicts = {prompts: questions.judge(found) for prompts, found in images.items()}
    shares = {
        name: Share(int(question.hits(verdicts[question.prompts]).sum()), len(question.prompts))
        for name, question in every.items()
    }
    cross_domain = shares.pop(CROSS_DOMAIN, None)
    by_name = {name: images[question.prompts] for name, question in questions.asked.items()}
    return Measured(shares, by_name, cross_domain)


def measure(
    model: DiffusionModel,
    questions: Questions,
    *,
    num_inference_steps: int,
    guidance_scale: float,
    seed: int = 0,
) -> Measured:
    """Images of the prompts of all questions, and their hits."""
    drawn = draw(
        model, questions, num_inference_steps=num_inference_steps, guidance_scale=guidance_scale, seed=seed
    )
    return judged(questions, drawn)


def _every(questions: Questions) -> dict[str, Question]:
    other = {} if questions.cross_domain is None else {CROSS_DOMAIN: questions.cross_domain}
    return {**questions.asked, **other}


def seeds_of(prompts: Sequence[str], seed: int) -> list[int]:
    """One seed for each image, from the prompt and its position among equal prompts, never from the batch."""
    count: dict[str, int] = {}
    seeds = []
    for prompt in prompts:
        count[prompt] = count.get(prompt, 0) + 1
        seeds.append(zlib.crc32(f"{seed}/{prompt}/{count[prompt]}".encode()))
    return seeds

"""The images of a report: of each attack those it kept, of each question those before and after erasing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .._util.images import data_url, from_bytes
from .._util.tensors import read_tensors
from ..attacks import AttackSet
from ..attacks.attack_set import Attempt, Manifest, folder_of
from ..evaluation.drift import PROMPTS
from ..evaluation.evaluate import ORIGINALS, QUESTION_IMAGES, UNRELATED_IMAGES
from ..evaluation.retention import AFTER, BEFORE
from ..evaluation.schema import Evaluation

N_PROMPTS = 12  # two lines of six
N_PAIRS = 6  # of each question
#: Beside a harmful concept its neighbours may be harmful too; these are not.
HARMLESS_QUESTIONS = ("unrelated", "withheld unrelated")


@dataclass(frozen=True)
class Picture:
    """One image. ``seen`` is the detector's verdict; None if it was not run."""

    src: str
    alt: str
    caption: str
    veiled: bool
    seen: bool | None = None
    state: str = ""


@dataclass(frozen=True)
class Asked:
    """One prompt of the table, by its number on the page."""

    number: int
    prompt: str
    seed: int


@dataclass(frozen=True)
class Strip:
    """The images that one attack kept, in the order of the prompts, with how its set came about."""

    pictures: tuple[Picture, ...]
    attempts: tuple[Attempt, ...]
    record: Manifest


@dataclass(frozen=True)
class Gallery:
    """Images of the prompts shown, out of ``n``; the strips of the attacks by name."""

    asked: tuple[Asked, ...]
    n: int
    originals: tuple[Picture, ...]
    strips: dict[str, Strip]

    @property
    def veiled(self) -> bool:
        """Whether any image is blurred."""
        every = [*self.originals, *(p for strip in self.strips.values() for p in strip.pictures)]
        return any(picture.veiled for picture in every)


@dataclass(frozen=True)
class Pair:
    """What both models draw for one prompt and noise."""

    before: Picture | None
    after: Picture
    prompt: str


def gallery(folder: Path, found: Evaluation, *, first: Sequence[int] | None = None) -> Gallery:
    """Images of at most ``N_PROMPTS`` prompts; those on which the detector saw the concept come first.

    Sets are loaded one after the other: all images of all attacks may not fit into memory.

    Args:
        folder: of the evaluation.
        found: what it holds.
        first: indices of the prompts to show, in their order, in the place of those.
    """
    harmless = not found.concept.blurred
    shown = seen(folder, found)
    order = (
        sorted(range(len(shown)), key=lambda i: not shown[i])[:N_PROMPTS] if first is None else list(first)
    )
    asked: list[Asked] = []
    strips: dict[str, Strip] = {}
    for name, attack_set in _sets(folder, found):
        attempts = tuple(attack_set.attempts[i] for i in order)
        asked = asked or [Asked(n, one.prompt, one.seed) for n, one in enumerate(attempts, 1)]
        pictures = [
            _kept(attack_set, i, one, name, harmless=harmless) for i, one in zip(order, asked, strict=True)
        ]
        strips[name] = Strip(tuple(pictures), attempts, attack_set.record)
    originals = tuple(_originals(folder / ORIGINALS, order, asked, veiled=not harmless))
    return Gallery(tuple(asked), len(shown), originals, strips)


def seen(folder: Path, found: Evaluation) -> list[bool]:
    """Whether any attack, or the prompt as it is, showed the concept, by prompt."""
    known: list[bool] = []
    for _, attack_set in _sets(folder, found):
        here = [one.pre or one.success for one in attack_set.attempts]
        known = [a or b for a, b in zip(known or [False] * len(here), here, strict=True)]
    return known


def pairs(folder: Path, found: Evaluation) -> dict[str, tuple[Pair, ...]]:
    """By question, the first images before and after erasing; empty where none are stored."""
    stored = folder / UNRELATED_IMAGES
    if (folder / QUESTION_IMAGES / AFTER).exists():
        after, metadata = read_tensors(folder / QUESTION_IMAGES / AFTER)
        before = folder / QUESTION_IMAGES / BEFORE
        earlier = read_tensors(before)[0] if before.exists() else {}
    elif stored.exists():
        both, metadata = read_tensors(stored)
        earlier = {"unrelated": both["before"]}
        after = {"unrelated": both["after"]}
    else:
        return {}
    prompts: dict[str, list[str]] = json.loads(metadata.get(PROMPTS, "{}"))
    return {
        question: tuple(_pairs(question, images, earlier.get(question), prompts.get(question), found))
        for question, images in after.items()
    }


def _pairs(
    question: str, after: Tensor, before: Tensor | None, prompts: Sequence[str] | None, found: Evaluation
) -> Iterator[Pair]:
    veiled = found.concept.blurred and question not in HARMLESS_QUESTIONS
    for i, image in enumerate(from_bytes(after[:N_PAIRS])):
        prompt = prompts[i] if prompts else ""
        what = prompt or f"{question}, image {i + 1}"
        old = None
        if before is not None:
            old = Picture(data_url(from_bytes(before[i])), f"before erasing: {what}", "before", veiled)
        yield Pair(old, Picture(data_url(image), f"after erasing: {what}", "after", veiled), prompt)


def _sets(folder: Path, found: Evaluation) -> Iterator[tuple[str, AttackSet]]:
    for row in found.attacks:
        yield row.attack, AttackSet.from_pretrained(folder_of(folder / "attacks", row.attack))


def _originals(
    file: Path, order: Sequence[int], asked: Sequence[Asked], *, veiled: bool
) -> Iterator[Picture]:
    """The original model's images, where there are any; the detector has not seen them."""
    if not file.exists():
        return
    (images,) = read_tensors(file)[0].values()
    for i, one in zip(order, asked, strict=True):
        yield Picture(
            data_url(from_bytes(images[i])), f"before erasing: {one.prompt}", str(one.number), veiled
        )


def _kept(attack_set: AttackSet, i: int, asked: Asked, attack: str, *, harmless: bool) -> Picture:
    """The candidate's image, or the plain prompt's where no candidate was tried."""
    attempt = attack_set.attempts[i]
    is_seen = attempt.success if attempt.checks else attempt.pre
    state = "shows it" if is_seen else "not seen"
    if not attempt.checks and attack != "none":
        state = "without attack" if is_seen else "not attacked"
    return Picture(
        src=data_url(attack_set.images[i]),
        alt=f"{attack}: {asked.prompt}",
        caption=str(asked.number),
        veiled=is_seen and not harmless,
        seen=is_seen,
        state=state,
    )

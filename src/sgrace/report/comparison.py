"""One page of several evaluations, side by side for the same prompts and seeds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from markupsafe import Markup

from .._util.errors import InputError
from .._util.folders import REQUEST
from .._util.text import read_json, shown
from ..evaluation.evaluate import EVALUATION
from ..evaluation.schema import AttackRow, Evaluation, Rate
from .gallery import Gallery, Pair, gallery, pairs, seen
from .pages import write_page
from .sentence import Summary, summary
from .words import should_stay, typed_rate

N_PROMPTS = 6  # one line of images for each evaluation

#: What decides an evaluation's figures beside its target, by its name in the request, in words.
DECIDES = {
    "concept": "concept",
    "base": "model before erasing",
    "suite": "suite",
    "prompt_set": "prompt set",
    "attacks": "attacks",
    "prompts": "prompts or their seeds",
    "seed": "seed",
    "detector": "detector",
    "words": "words",
    "protocol": "protocol",
    "num_inference_steps": "sampling steps",
    "guidance_scale": "guidance scale",
    "device": "kind of device",
}
TONES = ("good", "doubt", "bad")


@dataclass(frozen=True)
class Compared:
    """One evaluation of the page."""

    name: str
    folder: Path
    found: Evaluation
    summary: Summary
    gallery: Gallery
    pairs: Mapping[str, tuple[Pair, ...]]

    @property
    def label(self) -> Markup:
        """The name, which a narrow column may break behind its underscores and slashes."""
        parts = re.split(r"(?<=[_/])", self.name)
        return Markup("<wbr>").join(parts)

    @property
    def head(self) -> str:
        """The same as plain text, with spaces of no width there."""
        return re.sub(r"(?<=[_/])", "\u200b", self.name)

    @property
    def order(self) -> int:
        """By the verdict, the safest first."""
        return TONES.index(self.summary.tone)

    @property
    def typed(self) -> Rate | None:
        """Prompts that a typed prompt brings the concept back on."""
        return typed_rate(self.found)

    def attack(self, name: str) -> AttackRow:
        """The row of one attack."""
        return next(row for row in self.found.attacks if row.attack == name)

    def after(self, question: str) -> Rate | None:
        """The share after erasing for a question, if it was asked."""
        return next((row.after for row in self.found.retention if row.question == question), None)

    @property
    def seconds(self) -> float | None:
        """Of erasing, if known."""
        value: float | None = self.found.cost.get("seconds")
        return value


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Write one page that shows several evaluations side by side, with tables that can be sorted.

    They must have been made in the same way: figures of other prompts, seeds, detectors or suites side by
    side would say more of these than of the erasures.

    Args:
        folders: of evaluations, at least two.
        out: the page; one that this function wrote is replaced.

    Raises:
        InputError: a folder holds no evaluation, two of them cannot be compared, or ``out`` is another file.
    """
    places = list({folder.resolve(): folder for folder in folders}.values())
    if len(places) < 2:
        raise InputError("A comparison needs at least two evaluations; name their folders.")
    refuse_another_page(out)
    evaluations = [evaluation_in(folder) for folder in places]
    requests = [_request(folder, found) for folder, found in zip(places, evaluations, strict=True)]
    for folder, request in zip(places[1:], requests[1:], strict=True):
        _refuse_what_differs(places[0], folder, requests[0], request)
    shown_in = [seen(folder, found) for folder, found in zip(places, evaluations, strict=True)]
    times = [sum(prompt) for prompt in zip(*shown_in, strict=True)]
    order = sorted(range(len(times)), key=lambda i: -times[i])[:N_PROMPTS]
    compared = [
        Compared(
            name, folder, found, summary(found), gallery(folder, found, first=order), pairs(folder, found)
        )
        for name, folder, found in zip(_names(places), places, evaluations, strict=True)
    ]
    first = compared[0]
    return write_page(
        out,
        "comparison.html",
        compared=compared,
        first=first,
        attacks=[row.attack for row in first.found.attacks],
        kept=[row.question for row in should_stay(first.found)],
        questions=[row.question for row in first.found.retention],
        n=len(times),
    )


def evaluation_in(folder: Path) -> Evaluation:
    """The evaluation of a folder.

    Raises:
        InputError: there is none; the error says what else the folder is.
    """
    try:
        found = [name for name in (EVALUATION, "recipe.json") if (folder / name).is_file()]
    except OSError as error:  # a name that is too long, or no permission
        raise InputError(f"Cannot read {shown(folder)}: {error.strerror}.") from error
    if found == ["recipe.json"]:
        raise InputError(
            f"{shown(folder)} is an erasure that was not evaluated; "
            f"run `sgrace evaluate {shown(folder)} -o FOLDER` and name that folder."
        )
    if not found:
        raise InputError(f"{shown(folder)} holds no evaluation; name a folder that `sgrace evaluate` wrote.")
    return Evaluation.from_file(folder / EVALUATION)


def refuse_another_page(out: Path) -> None:
    """Keep a file that is no page of this program.

    Raises:
        InputError: ``out`` is such a file, or a folder.
    """
    try:
        is_folder = out.is_dir()
        start = out.read_bytes()[:500] if out.is_file() else None
    except OSError as error:
        raise InputError(f"Cannot read {shown(out)}: {error.strerror}.") from error
    if is_folder:
        raise InputError(
            f"{shown(out)} is a folder; name the page, such as {shown(out / 'comparison.html')}."
        )
    if start is not None and b'name="generator" content="sgrace"' not in start:
        raise InputError(f"{shown(out)} exists and is no page of sgrace; name another file with --out.")


def _request(folder: Path, found: Evaluation) -> dict[str, Any]:
    """What decided the figures: the request, if it is there, else what the evaluation says of it."""
    known = {
        "concept": found.concept.name,
        "base": found.base,
        "suite": found.suite,
        "prompt_set": found.prompt_set,
        "attacks": sorted(row.attack for row in found.attacks),
        "seed": found.seed,
        "detector": found.detector,
    }
    if not (folder / REQUEST).is_file():
        return known
    request = read_json(folder / REQUEST)
    # the name of the base is that of a place, and its weights count
    stored = {key: request[key] for key in DECIDES.keys() - {"concept", "attacks"} if key in request}
    return {**known, **stored}


def _refuse_what_differs(
    first: Path, other: Path, expected: Mapping[str, Any], given: Mapping[str, Any]
) -> None:
    both = [key for key in DECIDES if key in expected and key in given]
    differing = [_difference(key, expected[key], given[key]) for key in both if expected[key] != given[key]]
    if differing:
        listed = ", ".join(differing)
        raise InputError(
            f"{shown(other)} cannot be compared with {shown(first)}, for they differ in {listed}; "
            "evaluate both in the same way."
        )


def _difference(key: str, expected: object, given: object) -> str:
    values = [str(value) for value in (given, expected)]
    is_short = not any(isinstance(value, dict | list) for value in (given, expected))
    return f"{DECIDES[key]} ({' and '.join(values)})" if is_short else DECIDES[key]


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if all(a != b for a, b in pairwise(sorted(names))):
            break
    return names

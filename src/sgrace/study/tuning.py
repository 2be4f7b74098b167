"""The best settings of each eraser in a study, and the effort that found them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._util import registry
from ..concept import Concept
from ..evaluation.schema import Retention
from ..testbeds.questions import ERASED
from .cells import CHOSEN
from .lines import KEPT, REFERENCES, Line
from .pace import method_of
from .table import markdown


@dataclass(frozen=True)
class Trial:
    """One point of a search: a preset with settings, on all concepts and seeds.

    Attributes:
        settings: those that differ from the preset's, as text.
        score: see :func:`score_of`; None while cells are missing.
        seconds: of erasing, so far.
        is_preset: these are the settings of today's preset.
    """

    settings: str
    score: float | None
    seconds: float
    is_preset: bool = False


def score_of(rows: Iterable[Retention]) -> float:
    """Harmonic mean of what is erased and what is kept, 0..1.

    Erased is one minus the share of images that still show the concept, by name and by synonym. Kept are the
    shares of withheld neighbours, withheld unrelated classes and the rest of prompts that are right. Each is
    taken of the share before erasing, for each concept and seed. No image at all counts as half a one, so
    that nothing is a tie.
    """
    parts = []
    for row in rows:
        if row.question in {*ERASED, *KEPT} and row.before and row.before.hits:
            left = min(1.0, row.after.share / row.before.share)
            part = 1 - left if row.question in ERASED else left
            parts.append(max(part, 0.5 / row.after.n))
    return len(parts) / sum(1 / part for part in parts) if parts else 0.0


def trials_of(lines: Iterable[Line]) -> dict[str, list[Trial]]:
    """The trials of each eraser, or of each preset that rows name, in the study's order.

    A trial is complete when it has as many erasures as the one that has the most.
    """
    points: dict[str, list[Line]] = {}
    for line in lines:
        if line.title not in REFERENCES:
            points.setdefault(line.title, []).append(line)
    most = max((_n_erasures(own) for own in points.values()), default=0)
    found: dict[str, list[Trial]] = {}
    for title, own in points.items():
        trial = _trial(title, own, is_complete=_n_erasures(own) == most)
        found.setdefault(method_of(title), []).append(trial)
    return found


def _n_erasures(lines: Iterable[Line]) -> int:
    return sum(len(line.evaluations) for line in lines)


def _trial(title: str, lines: Sequence[Line], *, is_complete: bool) -> Trial:
    """A point of the search, from its rows of all concepts."""
    every = [found for line in lines for found in line.evaluations]
    rows = [row for found in every for row in found.retention]
    return Trial(
        settings=title.removeprefix(method_of(title)).strip(" ()") or "as in the preset",
        score=score_of(rows) if is_complete else None,
        seconds=sum(found.cost.get("seconds", 0) for found in every),
        is_preset=all(line.settings == _settings_of_preset(line) for line in lines),
    )


def _settings_of_preset(line: Line) -> Mapping[str, Any] | None:
    """All settings of the preset that a row starts from; None of an eraser or preset that is unknown here."""
    eraser, _, preset = method_of(line.title).partition(", ")
    if eraser not in registry.names("erasers"):
        return None
    plugin = registry.load("erasers", eraser)
    preset = preset or (CHOSEN if CHOSEN in plugin.presets else plugin.default_preset)
    if preset not in plugin.presets:
        return None
    kind = Concept.model_validate(line.protocol["concept"]).template_kind
    found: Mapping[str, Any] = plugin.preset(preset, kind).config.model_dump(mode="json")
    return found


def best_of(lines: Sequence[Line]) -> str:
    """Markdown: the first, the preset's and the best trial of each eraser, and the effort that they took."""
    on = {name: dict.fromkeys(str(line.protocol[name]) for line in lines) for name in ("suite", "prompt_set")}
    concepts = dict.fromkeys(line.protocol["concept"]["name"] for line in lines)
    seeds = dict.fromkeys(str(seed) for line in lines for seed in line.seeds)
    rows = []
    for name, trials in trials_of(lines).items():
        scored = [(trial.score, trial) for trial in trials if trial.score is not None]
        best = max(scored, key=lambda pair: pair[0], default=None)
        first = trials[0].score
        preset = next((trial.score for trial in trials if trial.is_preset), None)
        rows.append(
            (
                name,
                str(len(trials)) if len(scored) == len(trials) else f"{len(scored)} of {len(trials)}",
                f"{sum(trial.seconds for trial in trials):.0f}",
                *("" if score is None else f"{score:.3f}" for score in (first, preset)),
                f"{best[0]:.3f}" if best else "",
                best[1].settings if best else "",
            )
        )
    head = ("", "trials", "seconds of erasing", "first", "preset", "best", "at")
    return (
        f"On {', '.join(concepts)}; prompt set {', '.join(on['prompt_set'])}, "
        f"suite {', '.join(on['suite'])}, seeds {', '.join(seeds)}.\n\n{markdown(head, rows)}"
    )

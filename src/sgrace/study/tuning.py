"""The best settings of each eraser in a study, and the effort that found them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .._util.hashing import sha256_of_json
from ..evaluation import Evaluation
from ..evaluation.schema import Retention
from ..testbeds.questions import ERASED
from .cells import Cell
from .lines import KEPT
from .make import EVALUATION
from .pace import method_of
from .store import Store
from .table import markdown


@dataclass(frozen=True)
class Trial:
    """One point of a search: a preset with settings, on all concepts and seeds.

    Attributes:
        settings: those that differ from the preset's, as text.
        score: see :func:`score_of`; None while cells are missing.
        seconds: of erasing, so far.
    """

    settings: str
    score: float | None
    seconds: float


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


def trials_of(scores: Iterable[Cell], store: Store) -> dict[str, list[Trial]]:
    """The trials of each eraser, or of one of its presets that rows name, in the study's order."""
    found: dict[str, dict[str, list[Cell]]] = {}
    for cell in scores:
        if "erasure" in cell.needs:
            config = cell.needs["erasure"].config
            point = sha256_of_json([config["preset"], config["settings"]])
            found.setdefault(method_of(cell.config["row"]), {}).setdefault(point, []).append(cell)
    return {name: [_trial(cells, store) for cells in points.values()] for name, points in found.items()}


def _trial(cells: Sequence[Cell], store: Store) -> Trial:
    """A point of the search, from its cells."""
    done = [Evaluation.from_file(store.path(cell) / EVALUATION) for cell in cells if store.is_finished(cell)]
    config = cells[0].needs["erasure"].config
    settings = [f"{name}={value}" for name, value in config["settings"].items()]
    rows = [row for evaluation in done for row in evaluation.retention]
    return Trial(
        settings=", ".join(settings) or f"preset {config['preset']}",
        score=score_of(rows) if len(done) == len(cells) else None,
        seconds=sum(evaluation.cost["seconds"] for evaluation in done),
    )


def best_of(scores: Sequence[Cell], store: Store) -> str:
    """Markdown: the best trial of each eraser, and how many were made in which time on what."""
    erased = [cell.config for cell in scores if "erasure" in cell.needs]
    on = {name: dict.fromkeys(str(config[name]) for config in erased) for name in ("suite", "prompt_set")}
    concepts = dict.fromkeys(config["concept"]["name"] for config in erased)
    seeds = dict.fromkeys(str(config["erasing_seed"]) for config in erased)
    rows = []
    for eraser, trials in trials_of(scores, store).items():
        scored = [(trial.score, trial) for trial in trials if trial.score is not None]
        best = max(scored, key=lambda pair: pair[0], default=None)
        first = trials[0].score
        rows.append(
            (
                eraser,
                str(len(trials)) if len(scored) == len(trials) else f"{len(scored)} of {len(trials)}",
                f"{sum(trial.seconds for trial in trials):.0f}",
                "" if first is None else f"{first:.3f}",
                f"{best[0]:.3f}" if best else "",
                best[1].settings if best else "",
            )
        )
    head = ("", "trials", "seconds of erasing", "first", "best", "at")
    return (
        f"On {', '.join(concepts)}; prompt set {', '.join(on['prompt_set'])}, "
        f"suite {', '.join(on['suite'])}, seeds {', '.join(seeds)}.\n\n{markdown(head, rows)}"
    )

"""The typed result of an evaluation: what ``evaluation.json`` holds."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from .._util.errors import InputError
from ..metrics import Share


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rate(_Frozen):
    """``hits`` of ``n`` with the 95 % Wilson interval."""

    hits: int
    n: int
    share: float
    low: float
    high: float

    @classmethod
    def of(cls, share: Share) -> Self:
        """From counts."""
        found = share.as_dict()
        return cls(hits=share.hits, n=share.n, share=found["share"], low=found["low"], high=found["high"])

    def __str__(self) -> str:
        return f"{self.share:6.1%} [{self.low:.1%}, {self.high:.1%}]  n={self.n}"


class Retention(_Frozen):
    """One question, before and after erasing, and of the model retrained without the concept."""

    question: str
    before: Rate | None
    after: Rate
    gold: Rate | None = None


class Scores(_Frozen):
    """Figures under the names of other benchmarks, after erasing.

    ``ua``, ``ira`` and ``cra`` are UnlearnCanvas's (arXiv 2402.11846): pictures asked for the concept that do not show it; the concept's
    own domain otherwise (other classes of an object, other styles of a style) and the other domain drawn right. ``mace_h`` is MACE's
    harmonic mean (arXiv 2403.06135) of what is erased by name, kept in the own domain, and erased by held-out synonym where it has one.
    """

    ua: Rate
    ira: Rate
    cra: Rate
    mace_h: float


class AttackRow(_Frozen):
    """One attack: success is plain or attacked, per prompt; ``gold``: the same on the model retrained without the concept."""

    attack: str
    access: str
    plain: Rate
    post_only: Rate
    success: Rate
    survival: float | None
    checks: int
    unet_rows: int
    text_encoder_rows: int
    seconds: float
    stopped: str
    gold: Rate | None = None


class Fidelity(_Frozen):
    """Pictures of unrelated prompts, after against before, on features of the named extractor; see :mod:`sgrace.metrics.fidelity`.

    ``lpips`` is the mean over pairs of equal prompt and noise, with all channels of the extractor's layers weighted alike. What the
    extractor or the number of pictures does not allow is absent. ``intervals``: 95 %, by leaving out one pair at a time, so that they
    tell the spread over prompts and not the bias that FID has at few pictures.
    """

    extractor: str
    n: int
    fid: float
    kid: float
    cmmd: float | None = None
    lpips: float | None = None
    clip_score_before: float | None = None
    clip_score_after: float | None = None
    precision: float | None = None
    recall: float | None = None
    density: float | None = None
    coverage: float | None = None
    intervals: dict[str, tuple[float, float]] = {}


class Drift(_Frozen):
    """How far the text encoder moved on a group of prompts: debiased linear CKA and mean cosine of text states, 1 if nothing moved.

    CKA needs four prompts; it is absent where there are fewer.
    """

    prompts: str
    n: int
    cka: float | None
    cosine: float


class SpaceRow(_Frozen):
    """How well text states cover the concept in one feature space; the sets ``random`` and ``held out`` are floor and ceiling."""

    samples: str
    space: str
    n: int
    coverage: float
    density: float
    uncovered: float
    off_concept: float
    mmd: float
    p_value: float
    spill_over: float
    vendi: float


class Evaluation(_Frozen):
    """Everything measured on one target.

    Attributes:
        schema_version: of this layout.
        concept, target, base, method, suite, seed: what was evaluated, and how.
        detector: identity of what decided success.
        attacks: one row per attack; ``worst_case`` counts prompts on which any of them succeeds, ``worst_case_by_prompt`` those on which
            one that a user could enter succeeds.
        retention, scores, fidelity, drift, concept_space: what else changed; empty where the model has no table of its own.
        cost: seconds and calls of erasing, where known.
        versions: of the packages.
    """

    schema_version: int = 1
    concept: str
    target: str
    target_sha256: str
    base: str | None
    method: str | None
    suite: str
    seed: int
    detector: dict[str, Any]
    attacks: tuple[AttackRow, ...]
    worst_case: Rate
    worst_case_by_prompt: Rate
    retention: tuple[Retention, ...] = ()
    scores: Scores | None = None
    fidelity: Fidelity | None = None
    drift: tuple[Drift, ...] = ()
    concept_space: tuple[SpaceRow, ...] = ()
    cost: dict[str, Any] = {}
    versions: dict[str, str]

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read ``evaluation.json``.

        Raises:
            InputError: the file is missing or of another layout.
        """
        try:
            return cls.model_validate_json(path.read_text())
        except (OSError, ValidationError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not an evaluation of schema version 1.") from error

    def with_gold(self, gold: Evaluation) -> Self:
        """With the figures of the retrained model beside each of its own, where both were found in the same way."""
        same = ("concept", "suite", "seed", "detector", "schema_version")
        if any(getattr(self, name) != getattr(gold, name) for name in same):
            return self
        attacks, retention = ({row.attack: row for row in gold.attacks}, {row.question: row for row in gold.retention})
        return self.model_copy(
            update={
                "attacks": tuple(
                    row.model_copy(update={"gold": attacks[row.attack].success}) if row.attack in attacks else row for row in self.attacks
                ),
                "retention": tuple(
                    row.model_copy(update={"gold": retention[row.question].after}) if row.question in retention else row
                    for row in self.retention
                ),
            }
        )

    def csv(self) -> str:
        """One line per figure: kind, name, share, interval, n. Cells that a spreadsheet would run are quoted as text."""
        out = io.StringIO()
        table = csv.writer(out)
        table.writerow(("kind", "name", "share", "low", "high", "n"))
        rows: list[tuple[str, str, Rate]] = [("attack", row.attack, row.success) for row in self.attacks]
        rows += [("attack", "worst case", self.worst_case), ("attack", "worst case by prompt", self.worst_case_by_prompt)]
        for row in self.retention:
            rows += [("before", row.question, row.before)] if row.before else []
            rows.append(("after", row.question, row.after))
        if self.scores:
            rows += [("score", name, getattr(self.scores, name)) for name in ("ua", "ira", "cra")]
        rows += [("gold attack", row.attack, row.gold) for row in self.attacks if row.gold]
        rows += [("gold", kept.question, kept.gold) for kept in self.retention if kept.gold]
        for kind, name, rate in rows:
            table.writerow((kind, _as_text(name), rate.share, rate.low, rate.high, rate.n))
        return out.getvalue()


def _as_text(cell: str) -> str:
    return f"'{cell}" if cell[:1] in "=+-@\t\r" else cell

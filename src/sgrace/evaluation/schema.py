"""The typed result of an evaluation: what ``evaluation.json`` holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict

from .._util.errors import InputError
from .._util.notebook import Bar, card
from ..attacks.attack_set import AttackName, Start, Unit
from ..concept import Concept, Kind
from ..metrics import Share
from ..testbeds.base import PromptSet
from .earlier import from_version_1

VERSION: Final = 2


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rate(_Frozen):
    """``hits`` of ``n`` with the 95 % Wilson interval: of so many ``observations`` where they are fewer."""

    hits: int
    n: int
    share: float
    low: float
    high: float
    observations: int | None = None

    @classmethod
    def of(cls, share: Share) -> Self:
        """From counts."""
        return cls(hits=share.hits, observations=share.observations, **share.as_dict())

    def __str__(self) -> str:
        seen = "" if self.observations is None else f" of {self.observations} observations"
        return f"{self.share:6.1%} [{self.low:.1%}, {self.high:.1%}]  n={self.n}{seen}"


class Retention(_Frozen):
    """Shares of one retention question: before and after erasing, and on the retrained model."""

    question: str
    before: Rate | None
    after: Rate
    gold: Rate | None = None


class Verdict(_Frozen):
    """Whether the concept is gone: a word, a sentence, and the shares they rest on; see :mod:`.verdict`."""

    word: Literal["erased", "partly", "not erased", "not measured"]
    sentence: str
    shares: tuple[Retention, ...] = ()


class Scores(_Frozen):
    """Scores after erasing under the names of other benchmarks.

    Attributes:
        ua: unlearning accuracy of UnlearnCanvas (arXiv 2402.11846): images of the concept's prompts that do
            not
            show it.
        ira: in-domain retain accuracy: other classes (object) or other styles (style) judged right.
        cra: cross-domain retain accuracy: styles of unrelated objects (object) or objects in other styles
            (style) judged right.
        mace_h: harmonic mean of MACE (arXiv 2403.06135) of three shares: erased by name, retained in the
            concept's own domain, and erased by held-out synonym, if the concept has one.
    """

    ua: Rate
    ira: Rate
    cra: Rate
    mace_h: float


class AttackRow(_Frozen):
    """One attack. ``success`` counts prompts that show the concept with or without the attack.

    ``gold`` is the success on the model trained without the concept. Where a start is the ``unit`` of
    observation, ``success`` counts images of the worst of the ``starts``, and its interval is over starts.
    ``note`` says what the figures rest on beside the settings. Probes that need controls have their success
    on the ``original`` model and on a ``random_denoiser``, and are ``unreliable`` where they find the concept
    there; see :mod:`.controls`.
    """

    attack: AttackName
    access: str
    plain: Rate
    post_only: Rate
    success: Rate
    survival: float | None
    checks: int
    denoiser_rows: int
    text_encoder_rows: int
    seconds: float
    stopped: str
    gold: Rate | None = None
    unit: Unit = "prompt"
    starts: tuple[Start, ...] = ()
    note: str = ""
    original: Rate | None = None
    random_denoiser: Rate | None = None
    unreliable: bool = False

    def in_words(self) -> str:
        """What each start and the controls found, and what the figures rest on; empty if there is nothing."""
        found = {"on the original": self.original, "on a random denoiser": self.random_denoiser}
        told = [f"{where} {rate.hits} of {rate.n}" for where, rate in found.items() if rate]
        told += ["UNRELIABLE: it finds the concept where there is none"] if self.unreliable else []
        return "; ".join(part for part in (Start.in_words(self.starts, self.note), *told) if part)


class Fidelity(_Frozen):
    """Images of unrelated prompts, after against before, on features of an extractor.

    The figures are those of :mod:`sgrace.metrics.fidelity`. ``lpips`` is the mean over pairs with equal
    prompt and noise; all channels of the extractor's layers have equal weight. A figure is None if the
    extractor or the number of images does not allow it. ``intervals`` are 95 % jackknife intervals: they show
    the spread over prompts, not the bias that FID has at few images.
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
    """How far what the denoiser reads of a group of prompts moved.

    ``part`` is ``prompt_embeds``, a text encoder's own part of them by its name, or ``pooled``. ``cka`` is
    the debiased linear CKA, ``cosine`` the mean cosine; both are 1 if nothing changed. CKA needs at least
    four prompts; it is None for fewer.
    """

    prompts: str
    part: str = "prompt_embeds"
    n: int
    cka: float | None
    cosine: float


class SpaceRow(_Frozen):
    """How well a set of samples covers the concept in one feature space.

    The sets ``random`` and ``held out`` are floor and ceiling.
    """

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
        schema_version: of this layout; version 1 is read too.
        concept: name and kind; the kind is None if nobody stated it.
        target, base, method, suite, prompt_set, seed, testbed: what was evaluated, and how. Settings are
            chosen on the prompts and questions of the set ``validation``.
        transferred: whether only text encoders were put into the base, and it is not the model that they were
            erased in.
        target_sha256: of the target's weights. target_settings_sha256: of everything else that decides its
            images.
        detector: identity of what decided success.
        verdict: whether the concept is gone, in words.
        caveats: what these figures cannot show.
        truncated_prompts: prompts longer than the text encoder reads; they were truncated.
        attacks: one row for each attack.
        worst_case: prompts on which any attack succeeds.
        worst_case_by_prompt: prompts on which an attack that a user could enter succeeds.
        retention, scores, fidelity, drift, concept_space: what else changed; empty if it cannot be measured.
        cost: seconds and calls of erasing, and the device, if known.
        versions: of the packages. hardware: on which it was measured; empty if that is not known.
    """

    schema_version: Literal[2] = VERSION
    concept: Concept
    target: str
    target_sha256: str
    target_settings_sha256: str | None = None
    base: str | None
    transferred: bool = False
    method: str | None
    suite: str
    prompt_set: PromptSet = "test"
    seed: int
    testbed: str | None = None
    detector: dict[str, Any]
    verdict: Verdict | None = None
    caveats: tuple[str, ...] = ()
    truncated_prompts: int = 0
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
    hardware: str = ""

    def __repr__(self) -> str:
        word = self.verdict.word if self.verdict else "no verdict"
        worst = f"typed prompts {self.worst_case_by_prompt.hits}, any attack {self.worst_case.hits}"
        how = f"{self.method or 'unknown method'}, {self.suite}"
        return f"Evaluation({self.concept.name!r}, {how}: {word}; {worst} of {self.worst_case.n} prompts)"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        bars = [_bar(f"attack {row.attack}", row.success) for row in self.attacks]
        bars += [
            _bar("any typed prompt", self.worst_case_by_prompt),
            _bar("any attack", self.worst_case),
        ]
        bars += [_bar(f"{row.question}, after erasing", row.after) for row in self.retention]
        facts = {"target": self.target, "suite": self.suite, "detector": self.detector["name"]}
        lead = self.verdict.sentence if self.verdict else ""
        title = f"Evaluation of {self.method or self.target} on {self.concept.name!r}"
        return card(title, facts, lead=lead, bars=bars, notes=self.caveats)

    @property
    def kind(self) -> Kind | None:
        """Kind of the concept; None where it is unknown."""
        return self.concept.kind

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read ``evaluation.json``.

        Raises:
            InputError: the file is missing or of another layout.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found.get("schema_version") == 1:
                found = from_version_1(found)
            return cls.model_validate_json(json.dumps(found))
        except (OSError, ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
            raise InputError(f"{path} is not an evaluation of schema version 1 or {VERSION}.") from error

    def with_gold(self, gold: Evaluation) -> Self:
        """With the figures of the gold model, if both were measured in the same way."""
        same = ("suite", "prompt_set", "seed", "detector")
        differs = any(getattr(self, name) != getattr(gold, name) for name in same)
        if differs or self.concept.name != gold.concept.name:
            return self
        # figures of one name may come from other forms of the attack
        successes = {(row.attack, row.unit, row.note): row.success for row in gold.attacks}
        shares = {row.question: row.after for row in gold.retention}
        attacks = tuple(
            row.model_copy(update={"gold": successes.get((row.attack, row.unit, row.note))})
            for row in self.attacks
        )
        retention = tuple(row.model_copy(update={"gold": shares.get(row.question)}) for row in self.retention)
        return self.model_copy(update={"attacks": attacks, "retention": retention})


def _bar(label: str, rate: Rate) -> Bar:
    return Bar(label, rate.share, rate.low, rate.high)

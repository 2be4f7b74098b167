"""An evaluation in the words of a model card."""

from __future__ import annotations

from pathlib import Path

from .._util.errors import InputError
from .._util.text import shown
from ..evaluation.evaluate import EVALUATION
from ..evaluation.requests import fingerprint
from ..evaluation.schema import Evaluation, Rate
from ..models import DiffusionModel
from ..report.words import QUESTIONS, answers, context, notes, validation

#: Stands beside figures of a model that is not, bit by bit, the one of the card.
OTHER_WEIGHTS = "- The figures were measured on other weights than these, or in another precision."


def evaluated(folder: Path, model: DiffusionModel) -> tuple[str, ...]:
    """The lines of a card about the evaluation in a folder: answers, attacks, side effects, limits.

    Raises:
        InputError: the folder holds no evaluation, or one of a concept that was not erased.
    """
    found = Evaluation.from_file(folder / EVALUATION)
    concepts = {concept.name for erasure in model.erasures for concept in erasure.recipe.concepts}
    if found.concept.name not in concepts:
        name = found.concept.name
        raise InputError(f"The evaluation in {shown(folder)} is of {name!r}, which was not erased.")
    told = [f"- {answer.question} **{answer.word}.** {answer.sentence}" for answer in answers(found)]
    told += [] if found.target_sha256 == fingerprint(model).weights else [OTHER_WEIGHTS]
    return (*told, "", *_attacks(found), "", *_side_effects(found), context(found), "", *_limits(found))


def _attacks(found: Evaluation) -> list[str]:
    """One line for each attack: what it needs, and on how many prompts it brought the concept back."""
    lines = ["| attack | needs | concept shown | 95 % interval | survived |", "|---|---|---|---|---|"]
    for row in found.attacks:
        survived = "no evidence: unreliable" if row.unreliable else "no" if row.success.hits else "yes"
        lines.append(f"| {row.attack} | {row.access} | {_share(row.success)} | {survived} |")
    lines.append(f"| any of them | | {_share(found.worst_case)} | |")
    lines.append(f"| any that is a prompt | | {_share(found.worst_case_by_prompt)} | |")
    return lines


def _side_effects(found: Evaluation) -> list[str]:
    """One line for each question of what should stay, before and after."""
    if not found.retention:
        return []
    lines = ["| asked for | before | 95 % interval | after | 95 % interval |", "|---|---|---|---|---|"]
    for row in found.retention:
        before = _share(row.before) if row.before else "unknown |"
        lines.append(f"| {QUESTIONS.get(row.question, row.question)} | {before} | {_share(row.after)} |")
    return [*lines, ""]


def _share(rate: Rate) -> str:
    """Two cells: counts with the share, and the interval."""
    low, high = 100 * rate.low, 100 * rate.high
    return f"{rate.hits} of {rate.n} ({100 * rate.share:.1f} %) | {low:.1f} to {high:.1f} %"


def _limits(found: Evaluation) -> list[str]:
    return [f"- {line}" for line in (validation(found), *notes(found), *found.caveats)]

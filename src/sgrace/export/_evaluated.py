"""An evaluation in the words of a model card."""

from __future__ import annotations

from pathlib import Path

from ..evaluation.evaluate import EVALUATION
from ..evaluation.schema import Evaluation, Rate
from ..report.words import QUESTIONS, answers, context, notes, validation


def evaluated(folder: Path) -> tuple[str, ...]:
    """The lines of a card about the evaluation in a folder: answers, attacks, side effects, limits.

    Raises:
        InputError: the folder holds no evaluation.
    """
    found = Evaluation.from_file(folder / EVALUATION)
    told = [f"- {answer.question} **{answer.word}.** {answer.sentence}" for answer in answers(found)]
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

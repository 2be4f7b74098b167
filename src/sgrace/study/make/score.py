"""Everything that is measured of a model, from its attack sets and images."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..._util.files import write_json, write_text_atomically
from ...api.evaluating import evaluate
from ...attacks import AttackSet
from ...evaluation.retention import AFTER, BEFORE
from ...testbeds.loading import LoadOptions
from ..cell import Cell
from .common import ATTACK_SET, IMAGES, Folders, given, target_of

EVALUATION, VERDICTS, PIECES = "evaluation.json", "verdicts.json", "pieces"


def make(cell: Cell, folder_of: Folders, out: Path, options: LoadOptions) -> None:
    """Score the cell's target."""
    config = cell.config
    pieces = {}
    for name, each in cell.needs.items():
        if each.kind == "attack":
            pieces[name] = folder_of(each) / ATTACK_SET
        if each.kind == "images":
            pieces[f"questions/{BEFORE if name == 'before' else AFTER}"] = folder_of(each) / IMAGES
    found = evaluate(
        target_of(cell, folder_of, options),
        suite=config["suite"],
        attacks=config["attacks"],
        seed=config["seed"],
        pieces=pieces,
        out=out / PIECES,
        **given(cell),
    )
    shown = {
        name.removeprefix("attacks/"): verdicts_of(
            each, AttackSet.from_pretrained(folder_of(each) / ATTACK_SET)
        )
        for name, each in cell.needs.items()
        if name.startswith("attacks/")
    }
    write_json(out / VERDICTS, shown)
    # the path that the erasure has on this machine is no part of the result
    text = found.model_copy(update={"target": config["row"]}).model_dump_json(indent=2)
    write_text_atomically(out / EVALUATION, text + "\n")
    shutil.rmtree(out / PIECES)


def verdicts_of(attack: Cell, found: AttackSet) -> list[bool]:
    """Whether each prompt shows the concept; where every prompt was attacked, whether the attack shows it."""
    return [attempt.success for attempt in found.attempts] if attack.config["every_prompt"] else found.shown

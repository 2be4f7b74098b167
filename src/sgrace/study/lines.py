"""Rows of a study's tables, from the cells that are finished, and which rows stand in one table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._util import registry
from .._util.errors import InputError
from .._util.text import read_json, shown
from ..evaluation import Evaluation
from ..evaluation.schema import AttackRow
from ..evaluation.training_samples import SpaceCurve
from ..metrics import Share
from ..metrics.repeated import Counts, Estimated, share_of
from .cell import Cell
from .inputs import model_title
from .make.score import EVALUATION, VERDICTS
from .make.space import CURVES
from .store import Store

#: What a safe model should still draw, though nobody listed it for the eraser.
KEPT = ("withheld neighbours", "withheld unrelated", "rest")
REFERENCES = {"original", "gold"}
#: Fields of a scoring's configuration that are equal in all rows of a table, and where results are compared.
PROTOCOL = (
    "weights",
    "dtype",
    "concept",
    "suite",
    "prompt_set",
    "every_prompt",
    "attacks",
    "seed",
    "prompts",
    "detector",
    "detector_settings",
)


@dataclass
class Line:
    """A row of a table: one eraser on one concept, over the seeds that are finished.

    Attributes:
        title: of the row.
        protocol: what decides its figures beside the eraser: the fields `PROTOCOL` of its scorings.
        settings: all settings of the eraser; none of a reference.
        seeds: of erasing.
        evaluations, verdicts: what was found for each seed; verdicts by attack.
        curves: where the samples of erasing lie, if the study asks for it.
        is_reported: somebody else says so; it was not measured here.
    """

    title: str
    protocol: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    verdicts: list[dict[str, list[bool]]] = field(default_factory=list)
    curves: list[list[SpaceCurve]] = field(default_factory=list)
    is_reported: bool = False

    def shown(self, attacks: Sequence[str]) -> Tensor:
        """Whether any of some attacks shows the concept: ``(seeds, prompts)``."""
        each = [torch.tensor([found[name] for name in attacks]).any(0) for found in self.verdicts]
        return torch.stack(each)

    def share(self, attacks: Sequence[str]) -> Estimated:
        """Share of prompts on which any of some attacks shows the concept.

        An attack that searches something for all prompts at once, such as a word, was observed once a start:
        the interval is then Wilson's of so many observations.
        """
        shown = self.shown(attacks)
        observed = [row.success.observations for name in attacks for row in self.rows(name)]
        starts = [n for n in observed if n is not None]
        if len(starts) < len(observed):
            return share_of(shown)
        return Estimated(
            shown.double().mean().item(), *Share(int(shown.sum()), shown.numel(), sum(starts)).interval
        )

    def rows(self, attack: str) -> list[AttackRow]:
        """What an attack found, for each seed."""
        return [row for found in self.evaluations for row in found.attacks if row.attack == attack]

    def unreliable(self, attack: str) -> bool:
        """Whether the attack finds the concept where there is none."""
        return any(row.unreliable for row in self.rows(attack))

    @property
    def is_guidance(self) -> bool:
        """Whether it steers the sampling and changes no weights: who has the model can leave it out."""
        method = self.evaluations[0].method
        return (
            method in registry.names("erasers") and registry.load("erasers", method).guidance_type is not None
        )

    def counts(self, questions: Sequence[str] = KEPT) -> Counts | None:
        """Right images by seed and question, of what should stay by default; None if it was not asked."""
        rates = [
            [row.after for name in questions for row in found.retention if row.question == name]
            for found in self.evaluations
        ]
        if not rates or not rates[0]:
            return None
        hits = [[rate.hits for rate in each] for each in rates]
        n = [[rate.n for rate in each] for each in rates]
        return Counts(torch.tensor(hits, dtype=torch.float64), torch.tensor(n, dtype=torch.float64))

    @property
    def fid(self) -> float | None:
        """Mean FID of images of unrelated prompts, before against after; None if it was not measured."""
        return _mean(found.fidelity.fid for found in self.evaluations if found.fidelity)

    @property
    def kept(self) -> float | None:
        """Mean share of what should stay though nobody listed it; None if it was not asked."""
        counts = self.counts()
        return None if counts is None else (counts.hits / counts.n).mean().item()

    @property
    def kept_of_before(self) -> float | None:
        """What should stay though nobody listed it, as a part of the share before erasing."""
        return _mean(
            row.after.share / row.before.share
            for found in self.evaluations
            for row in found.retention
            if row.question in KEPT and row.before and row.before.share
        )

    @property
    def device(self) -> str | None:
        """Where the first seed was erased; None where nothing was, or nobody recorded it."""
        return next((found.cost.get("device") for found in self.evaluations), None)

    @property
    def seconds(self) -> float | None:
        """Mean seconds of erasing, of the seeds that were erased where the first was; None if not known."""
        return _mean(
            found.cost.get("seconds") for found in self.evaluations if found.cost.get("device") == self.device
        )

    def cost(self, name: str) -> float | None:
        """Mean number of rows of erasing; None where nothing was erased, or they were not counted."""
        return _mean(found.cost.get("cost", {}).get(name) for found in self.evaluations)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def timed_alike(lines: Iterable[Line]) -> list[tuple[Line, float]]:
    """Rows measured here with their seconds, of the erasures that were made where the first of them was."""
    own = [line for line in lines if line.title not in REFERENCES and not line.is_reported]
    timed = [(line, line.seconds) for line in own]
    known = [(line, seconds) for line, seconds in timed if seconds]
    return [(line, seconds) for line, seconds in known if line.device == known[0][0].device]


def lines_of(scores: Iterable[Cell], store: Store) -> dict[str, list[Line]]:
    """Rows by model and concept, in the study's order; only what is finished."""
    found: dict[str, dict[str, Line]] = defaultdict(dict)
    for cell, table in tables_of(list(scores)):
        if store.is_finished(cell):
            protocol = {key: cell.config.get(key) for key in PROTOCOL}
            settings = cell.needs["erasure"].config["resolved"] if "erasure" in cell.needs else {}
            line = found[table].setdefault(cell.config["row"], Line(cell.config["row"], protocol, settings))
            line.seeds.append(cell.config["erasing_seed"])
            line.evaluations.append(Evaluation.from_file(store.path(cell) / EVALUATION))
            line.verdicts.append(_verdicts(store.path(cell) / VERDICTS, cell.config["attacks"]))
            if "space" in cell.needs:
                line.curves.append(_curves(store.path(cell.needs["space"]) / CURVES))
    return {table: list(lines.values()) for table, lines in found.items()}


def _verdicts(file: Path, attacks: Sequence[str]) -> dict[str, list[bool]]:
    """The verdicts of each attack.

    Raises:
        InputError: someone has changed the file.
    """
    found = read_json(file)
    values = list(found.values()) if isinstance(found, dict) and found.keys() == set(attacks) else []
    sound = all(isinstance(each, list) and each and all(type(one) is bool for one in each) for each in values)
    if not sound or len({len(each) for each in values}) != 1:
        raise InputError(
            f"{shown(file)} was changed: it does not hold the same prompts' verdicts of each attack."
        )
    return dict(found)


def _curves(file: Path) -> list[SpaceCurve]:
    """Where the samples of an eraser lie.

    Raises:
        InputError: someone has changed the file.
    """
    try:
        return [SpaceCurve(**curve) for curve in read_json(file)]
    except TypeError as error:
        raise InputError(f"{shown(file)} was changed: it holds no curves of a concept's space.") from error


def tables_of(scores: Sequence[Cell]) -> list[tuple[Cell, str]]:
    """Each scoring with the name of its table.

    Where tables of different protocols would have one name, what sets them apart stands behind it.
    """
    names = [_name(cell.config) for cell in scores]
    protocols: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for cell, name in zip(scores, names, strict=True):
        protocols[name].append(cell.config)
    differs = {
        name: [key for key in PROTOCOL if any(config.get(key) != own[0].get(key) for config in own)]
        for name, own in protocols.items()
    }
    return [
        (cell, ", ".join([name, *(f"{key} {_told(cell.config.get(key))}" for key in differs[name])]))
        for cell, name in zip(scores, names, strict=True)
    ]


def _name(config: Mapping[str, Any]) -> str:
    parts = [f"{config['concept']['name']} on {model_title(config['model'])}"]
    parts += [f"erased on {config['erased_on']}"] if config["erased_on"] else []
    parts += [config["suite"]]
    parts += [config["prompt_set"]] if config["prompt_set"] != "test" else []
    parts += ["every prompt attacked"] if config["every_prompt"] else []
    return ", ".join(parts)


def _told(value: object) -> str:
    return " + ".join(map(str, value)) if isinstance(value, list) else str(value)[:40]

"""Tables of a study, from the cells that are finished."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from .._util import registry
from .._util.text import read_json
from ..evaluation import Evaluation
from ..metrics.repeated import difference, holm, pareto, share_of
from .cells import Cell
from .make import EVALUATION, VERDICTS
from .store import Store

#: What a safe model should still draw, though nobody listed it for the eraser.
KEPT = ("withheld neighbours", "withheld unrelated", "rest")
#: What erasing costs, and the columns' titles.
COSTS = {"seconds": "seconds", "denoiser_rows": "denoiser rows", "text_encoder_rows": "text encoder rows"}
QUESTIONS = ("target", "synonyms", "neighbours", "unrelated", *KEPT)
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
WORST = "worst by prompt"


class Entry(NamedTuple):
    """A cell of a table, and the number by which it is sorted, if it has one."""

    text: str
    value: float | None = None


@dataclass
class Line:
    """A row of a table: one eraser on one concept, over the seeds that are finished.

    Attributes:
        title: of the row.
        cells: scorings of each seed.
        evaluations, verdicts: what they found; verdicts by attack.
    """

    title: str
    cells: list[Cell] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    verdicts: list[dict[str, list[bool]]] = field(default_factory=list)

    #: Whether somebody else says so, and not what was measured here.
    is_reported: ClassVar[bool] = False

    def shown(self, attacks: Sequence[str]) -> Tensor:
        """Whether any of some attacks shows the concept: ``(seeds, prompts)``."""
        each = [torch.tensor([found[name] for name in attacks]).any(0) for found in self.verdicts]
        return torch.stack(each)

    def unreliable(self, attack: str) -> bool:
        """Whether the attack finds the concept where there is none."""
        rows = [row for found in self.evaluations for row in found.attacks if row.attack == attack]
        return any(row.unreliable for row in rows)

    def retained(self, question: str) -> float | None:
        """Share of the images of a question that are right, over the seeds; None if it was not asked."""
        every = [row for found in self.evaluations for row in found.retention]
        rates = [row.after for row in every if row.question == question]
        return sum(rate.hits for rate in rates) / sum(rate.n for rate in rates) if rates else None

    @property
    def kept(self) -> float | None:
        """Mean share of what should stay though nobody listed it."""
        shares = [share for share in map(self.retained, KEPT) if share is not None]
        return sum(shares) / len(shares) if shares else None

    def cost(self, name: str) -> float | None:
        """Mean of one of :data:`COSTS`; None where nothing was erased."""
        costs = [found.cost for found in self.evaluations if "seconds" in found.cost]
        values = [cost["seconds"] if name == "seconds" else cost["cost"].get(name) for cost in costs]
        # gold was trained, and its passes were not counted
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class Table:
    """All rows of one concept on one model.

    Attributes:
        name: concept, model and suite.
        protocol: what stands beside every figure.
        head: names of the columns.
        rows: entries of each row, its title first.
        best: titles of rows that no other beats in both worst case and what is kept.
        compared: rows of a comparison with one row: difference of the worst case, and corrected probability.
        against: title of that row.
        reported: titles of rows that somebody else measured.
    """

    name: str
    protocol: str
    head: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    best: tuple[str, ...] = ()
    compared: tuple[tuple[str, str, str], ...] = ()
    against: str | None = None
    reported: tuple[str, ...] = ()

    def markdown(self) -> str:
        """As Markdown."""
        rows = [
            [f"{row[0].text} *" if row[0].text in self.best else row[0].text, *(e.text for e in row[1:])]
            for row in self.rows
        ]
        text = f"## {self.name}\n\n{self.protocol}\n\n{markdown(self.head, rows)}"
        if self.best:
            text += f"\n\n\\* no other row beats it in both `{WORST}` and what is kept (withheld and rest)."
        if self.compared:
            head = ("", f"{WORST}, minus that of {self.against}", "p, corrected (Holm)")
            text += f"\n\n{markdown(head, self.compared)}"
        return text


def lines_of(scores: Iterable[Cell], store: Store) -> dict[str, list[Line]]:
    """Rows by model and concept, in the study's order; only what is finished."""
    found: dict[str, dict[str, Line]] = defaultdict(dict)
    for cell, table in tables_of(list(scores)):
        if store.is_finished(cell):
            line = found[table].setdefault(cell.config["row"], Line(cell.config["row"]))
            line.cells.append(cell)
            line.evaluations.append(Evaluation.from_file(store.path(cell) / EVALUATION))
            line.verdicts.append(read_json(store.path(cell) / VERDICTS))
    return {table: list(lines.values()) for table, lines in found.items()}


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
    parts = [f"{config['concept']['name']} on {config['model']}", config["suite"]]
    parts += [config["prompt_set"]] if config["prompt_set"] != "test" else []
    parts += ["every prompt attacked"] if config["every_prompt"] else []
    return ", ".join(parts)


def _told(value: object) -> str:
    return " + ".join(map(str, value)) if isinstance(value, list) else str(value)[:40]


def table_of(name: str, lines: Sequence[Line], against: str | None = None) -> Table:
    """One concept: attacks, worst cases, what is kept, and the cost of erasing.

    Args:
        name: of the table.
        lines: its rows, the first of which was measured here.
        against: title of a row with which all others are compared; none, if absent.
    """
    attacks = list(dict.fromkeys(attack for line in lines for attack in line.verdicts[0]))
    by_text = by_prompt(attacks)
    points = {
        line.title: (1 - line.shown(by_text).double().mean().item(), line.kept)
        for line in lines
        if line.title not in REFERENCES and line.kept is not None and not line.is_reported
    }
    return Table(
        name=name,
        protocol=_protocol(lines),
        head=("", "seeds", *attacks, WORST, *QUESTIONS, *COSTS.values()),
        rows=tuple(_row(line, attacks, by_text) for line in lines),
        best=tuple(pareto(points)),
        compared=tuple(_compared(lines, by_text, against)),
        against=against,
        reported=tuple(line.title for line in lines if line.is_reported),
    )


def by_prompt(attacks: Sequence[str]) -> list[str]:
    """The attacks that a user could enter; all, where there is none of them."""
    return [name for name in attacks if registry.load("attacks", name).by_text] or list(attacks)


def _row(line: Line, attacks: Sequence[str], by_text: Sequence[str]) -> tuple[Entry, ...]:
    entries = [Entry(line.title), Entry(str(len(line.verdicts)), len(line.verdicts))]
    for names in (*([attack] for attack in attacks), by_text):
        doubt = " unreliable" if any(line.unreliable(name) for name in names) else ""
        share = share_of(line.shown(names))
        entries.append(Entry(f"{share}{doubt}", share.mean))
    entries += [_entry(line.retained(question), ".0%") for question in QUESTIONS]
    return (*entries, *(_entry(line.cost(name), ".0f") for name in COSTS))


def _entry(value: float | None, digits: str) -> Entry:
    return Entry("" if value is None else format(value, digits), value)


def _protocol(lines: Sequence[Line]) -> str:
    one = lines[0].evaluations[0]
    n = len(next(iter(lines[0].verdicts[0].values())))
    detector = one.detector
    weights = str(detector["weights"])[:8]
    return (
        f"{n} prompts; attacks' seed {one.seed}; detector {detector['name']}, weights {weights}, threshold "
        f"{detector['threshold']}; 95 % intervals over seeds and prompts."
    )


def _compared(
    lines: Sequence[Line], by_text: Sequence[str], against: str | None
) -> Iterable[tuple[str, str, str]]:
    """The worst case by prompt of each row against one of them."""
    base = next((line for line in lines if line.title == against), None)
    if base is None:
        return
    theirs = base.shown(by_text)
    found = {line.title: difference(line.shown(by_text), theirs) for line in lines if line is not base}
    adjusted = holm({title: each.p_value for title, each in found.items()})
    for title, each in found.items():
        yield title, f"{each.mean:+.0%} [{each.low:+.0%}, {each.high:+.0%}]", f"{adjusted[title]:.3f}"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

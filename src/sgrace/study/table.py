"""Tables of a study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .._util import registry
from .._util.errors import InputError
from ..metrics.repeated import (
    Difference,
    Estimated,
    difference,
    holm,
    mean_share,
    mean_share_difference,
    pareto,
)
from .lines import KEPT, REFERENCES, Line

#: Samples that erasing sends through the networks, and the columns' titles.
COSTS = {"denoiser_rows": "denoiser rows", "text_encoder_rows": "text encoder rows"}
QUESTIONS = ("target", "synonyms", "neighbours", "unrelated", *KEPT)
WORST = "worst by prompt"


class Entry(NamedTuple):
    """A cell of a table, and the number by which it is sorted, if it has one."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """All rows of one concept on one model.

    Attributes:
        name: concept, model and suite.
        protocol: what stands beside every figure.
        head: names of the columns.
        rows: entries of each row, its title first.
        best: titles of rows that no other beats in both worst case and what is kept.
        compared: rows of a comparison with one row: difference of the worst case, corrected probability,
            difference of what is kept, and the seconds of erasing as a multiple of its.
        against: title of that row.
        reported: whether somebody else measured a row, of each.
    """

    name: str
    protocol: str
    head: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    best: tuple[str, ...] = ()
    compared: tuple[tuple[str, ...], ...] = ()
    against: str | None = None
    reported: tuple[bool, ...] = ()

    def markdown(self, *, transposed: bool = False) -> str:
        """As Markdown; transposed, its columns are rows."""
        lines: list[Sequence[str]] = [self.head]
        for row in self.rows:
            star = " *" if row[0].text in self.best else ""
            lines.append([row[0].text + star, *(entry.text for entry in row[1:])])
        if transposed:
            lines = list(zip(*lines, strict=True))
        text = f"### {self.name}\n\n{self.protocol}\n\n{markdown(lines[0], lines[1:])}"
        if self.best:
            text += f"\n\n\\* no other row beats it in both `{WORST}` and what is kept (withheld and rest)."
        if self.compared:
            head = (
                f"beside {self.against}",
                f"{WORST}, difference",
                "p, corrected (Holm)",
                "kept, difference",
                "seconds, multiple",
            )
            text += f"\n\n{markdown(head, self.compared)}"
        return text


def table_of(
    name: str,
    lines: Sequence[Line],
    against: str | None = None,
    columns: Sequence[str] = (),
    titles: Sequence[str] = (),
) -> Table:
    """One concept: attacks, worst cases, what is kept, and the cost of erasing.

    Args:
        name: of the table.
        lines: its rows, the first of which was measured here.
        against: title of a row with which all others are compared; none, if absent.
        columns: titles of those to show beside that of the row; all, if empty. Attacks that only other tables
            have are left out.
        titles: of the rows to show; all, if empty. Stars stand for a comparison with all.

    Raises:
        InputError: a column is unknown.
    """
    attacks = list(dict.fromkeys(attack for line in lines for attack in line.verdicts[0]))
    by_text = by_prompt(attacks)
    points = {
        line.title: (1 - line.shown(by_text).double().mean().item(), line.kept)
        for line in lines
        if line.title not in REFERENCES and line.kept is not None
        if not line.is_reported and not line.is_guidance
    }
    head = ("", "seeds", *attacks, WORST, *QUESTIONS, "FID", "seconds", *COSTS.values())
    here = [column for column in columns if column in head or column not in registry.names("attacks")]
    shown = [0, *(_place(column, head) for column in here)] if columns else range(len(head))
    tell_device = len({line.device for line in lines if line.seconds and line.device}) > 1
    wanted = [line for line in lines if not titles or line.title in titles]
    rows = [_row(line, attacks, by_text, tell_device=tell_device) for line in wanted]
    return Table(
        name=name,
        protocol=_protocol(lines),
        head=tuple(head[i] for i in shown),
        rows=tuple(tuple(row[i] for i in shown) for row in rows),
        best=tuple(title for title in pareto(points) if not titles or title in titles),
        compared=tuple(_compared(lines, by_text, against)),
        against=against,
        reported=tuple(line.is_reported for line in wanted),
    )


def _place(column: str, head: Sequence[str]) -> int:
    if column not in head[1:]:
        raise InputError(f"No column is called {column[:60]!r}; there are {', '.join(head[1:])}.")
    return head.index(column)


def by_prompt(attacks: Sequence[str]) -> list[str]:
    """The attacks that a user could enter; all, where there is none of them."""
    return [name for name in attacks if registry.load("attacks", name).by_text] or list(attacks)


def _row(
    line: Line, attacks: Sequence[str], by_text: Sequence[str], *, tell_device: bool
) -> tuple[Entry, ...]:
    n = len(line.verdicts)
    title = f"{line.title} (guidance)" if line.is_guidance else line.title
    entries = [Entry(title), Entry(str(n), n)]
    for names in (*([attack] for attack in attacks), by_text):
        doubt = " unreliable" if any(line.unreliable(name) for name in names) else ""
        hits = ", ".join(str(each) for each in line.shown(names).sum(1).tolist())
        share = line.share(names)
        entries.append(Entry(f"{share}{f' ({hits})' if n > 1 else ''}{doubt}", share.mean))
    for question in QUESTIONS:
        counts = line.counts([question])
        kept = None if counts is None else mean_share(counts)
        entries.append(Entry("") if kept is None else Entry(str(kept), kept.mean))
    entries.append(_entry(line.fid, ".4f"))
    entries.append(_entry(line.seconds, ".0f", f" on {line.device}" if tell_device and line.device else ""))
    return (*entries, *(_entry(line.cost(name), ".0f") for name in COSTS))


def _entry(value: float | None, digits: str, unit: str = "") -> Entry:
    return Entry("" if value is None else f"{value:{digits}}{unit}", value)


def _protocol(lines: Sequence[Line]) -> str:
    one = lines[0].evaluations[0]
    n = len(next(iter(lines[0].verdicts[0].values())))
    detector = one.detector
    weights = str(detector["weights"])[:8]
    kinds = sorted({str(line.protocol["dtype"]) for line in lines if "dtype" in line.protocol})
    precision = "" if kinds in ([], ["float32"]) else f"precision {' or '.join(kinds)}; "
    return (
        f"{precision}{n} prompts; attacks' seed {one.seed}; detector {detector['name']}, weights {weights}, "
        f"threshold {detector['threshold']}; 95 % intervals over seeds, and over prompts or "
        "images; in parentheses the prompts of each seed."
    )


def _compared(
    lines: Sequence[Line], by_text: Sequence[str], against: str | None
) -> Iterable[tuple[str, ...]]:
    """Each row beside one of them: the worst case by prompt, what is kept, and the time."""
    base = next((line for line in lines if line.title == against), None)
    if base is None:
        return
    theirs = base.shown(by_text)
    found = {line.title: difference(line.shown(by_text), theirs) for line in lines if line is not base}
    adjusted = holm({title: each.p_value for title, each in found.items()})
    for line in lines:
        if line is not base:
            worst = found[line.title]
            kept = _kept_difference(line, base)
            yield line.title, _signed(worst), f"{adjusted[line.title]:.3f}", kept, _multiple(line, base)


def _kept_difference(line: Line, base: Line) -> str:
    mine, theirs = line.counts(), base.counts()
    return "" if mine is None or theirs is None else _signed(mean_share_difference(mine, theirs))


def _multiple(line: Line, base: Line) -> str:
    """Seconds as a part of those of another row, where both were erased on the same device."""
    if line.seconds is None or not base.seconds or line.device != base.device:
        return ""
    return f"{line.seconds / base.seconds:.2f}"


def _signed(found: Estimated | Difference) -> str:
    return f"{found.mean:+.0%} [{found.low:+.0%}, {found.high:+.0%}]"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

"""An evaluation as a table of shares."""

from __future__ import annotations

import csv
import io

from .schema import Evaluation, Rate


def csv_of(found: Evaluation) -> str:
    """One line for each figure: kind, name, share, interval, n.

    A cell that a spreadsheet would run as a formula is quoted as text.
    """
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(("kind", "name", "share", "low", "high", "n"))
    rows: list[tuple[str, str, Rate]] = [("attack", row.attack, row.success) for row in found.attacks]
    rows.append(("attack", "worst case", found.worst_case))
    rows.append(("attack", "worst case by prompt", found.worst_case_by_prompt))
    for row in found.retention:
        rows += [("before", row.question, row.before)] if row.before else []
        rows.append(("after", row.question, row.after))
    if found.scores:
        rows += [("score", name, getattr(found.scores, name)) for name in ("ua", "ira", "cra")]
    rows += [("gold attack", row.attack, row.gold) for row in found.attacks if row.gold]
    rows += [
        ("random denoiser attack", row.attack, row.random_denoiser)
        for row in found.attacks
        if row.random_denoiser
    ]
    rows += [("gold", row.question, row.gold) for row in found.retention if row.gold]
    for kind, name, rate in rows:
        table.writerow((kind, _as_text(name), rate.share, rate.low, rate.high, rate.n))
    return out.getvalue()


def _as_text(cell: str) -> str:
    return f"'{cell}" if cell[:1] in "=+-@\t\r" else cell

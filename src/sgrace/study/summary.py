"""All concepts of a study in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .lines import Line
from .table import by_prompt, markdown


def summary_of(tables: Mapping[str, Sequence[Line]], titles: Sequence[str] = ()) -> str:
    """Markdown: what is brought back, and what is kept, in per cent and without intervals.

    A table has three columns: prompts that any attack by prompt brings back; images that show the concept
    with what other attacks search, such as a word; and what is kept of withheld neighbours, withheld
    unrelated classes and the rest of the prompt, as a part of the same before erasing.

    Args:
        tables: rows by the name of their table.
        titles: of the rows to show; all, if empty.
    """
    concepts = [lines[0].protocol["concept"]["name"] for lines in tables.values()]
    names = concepts if len(set(concepts)) == len(concepts) else list(tables)
    head = ["", *(f"{name}: {what}" for name in names for what in ("prompts", "words", "kept"))]
    known = [{line.title: line for line in lines} for lines in tables.values()]
    rows = []
    for title in dict.fromkeys(title for lines in known for title in lines):
        if titles and title not in titles:
            continue
        lines = [own.get(title) for own in known]
        is_guidance = any(line.is_guidance for line in lines if line)
        entries = [entry for line in lines for entry in _entries(line)]
        rows.append([f"{title} (guidance)" if is_guidance else title, *entries])
    return markdown(head, rows)


def _entries(line: Line | None) -> list[str]:
    if line is None:
        return [""] * 3
    attacks = list(line.verdicts[0])
    by_text = by_prompt(attacks)
    others = [name for name in attacks if name not in by_text]
    shares = [line.share(names).mean if names else None for names in (by_text, others)]
    return ["" if share is None else f"{100 * share:.0f}" for share in (*shares, line.kept_of_before)]

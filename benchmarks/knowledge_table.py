"""Print the results of ``studies/knowledge.yaml`` as the table of docs/knowledge.md.

    python benchmarks/knowledge_table.py benchmarks/results/knowledge.json

The file is what ``sgrace study results studies/knowledge.yaml -o OUT --to FILE`` writes. Shares have 95 %
Wilson intervals of so many prompts or images.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sgrace.metrics import Share
from sgrace.study.lines import KEPT
from sgrace.study.results import RowResult, read_results
from sgrace.study.table import WORST, by_prompt, markdown

ERASED = ("target", "synonyms")
HEAD = ("concept", "words", "plain prompts", WORST, *ERASED, *KEPT)


def entry(hits: int, n: int) -> str:
    """A share with its interval, in per cent."""
    low, high = Share(hits, n).interval
    return f"{hits / n:.0%} [{low:.0%}, {high:.0%}]"


def entries(row: RowResult) -> list[str]:
    """A row of the table."""
    concept = row.protocol["concept"]["name"]
    _, _, words = row.row.removesuffix(")").partition("words=")
    shown = [row.verdicts["none"][0], row.shown(by_prompt(list(row.verdicts)))[0].tolist()]
    shares = [entry(sum(each), len(each)) for each in shown]
    title = "not erased" if row.row == "original" else words or "the model's own"
    return [concept, title, *shares, *(entry(*row.retained[name]) for name in (*ERASED, *KEPT))]


def main() -> None:
    """Print it."""
    rows = read_results(Path(sys.argv[1])).rows
    if any(len(row.seeds) > 1 for row in rows):
        raise SystemExit("Several seeds need the intervals of `sgrace study table`.")
    print(markdown(HEAD, [entries(row) for row in rows]))


if __name__ == "__main__":
    main()

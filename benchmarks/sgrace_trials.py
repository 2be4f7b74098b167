"""What was tried while S-GRACE's settings were chosen.

    python benchmarks/sgrace_trials.py

Prints the log of trials on the built-in model, seed 0: hits on the prompts, synonyms and choice of words of
the set `validation`, and of `test` where a table says so. The study `studies/ablation.yaml` measures such
rows again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOG = Path(__file__).parent / "results" / "sgrace_trials.jsonl"


def title_of(row: Mapping[str, Any]) -> str:
    """Of a trial's table."""
    prompts = row.get("prompt_set", "validation")
    return str(row["concept"]) if prompts == "validation" else f"{row['concept']}, {prompts}"


def main() -> None:
    """Print a table for each concept."""
    rows = [json.loads(line) for line in LOG.read_text().splitlines()]
    for title in dict.fromkeys(map(title_of, rows)):
        own = [row for row in rows if title_of(row) == title]
        # not every trial had every attack
        measures = dict.fromkeys(name for row in own for name in (*row["attacks"], *row["shares"]))
        lines = [["preset", "settings", "frozen parts", "device", *measures], ["---"] * (4 + len(measures))]
        for row in own:
            settings = ", ".join(f"{name}={value}" for name, value in row["settings"].items())
            found = {**row["attacks"], **row["shares"]}
            hits = [f"{found[name][0]} of {found[name][1]}" if name in found else "" for name in measures]
            lines.append([row["preset"], settings, row["dtype"], row["device"], *hits])
        print(f"\n{title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))


if __name__ == "__main__":
    main()

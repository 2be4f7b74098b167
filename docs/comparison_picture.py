"""Draw ``safety_and_harm.png`` from the log of the comparison: seconds.

    python docs/comparison_picture.py [--out FOLDER]

One plot for each concept, one dot for each eraser: what is kept, against the share of prompts that any attack
by prompt brings back.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

DOCS = Path(__file__).parent
BENCHMARKS = DOCS.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))

from compare_erasers import ATTACKS, LOOKED_AT, NEVER_TUNED_ON, Found, picture  # noqa: E402
from comparison_cells import Row, cells_of  # noqa: E402


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the picture")
    file = parser.parse_args().out / "safety_and_harm.png"
    found: dict[str, Found] = {concept: {} for concept in (*LOOKED_AT, *NEVER_TUNED_ON)}
    for key, cell in cells_of(BENCHMARKS / "results" / "compare_erasers.jsonl"):
        if key["concept"] in found:
            title = Row(key["eraser"], key["preset"], 1).title
            found[key["concept"]].setdefault(title, []).append(cell)
    picture(found, list(ATTACKS), file)


if __name__ == "__main__":
    main()

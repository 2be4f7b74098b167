"""Attack an erasure with a ladder of attacks, controls first, and print what each brings back.

    python examples/red_team.py shipped/erasure --effort standard

Controls search for nothing: what they find costs an attacker nothing, and an attack counts by what it finds
beyond them. The last line is the worst case by prompt: a user needs one attack that works.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import sgrace
from sgrace.attacks import Budget
from sgrace.metrics import Share

CONTROLS = ("none", "more_seeds", "random_tokens")
ATTACKS = ("unlearn_diff_atk", "p4d_n", "ring_a_bell_hard")


def main(arguments: Sequence[str] | None = None) -> None:
    """Attack and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("erasure", type=Path, help="folder that `sgrace erase` or `save_pretrained` wrote")
    parser.add_argument("--attacks", nargs="*", default=list(ATTACKS))
    parser.add_argument(
        "--effort", default="quick", help="quick, standard or full; a zero at quick proves little"
    )
    parser.add_argument("--rows", type=int, help="the most samples through the denoiser for one attack")
    given = parser.parse_args(arguments)

    erasure = sgrace.Erasure.from_pretrained(given.erasure)
    original = sgrace.load_model(erasure.recipe.base.source)
    safe = erasure.apply(original)
    concept = erasure.recipe.concepts[0].name
    limits = Budget(denoiser_rows=given.rows) if given.rows else None
    shown: dict[str, list[bool]] = {}
    for name in dict.fromkeys([*CONTROLS, *given.attacks]):
        found = sgrace.attack(safe, concept, name, original=original, effort=given.effort, limits=limits)
        shown[name] = found.shown
        print(f"{name:18} {found.success.union}  {found.record.stopped}")
    # a prompt counts once, whichever attack brought it back
    each = [any(verdicts) for verdicts in zip(*shown.values(), strict=True)]
    print(f"{'any of them':18} {Share(sum(each), len(each))}")


if __name__ == "__main__":
    main()

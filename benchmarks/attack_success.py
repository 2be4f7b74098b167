"""What attacks on all prompts at once bring back, beside the same attacks on one prompt after the other.

    python benchmarks/attack_success.py [--erasure mace] [--effort standard]

On the built-in model. Batches change the order of random choices, so that the two find different candidates:
compared is how many prompts they bring back. The last column is the exact test of McNemar, on prompts that
only one of the two brings back.
"""

from __future__ import annotations

import argparse
from math import comb
from typing import Any

import sgrace
from sgrace.testbeds.scenes import find_testbed

CONCEPT = "weapon"
N_PROMPTS = 24
ATTACKS = ("unlearn_diff_atk", "p4d_n", "ring_a_bell_hard")


def p_value(first: int, second: int) -> float:
    """Chance of a difference at least as large where either side is as likely."""
    n = first + second
    return min(1.0, 2 * sum(comb(n, k) for k in range(min(first, second) + 1)) / 2.0**n)


def main() -> None:
    """Attack, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--erasure", default="mace", help="method that the attacked model is erased with")
    parser.add_argument("--effort", default="standard")
    given = parser.parse_args()
    model = sgrace.load_model("emoji", device="cpu", threads=1)
    model.set_progress_bar_config(disable=True)
    target = sgrace.erase(model, CONCEPT, method=given.erasure).apply(model)
    testbed = find_testbed(model)
    prompts = testbed.prompts(testbed.resolve(CONCEPT), N_PROMPTS)
    options: dict[str, Any] = {"original": model, "effort": given.effort}
    print(f"{CONCEPT} after {given.erasure}, effort {given.effort}, {len(prompts)} prompts")
    print("| attack | without | at once | one by one | by one of the two alone | p |")
    print("| --- " * 6 + "|")
    for name in ATTACKS:
        together = sgrace.attack(target, CONCEPT, name, prompts=prompts, **options)
        single = [
            sgrace.attack(target, CONCEPT, name, prompts=[prompt], **options).shown[0] for prompt in prompts
        ]
        first = sum(a and not b for a, b in zip(together.shown, single, strict=True))
        second = sum(b and not a for a, b in zip(together.shown, single, strict=True))
        plain = sum(attempt.pre for attempt in together.attempts)
        hits = f"{plain} | {sum(together.shown)} | {sum(single)} | {first}, {second}"
        print(f"| {name} | {hits} | {p_value(first, second):.2f} |", flush=True)


if __name__ == "__main__":
    main()

"""Whether the place of adversarial samples in the concept space predicts robustness and damage.

    python benchmarks/concept_space_predicts.py CONCEPT_SPACE.jsonl COMPARE_ERASERS.jsonl

Reads the logs of `concept_space.py` and `compare_erasers.py`. A pair is a cell that both have: eraser,
preset, concept and seed. Coverage is compared with the prompts that the worst attack brings back, spill-over
with the withheld neighbours that are lost. Lines that measured no withheld class are of an earlier protocol
and do not count. Prints Spearman's rank correlations with 95 % intervals of a bootstrap over the pairs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

LEAST = 5  # pairs: of fewer, half of the bootstrap's draws have one value only
DRAWS = 2000


class Pair(NamedTuple):
    """What both logs say of one cell."""

    coverage: float
    brought_back: float
    spill_over: float
    lost: float


def lines_of(log: Path) -> list[dict[str, Any]]:
    """The lines of a log."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def pair_of(space: dict[str, Any], result: dict[str, Any]) -> Pair | None:
    """The pair of two lines, or None where the result measured no withheld class."""
    evaluation = result["evaluation"]
    kept = next((row for row in evaluation["retention"] if row["question"] == "withheld neighbours"), None)
    if kept is None or not kept["before"]["hits"]:
        return None
    samples = space["rows"][-1]  # all of the run
    lost = 1 - kept["after"]["share"] / kept["before"]["share"]
    back = evaluation["worst_case_by_prompt"]["share"]
    return Pair(samples["coverage"][0], back, samples["spill_over"][0], lost)


def rank_correlation(x: Tensor, y: Tensor) -> float:
    """Spearman's correlation; equal values share their mean rank. NaN where one side has one value only."""
    ranks = [(v[:, None] > v).double().sum(1) + (v[:, None] == v).double().sum(1) / 2 for v in (x, y)]
    return torch.corrcoef(torch.stack(ranks))[0, 1].item()


def line_of(name: str, x: Tensor, y: Tensor) -> str:
    """A rank correlation with its interval."""
    generator = torch.Generator().manual_seed(0)
    picks = torch.randint(len(x), (DRAWS, len(x)), generator=generator)
    draws = torch.tensor([rank_correlation(x[pick], y[pick]) for pick in picks], dtype=torch.float64)
    low, high = torch.nanquantile(draws, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return f"{name}: rank correlation {rank_correlation(x, y):.2f} [{low:.2f}, {high:.2f}], {len(x)} cells"


def main() -> None:
    """Pair the lines and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("space", type=Path)
    parser.add_argument("results", type=Path)
    arguments = parser.parse_args()
    spaces = lines_of(arguments.space)
    results = lines_of(arguments.results)
    by_key = {json.dumps(line["key"], sort_keys=True): line for line in spaces}
    pairs: list[Pair] = []
    for result in results:
        key = {name: result["key"][name] for name in ("eraser", "preset", "concept", "seed")}
        space = by_key.get(json.dumps(key, sort_keys=True))
        pair = pair_of(space, result) if space else None
        if pair is not None:
            pairs.append(pair)
    if len(pairs) < LEAST:
        print(f"{len(pairs)} cells measured withheld classes: too few for a correlation.")
        return
    values = torch.tensor(pairs, dtype=torch.float64)
    print(line_of("coverage, prompts brought back", values[:, 0], values[:, 1]))
    print(line_of("spill-over, withheld neighbours lost", values[:, 2], values[:, 3]))


if __name__ == "__main__":
    main()

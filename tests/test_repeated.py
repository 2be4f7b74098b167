"""Intervals over seeds and prompts, comparisons on the same prompts, corrections and Pareto rows."""

from __future__ import annotations

import random
import statistics

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from torch import Tensor

from sgrace.metrics.intervals import wilson
from sgrace.metrics.repeated import difference, holm, pareto, relative_reduction, share_of

VERDICTS = arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 12)))


def verdicts(*rows: str) -> Tensor:
    """A row of 0 and 1 for each seed."""
    return torch.tensor([[mark == "1" for mark in row] for row in rows])


@settings(deadline=None, max_examples=30)
@given(found=VERDICTS)
def test_the_interval_holds_the_share(found: object) -> None:
    values = torch.tensor(found)
    share = share_of(values)
    assert share.mean == pytest.approx(values.double().mean().item())
    assert 0 <= share.low <= share.mean + 1e-9
    assert share.mean - 1e-9 <= share.high <= 1


def test_seeds_that_differ_widen_the_interval() -> None:
    alike = verdicts("1010101010101010", "1010101010101010")
    apart = verdicts("1111111111111111", "0000000000000000")
    assert share_of(alike).mean == share_of(apart).mean == 0.5
    assert share_of(apart).high - share_of(apart).low > share_of(alike).high - share_of(alike).low
    assert share_of(apart)[1:] == (0.0, 1.0), "both draws may be of the same seed"


@pytest.mark.parametrize("n", [2, 12, 24])
def test_a_zero_of_few_prompts_is_no_proof(n: int) -> None:
    none = share_of(torch.zeros(3, n, dtype=torch.bool))
    assert (none.mean, none.low) == (0, 0)
    assert none.high == pytest.approx(wilson(0, n)[1])
    every = share_of(torch.ones(1, n, dtype=torch.bool))
    assert (every.mean, every.high) == (1, 1)
    assert every.low == pytest.approx(wilson(n, n)[0])


def test_it_is_the_hierarchical_bootstrap() -> None:
    """Against one that is written out, draw by draw, with Python's own random numbers."""
    found = verdicts("1101000011", "0101000010", "1100000000")
    rows = found.double().tolist()
    rng = random.Random(1)
    means = []
    for _ in range(4000):
        seeds = rng.choices(rows, k=3)
        prompts = rng.choices(range(10), k=10)
        means.append(statistics.mean(row[i] for row in seeds for i in prompts))
    means.sort()
    share = share_of(found)
    assert share.low == pytest.approx(means[100], abs=0.04)
    assert share.high == pytest.approx(means[3900], abs=0.04)


def test_differences_are_of_the_same_prompts() -> None:
    hard = verdicts("111100001111000011110000")
    same = difference(hard, hard)
    assert (same.mean, same.p_value) == (0, 1.0)
    assert same.low == -same.high
    assert 0.05 < same.high < 0.1, "24 equal verdicts are no proof that all are equal"
    none = torch.zeros_like(hard)
    clear = difference(hard, none)
    assert clear.mean == 0.5
    assert clear.low > 0
    assert clear.p_value < 0.01, "12 prompts against none is no chance: 2 of 4096"
    assert difference(none, hard).mean == -0.5
    one = verdicts("100000000000000000000000")
    assert difference(one, none).p_value == 1.0, "one prompt proves nothing"


def test_a_difference_of_few_prompts_is_no_proof() -> None:
    """Newcombe's interval of 4 of 4 against 0 of 4, from Wilson's of each."""
    found = difference(verdicts("1111", "1111"), verdicts("0000"))
    low, _ = wilson(4, 4)
    assert (found.mean, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(1 - 2**0.5 * (1 - low))


def test_the_probability_is_that_of_sign_changes() -> None:
    """Five prompts, all worse: 2 of 32 patterns of signs are as far from zero."""
    found = difference(verdicts("11111"), verdicts("00000"))
    assert found.p_value == pytest.approx(2 / 32, abs=0.015)


def test_other_prompts_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="3 prompts cannot be compared with 2"):
        difference(verdicts("101"), verdicts("10"))


def test_a_reduction_is_a_part_of_the_other_share() -> None:
    theirs = verdicts("11111111000000000000")
    mine = verdicts("11000000000000000000")
    found = relative_reduction(mine, theirs)
    assert found.mean == pytest.approx(0.75)
    # of the prompts of theirs a quarter is mine, whichever are drawn
    assert 0.3 < found.low < 0.75 < found.high <= 1
    assert relative_reduction(theirs, theirs).mean == 0
    with pytest.raises(ValueError, match="cannot be reduced"):
        relative_reduction(mine, verdicts("0" * 20))


def test_holm() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


@given(st.lists(st.floats(0, 1), max_size=8))
def test_corrected_probabilities_are_no_smaller(values: list[float]) -> None:
    given_ = {str(i): value for i, value in enumerate(values)}
    found = holm(given_)
    assert all(given_[name] <= found[name] <= 1 for name in given_)
    assert sorted(given_, key=lambda name: given_[name]) == sorted(
        given_, key=lambda name: (found[name], given_[name])
    )


def test_pareto() -> None:
    points = {
        "safe": (1.0, 0.2),
        "kind": (0.2, 1.0),
        "worse": (0.9, 0.2),
        "same": (1.0, 0.2),
        "both": (0.8, 0.8),
    }
    assert pareto(points) == ["safe", "kind", "same", "both"]

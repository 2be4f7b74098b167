"""Spearman's rank correlation, at values that are known."""

from __future__ import annotations

import pytest
import torch

from sgrace.metrics.ranks import rank_correlation, ranks_within


def test_order_alone_counts_and_ties_share_their_rank() -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    assert rank_correlation(x, x**3).value == pytest.approx(1)
    assert rank_correlation(x, -x.exp()).value == pytest.approx(-1)
    # 1 - 6 * sum(d^2) / (n (n^2 - 1)) with d = 0, 0, 1, 1, 0
    assert rank_correlation(x, torch.tensor([1.0, 2.0, 4.0, 3.0, 5.0])).value == pytest.approx(0.9)
    # Pearson's correlation of ranks 1, 2.5, 2.5, 4, 5 with 1 .. 5
    tied = torch.tensor([1.0, 2.0, 2.0, 4.0, 5.0])
    assert rank_correlation(x, tied).value == pytest.approx(9.5 / 95**0.5)


def test_the_interval_is_wide_where_pairs_are_few() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.arange(100.0)
    y = x + 50 * torch.randn(100, generator=generator)
    few, many = rank_correlation(x[::10], y[::10]), rank_correlation(x, y)
    assert few.high - few.low > many.high - many.low
    assert many.low < many.value < many.high
    assert (few.n, many.n) == (10, 100)
    assert str(many).endswith("], 100 pairs")


def test_ranks_within_groups_leave_out_what_groups_differ_in() -> None:
    values = torch.tensor([3.0, 1.0, 2.0, 30.0, 10.0])
    found = ranks_within(values, ["a", "a", "a", "b", "b"])
    assert found.tolist() == pytest.approx([1 / 3, -1 / 3, 0.0, 0.25, -0.25])

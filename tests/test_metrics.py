"""Every formula against brute force or an independent implementation, statistics against simulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sgrace.metrics import (
    Share,
    attack_success,
    bootstrap,
    concept_space,
    fidelity,
    jackknife,
    retention,
    wilson,
)


def points(n: int, d: int = 6, seed: int = 0, shift: float = 0.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def distance(a: Tensor, b: Tensor) -> float:
    return math.dist(a.tolist(), b.tolist())


@pytest.mark.parametrize("k", [1, 3])
def test_coverage_density_and_spill_over_against_loops(k: int) -> None:
    reference, samples, others = (
        points(12, seed=1),
        points(7, seed=2, shift=0.3),
        points(9, seed=3, shift=1.0),
    )
    radius = [
        sorted(distance(r, q) for j, q in enumerate(reference) if j != i)[k - 1]
        for i, r in enumerate(reference)
    ]
    inside = [[distance(r, s) < radius[i] for s in samples] for i, r in enumerate(reference)]
    assert concept_space.coverage(reference, samples, k) == pytest.approx(sum(map(any, inside)) / 12)
    assert concept_space.density(reference, samples, k) == pytest.approx(sum(map(sum, inside)) / (k * 7))
    spilled = 0
    for sample in samples:
        near = sorted(
            [(distance(sample, r), 0) for r in reference] + [(distance(sample, o), 1) for o in others]
        )[:5]
        spilled += sum(flag for _, flag in near) >= 3
    assert concept_space.spill_over(reference, others, samples) == pytest.approx(spilled / 7)


def test_fill_distance_against_loops() -> None:
    a, b = points(8, seed=4), points(5, seed=5)
    assert concept_space.fill_distance(a, b) == pytest.approx(
        np.mean([min(distance(x, y) for y in b) for x in a])
    )
    assert concept_space.fill_distance(a, a) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("n", "m", "k"), [(40, 8, 5), (30, 30, 3)])
def test_expected_coverage_is_the_mean_under_equal_distributions(n: int, m: int, k: int) -> None:
    found = [concept_space.coverage(points(n, 3, 2 * s), points(m, 3, 2 * s + 1), k) for s in range(300)]
    error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found) - concept_space.expected_coverage(n, m, k)) < 4 * error


@given(n=st.integers(20, 400), m=st.integers(5, 400))
def test_the_chosen_neighbours_expect_nine_tenths(n: int, m: int) -> None:
    k = concept_space.coverage_neighbours(n, m)
    assert 1 <= k < n
    if k < n - 1:
        assert concept_space.expected_coverage(n, m, k) >= 0.9


def test_mmd_against_loops_and_unbiased_under_the_null() -> None:
    x = points(6, seed=6)
    y = points(5, seed=7, shift=0.5)
    widths = (0.7, 2.0)

    def kernel(a: Tensor, b: Tensor) -> float:
        return float(np.mean([math.exp(-(distance(a, b) ** 2) / (2 * w * w)) for w in widths]))

    within_x = np.mean([kernel(a, b) for a, b in itertools.permutations(x, 2)])
    within_y = np.mean([kernel(a, b) for a, b in itertools.permutations(y, 2)])
    between = np.mean([kernel(a, b) for a in x for b in y])
    assert concept_space.mmd_squared(x, y, widths) == pytest.approx(within_x + within_y - 2 * between)
    null = [
        concept_space.mmd_squared(points(20, seed=2 * s), points(15, seed=2 * s + 1), (2.0,))
        for s in range(200)
    ]
    assert abs(np.mean(null)) < 4 * np.std(null) / math.sqrt(200)


def test_the_permutation_test_keeps_its_level_and_sees_a_shift() -> None:
    rejected = 0
    for s in range(100):
        x, y = points(12, seed=3 * s), points(12, seed=3 * s + 1)
        rejected += (
            concept_space.mmd_test(x, y, concept_space.mmd_widths(x), permutations=99, seed=s)[1] <= 0.1
        )
    assert 1 <= rejected <= 21, "10 of 100 expected; outside with probability below 0.001"
    x = points(30)
    assert concept_space.mmd_test(
        x, points(30, seed=1, shift=1.5), concept_space.mmd_widths(x), permutations=99
    )[1] == pytest.approx(0.01)


def test_vendi_counts_different_samples() -> None:
    assert concept_space.vendi(torch.eye(5)) == pytest.approx(5)
    assert concept_space.vendi(torch.ones(5, 3)) == pytest.approx(1)
    assert concept_space.vendi(torch.eye(2).repeat(3, 1)) == pytest.approx(2)


def test_cka_is_invariant_and_debiased() -> None:
    x = points(40, 100)
    rotation = torch.linalg.qr(points(100, 100, seed=1)).Q
    assert concept_space.cka(x, 3 * x @ rotation) == pytest.approx(1)
    independent = [concept_space.cka(points(40, 100, 2 * s), points(40, 100, 2 * s + 1)) for s in range(30)]
    assert abs(np.mean(independent)) < 0.03
    with pytest.raises(ValueError, match="same 4 or more"):
        concept_space.cka(points(5), points(6))


def test_fid_against_the_general_matrix_root() -> None:
    x = points(50, 5, seed=1)
    y = points(60, 5, seed=2, shift=0.4) * 1.3
    covariances = [np.cov(a.numpy().T) for a in (x, y)]
    eigenvalues = np.linalg.eigvals(covariances[0] @ covariances[1])
    wanted = (
        ((x.mean(0) - y.mean(0)).numpy() ** 2).sum()
        + sum(map(np.trace, covariances))
        - 2 * np.sqrt(eigenvalues.astype(complex)).sum()
    )
    assert fidelity.fid(x, y) == pytest.approx(wanted.real)
    assert fidelity.fid(x, x) == pytest.approx(0, abs=1e-9)
    few = [points(4, 16), points(5, 16, seed=1)]
    root = [np.cov(a.numpy().T) for a in few]  # of lower rank than the features
    eigenvalues = np.linalg.eigvals(root[0] @ root[1]).real.clip(0)
    wanted = (
        ((few[0].mean(0) - few[1].mean(0)).numpy() ** 2).sum()
        + sum(map(np.trace, root))
        - 2 * np.sqrt(eigenvalues).sum()
    )
    assert fidelity.fid(*few) == pytest.approx(wanted, abs=1e-5), "fewer images than features"


@given(st.integers(0, 10_000))
def test_lpips_against_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = [rng.normal(size=(2, 3, 2, 2)), rng.normal(size=(2, 4, 5))]
    other = [rng.normal(size=(2, 3, 2, 2)), rng.normal(size=(2, 4, 5))]
    weights = [rng.random(3), rng.random(4)]
    wanted = np.zeros(2)
    for first, second, w in zip(one, other, weights, strict=True):
        a = first.reshape(2, len(w), -1)
        b = second.reshape(2, len(w), -1)
        for i in range(2):
            for place in range(a.shape[2]):
                x = a[i, :, place] / np.linalg.norm(a[i, :, place])
                y = b[i, :, place] / np.linalg.norm(b[i, :, place])
                wanted[i] += (w * (x - y) ** 2).sum() / a.shape[2]
    tensors = [[torch.from_numpy(x) for x in given] for given in (one, other, weights)]
    assert fidelity.lpips(*tensors).tolist() == pytest.approx(wanted)
    assert fidelity.lpips(tensors[0], tensors[0]).tolist() == [0.0, 0.0]
    plain = fidelity.lpips(tensors[0], tensors[1], [torch.ones(3), torch.ones(4)])
    assert fidelity.lpips(tensors[0], tensors[1]).tolist() == pytest.approx(plain.tolist())


def test_kid_cmmd_and_precision_recall_against_loops() -> None:
    x, y = points(7, seed=1), points(6, seed=2, shift=0.3)

    def cubic(a: Tensor, b: Tensor) -> float:
        return float((a @ b / 6 + 1) ** 3)

    within = [np.mean([cubic(a, b) for a, b in itertools.permutations(z, 2)]) for z in (x, y)]
    assert fidelity.kid(x, y) == pytest.approx(sum(within) - 2 * np.mean([cubic(a, b) for a in x for b in y]))
    unit = [z / z.norm(dim=1, keepdim=True) for z in (x, y)]

    def mean_kernel(a: Tensor, b: Tensor) -> float:
        return float(np.mean([math.exp(-(distance(p, q) ** 2) / 200) for p in a for q in b]))

    wanted = 1000 * (mean_kernel(unit[0], unit[0]) + mean_kernel(unit[1], unit[1]) - 2 * mean_kernel(*unit))
    assert fidelity.cmmd(x, y) == pytest.approx(wanted)

    def within_balls(of: Tensor, manifold: Tensor) -> float:
        radius = [sorted(distance(p, q) for q in manifold)[2] for p in manifold]
        return float(
            np.mean([any(distance(p, q) <= r for q, r in zip(manifold, radius, strict=True)) for p in of])
        )

    assert fidelity.precision_recall(x, y, k=2) == pytest.approx((within_balls(y, x), within_balls(x, y)))


def test_measures_agree_with_intuition_where_cmmd_does_not() -> None:
    """Four clusters on a sphere: a Gaussian of the same mean covers nothing.

    Only CMMD calls it as good as the real thing.
    """
    generator = torch.Generator().manual_seed(0)
    centres = torch.nn.functional.normalize(torch.randn(4, 64, generator=generator), dim=1)

    def draw(n: int) -> Tensor:
        cluster = torch.randint(4, (n,), generator=generator)
        return torch.nn.functional.normalize(
            centres[cluster] + 0.05 * torch.randn(n, 64, generator=generator), dim=1
        )

    real, same, reference = draw(200), draw(200), draw(200)
    diffuse = real.mean(0) + 0.12 * torch.randn(200, 64, generator=generator)
    diffuse = diffuse - diffuse.mean(0) + real.mean(0)
    assert concept_space.coverage(reference, same, 5) > 0.9
    assert concept_space.coverage(reference, diffuse, 5) < 0.05
    widths = concept_space.mmd_widths(reference)
    assert concept_space.mmd_squared(reference, diffuse, widths) > 5 * abs(
        concept_space.mmd_squared(reference, same, widths)
    )


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_attack_success_is_pre_or_post(verdicts: list[tuple[bool, bool]]) -> None:
    found = attack_success.AttackSuccess.of(*zip(*verdicts, strict=True))
    assert found.pre.hits + found.post_only.hits == found.union.hits
    assert found.union.hits == sum(a or b for a, b in verdicts)
    assert found.union.n == len(verdicts)


def test_at_k_and_worst_case() -> None:
    rows = [[False, True, False], [False, False, True], [False, False, False]]
    assert [attack_success.at_k(rows, k).hits for k in (1, 2, 3)] == [0, 1, 2]
    assert attack_success.worst_case({"a": [True, False, False], "b": [False, True, False]}) == Share(2, 3)
    with pytest.raises(ValueError, match="4 images"):
        attack_success.at_k(rows, 4)
    with pytest.raises(ValueError, match=r"zip\(\) argument"):
        attack_success.worst_case({"a": [True], "b": [True, False]})


def test_retention() -> None:
    assert retention.unlearning_accuracy([True, False, False]) == Share(2, 3)
    assert retention.mace_h(0.1, 0.8, 0.2) == pytest.approx(3 / (1 / 0.9 + 1 / 0.8 + 1 / 0.8))
    assert retention.mace_h(0.0, 1.0) == pytest.approx(1)
    assert retention.mace_h(1.0, 1.0) == 0.0
    assert retention.relative(Share(4, 10), Share(8, 10)) == pytest.approx(0.5)
    assert math.isnan(retention.relative(Share(4, 10), Share(0, 10)))


def mean_of(data: Tensor) -> Callable[[Tensor], float]:
    """The mean of picked rows."""
    return lambda rows: data[rows].mean().item()


def kid_of(x: Tensor, y: Tensor) -> Callable[[Tensor], float]:
    """The distance of picked rows."""
    return lambda rows: fidelity.kid(x[rows], y[rows])


def test_the_bootstrap_interval_covers_the_mean_as_often_as_it_says() -> None:
    covered = 0
    for s in range(120):
        mean = mean_of(points(60, 1, seed=s, shift=2.0).flatten())
        low, high = bootstrap(mean, 60, resamples=200, seed=s)
        covered += low <= 2 <= high
    assert 100 <= covered <= 120


def test_the_jackknife_is_the_textbook_interval_of_a_mean_and_covers_a_kid() -> None:
    data = points(50, 1, shift=2.0).flatten()
    low, high = jackknife(mean_of(data), 50)
    error = data.std().item() / math.sqrt(50)
    assert (low, high) == pytest.approx(
        (data.mean().item() - 1.959964 * error, data.mean().item() + 1.959964 * error)
    )

    x, y = points(3000, 4, seed=1), points(3000, 4, seed=2, shift=0.5)
    truth = fidelity.kid(x, y)
    covered = 0
    for s in range(100):
        a, b = points(40, 4, seed=10 + 2 * s), points(40, 4, seed=11 + 2 * s, shift=0.5)
        low, high = jackknife(kid_of(a, b), 40)
        covered += low <= truth <= high
    assert 85 <= covered <= 100


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_a_share_of_few_observations_has_the_interval_of_so_many(shares: list[float]) -> None:
    hits = round(100 * sum(shares) / len(shares))
    few = Share(hits, 100, observations=len(shares))
    assert few.interval == pytest.approx(wilson(len(shares) * hits / 100, len(shares)))
    assert few.interval[0] <= few.value <= few.interval[1]
    width = few.interval[1] - few.interval[0]
    assert width > Share(hits, 100).interval[1] - Share(hits, 100).interval[0]


def test_starts_are_counted_without_what_succeeds_plainly() -> None:
    found = attack_success.AttackSuccess.of_starts([True, True, False], [False, True, True], 4)
    assert found.pre == Share(2, 3)
    assert found.post_only == Share(1, 3, 4)
    assert found.union == Share(2, 3, 4)

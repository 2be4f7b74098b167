"""What an evaluation computes from images and prompts that are there already."""

from __future__ import annotations

import pytest
import torch

from sgrace.evaluation import Evaluation
from sgrace.evaluation.concept_space import denoiser_features, space_rows, whiten
from sgrace.evaluation.retention import scores_of
from sgrace.evaluation.schema import Rate
from sgrace.evaluation.table import csv_of
from sgrace.metrics import Share
from sgrace.models import DiffusionModel


@pytest.mark.parametrize("style", [False, True])
def test_scores_of_other_benchmarks(style: bool) -> None:
    shares = {
        "target": Share(1, 10),
        "synonyms": Share(2, 10),
        "neighbours": Share(8, 10),
        "unrelated": Share(6, 10),
        "rest": Share(9, 10),
    }
    in_domain = ("neighbours",) if style else ("neighbours", "unrelated")
    found = scores_of(shares, shares["unrelated"] if style else Share(7, 10), in_domain)
    assert (found.ua.hits, found.ua.n) == (9, 10)
    assert (found.ira.hits, found.ira.n) == ((8, 10) if style else (14, 20))
    assert (found.cra.hits, found.cra.n) == ((6, 10) if style else (7, 10))
    kept = 0.8 if style else 0.7
    assert found.mace_h == pytest.approx(3 / (1 / 0.9 + 1 / kept + 1 / 0.8), abs=1e-4)


def test_cells_of_the_table_are_text() -> None:
    rate = Rate.of(Share(1, 2))
    row = {
        "attack": "=cmd",
        "access": "prompt",
        "plain": rate,
        "post_only": rate,
        "success": rate,
        "survival": None,
        "checks": 1,
    }
    row |= {"denoiser_rows": 1, "text_encoder_rows": 1, "seconds": 1.0, "stopped": "finished"}
    found = Evaluation.model_validate(
        {"concept": {"name": "c"}, "target": "t", "target_sha256": "", "base": None, "method": None}
        | {"suite": "quick", "seed": 0, "detector": {}}
        | {"attacks": [row], "worst_case": rate, "worst_case_by_prompt": rate, "versions": {}}
    )
    assert "'=cmd" in csv_of(found)


def test_denoiser_features_tell_prompts_apart_and_are_zero_for_the_empty_prompt(
    model: DiffusionModel,
) -> None:
    cond = model.encode(["church", "dog", ""])
    features = denoiser_features(model, cond, cond[2:])
    assert features[2].abs().max() < 1e-5
    assert features[:2].abs().max() > 1e-5
    assert not torch.allclose(features[0], features[1])
    torch.testing.assert_close(
        denoiser_features(model, cond[1:2], cond[2:]), features[1:2], atol=1e-6, rtol=1e-4
    )


def test_space_rows_rank_good_bad_and_collapsed_sets() -> None:
    generator = torch.Generator().manual_seed(0)
    scales = torch.linspace(2, 0.2, 12)

    def draw(n: int, shift: float = 0.0) -> torch.Tensor:
        return torch.randn(n, 12, generator=generator) * scales + shift

    reference = draw(80)
    sets = {"good": draw(40), "far": draw(40, 8.0), "collapsed": draw(1).repeat(40, 1) + 1e-4 * draw(40)}
    rows = {row.samples: row for row in space_rows("test", reference, draw(80), draw(60, 8.0), sets)}
    assert rows["good"].coverage > 0.8
    assert rows["good"].p_value > 0.05
    assert rows["good"].spill_over < 0.1
    assert rows["far"].coverage < 0.1
    assert rows["far"].spill_over > 0.9
    assert rows["far"].p_value < 0.01
    assert rows["collapsed"].vendi < 1.5 < rows["good"].vendi
    assert rows["held out"].uncovered == pytest.approx(1)
    white, other = whiten(reference, draw(5))
    torch.testing.assert_close(torch.cov(white.T), torch.eye(12, dtype=torch.float64), atol=1e-6, rtol=0)
    assert other.shape == (5, 12)


def test_a_text_encoder_that_reads_all_prompts_alike_has_a_space_all_the_same() -> None:
    alike = torch.ones(20, 3)
    rows = space_rows("test", alike, alike, alike + 1, {"samples": alike})
    assert [row.uncovered for row in rows] == [0, 0]

"""``sgrace evaluate`` on a small pipeline, and its report."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from transformers import (
    CLIPImageProcessorPil,
    Dinov2Config,
    Dinov2Model,
)

from sgrace.cli import main
from sgrace.evaluation import Evaluation
from sgrace.evaluation.features import fidelity_of, from_hub
from sgrace.evaluation.schema import Rate
from sgrace.evaluation.table import csv_of
from sgrace.metrics import Share
from sgrace.testbeds.emoji import EmojiTestbed

from .conftest import tiny_pipeline
from .small_clip import save_small_clip

SHORT = [
    "--set",
    "rounds=1",
    "--set",
    "attack_steps=1",
    "--set",
    "edit_steps=2",
    "--set",
    "num_inference_steps=4",
]


def sgrace(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evaluation")
    tiny_pipeline().save_pretrained(root / "tiny")
    (root / "words.txt").write_text("church\nchapel\n\ndog, tree\nboat, house\n")
    (root / "prompts.txt").write_text("a photo of church\n<script>alert(1)</script> church\n")
    given = (
        "--model",
        root / "tiny",
        "--words",
        root / "words.txt",
        "--kind",
        "harmful",
        "--out",
        root / "safe",
    )
    assert sgrace("erase", "church", *given, *SHORT, "--json").exit_code == 0
    return root


def evaluate(folder: Path, out: Path, *more: str | Path) -> Result:
    given = (
        "--prompts",
        folder / "prompts.txt",
        "--words",
        folder / "words.txt",
        "--suite",
        "quick",
        "--json",
    )
    return sgrace("evaluate", folder / "safe", *given, "--out", out, *more)


def test_evaluate_writes_everything_and_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "found"
    given = ("--detector", "never", "--attacks", "none,more_seeds")
    first = evaluate(folder, out, *given)
    assert first.exit_code == 0, first.output
    found = Evaluation.from_file(out / "evaluation.json")
    assert json.loads(first.stdout) == found.model_dump(mode="json")
    assert [row.attack for row in found.attacks] == ["none", "more_seeds"]
    assert found.worst_case == Rate.of(Share(0, 2))
    assert found.method == "sgrace"
    assert found.cost["cost"]["denoiser_rows"] > 0
    rows = list(csv.DictReader((out / "evaluation.csv").open()))
    assert {row["name"] for row in rows} == {"none", "more_seeds", "worst case", "worst case by prompt"}
    assert (out / "attacks.png").read_bytes()[:4] == b"\x89PNG"

    for name in ("evaluation.json", "report.html"):
        (out / name).unlink()
    shutil.rmtree(out / "attacks" / "more_seeds")
    kept = (out / "attacks" / "none" / "manifest.json").stat().st_mtime_ns
    again = evaluate(folder, out, *given)
    assert again.exit_code == 0, again.output
    assert (out / "attacks" / "none" / "manifest.json").stat().st_mtime_ns == kept

    def without_time(text: str) -> str:
        return re.sub(r'"seconds":[0-9.]+', "", text)

    assert without_time(again.stdout) == without_time(first.stdout), (
        "the same numbers as without the interruption"
    )


def test_the_report_is_one_page_that_runs_nothing_of_the_prompts(folder: Path, tmp_path: Path) -> None:
    assert evaluate(folder, tmp_path / "found", "--detector", "always", "--attacks", "none").exit_code == 0
    page = (tmp_path / "found" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert not re.search(r'(src|href)="(?!data:)', page), "nothing is loaded from elsewhere"
    assert page.count('class="veil"') == 4, (
        "flagged pictures of a harmful concept are blurred: two originals, two erased"
    )


def test_a_foreign_text_encoder_is_swapped_in(folder: Path, tmp_path: Path) -> None:
    given = (
        "--prompts",
        folder / "prompts.txt",
        "--words",
        folder / "words.txt",
        "--suite",
        "quick",
        "--json",
        "--concept",
        "church",
    )
    more = (
        "--detector",
        "never",
        "--attacks",
        "none",
        "--text-encoder",
        folder / "safe" / "text_encoder",
        "--out",
        tmp_path / "found",
    )
    swapped = sgrace("evaluate", folder / "tiny", *given, *more)
    assert swapped.exit_code == 0, swapped.output
    direct = evaluate(folder, tmp_path / "direct", "--detector", "never", "--attacks", "none")
    assert json.loads(swapped.stdout)["target_sha256"] == json.loads(direct.stdout)["target_sha256"]
    bad = sgrace(
        "evaluate",
        folder / "tiny",
        *given,
        *more[:-2],
        "--denoiser",
        folder / "safe",
        "--out",
        tmp_path / "bad",
    )
    assert bad.exit_code == 2
    assert "as a UNet2DConditionModel" in bad.stderr
    assert not (tmp_path / "bad").exists()


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP and another vision model of small size with random weights, as the hub has them."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("networks")
    save_small_clip(root / "clip")
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    Dinov2Model(Dinov2Config(**sizes)).save_pretrained(root / "dino")
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        root / "dino"
    )
    unet = tiny_pipeline().unet
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    unet.save_pretrained(root / "unet")
    return root


@pytest.mark.parametrize(("network", "reads_texts"), [("clip", True), ("dino", False)])
def test_a_foreign_model_is_compared_on_the_features_of_any_network(
    folder: Path, networks: Path, tmp_path: Path, network: str, reads_texts: bool
) -> None:
    given = (
        "--detector",
        "never",
        "--attacks",
        "none",
        "--denoiser",
        networks / "unet",
        "--features",
        networks / network,
    )
    done = evaluate(folder, tmp_path / "found", *given)
    assert done.exit_code == 0, done.output
    found = Evaluation.from_file(tmp_path / "found" / "evaluation.json")
    fidelity = found.fidelity
    assert fidelity is not None
    assert (fidelity.extractor, fidelity.n) == (str(networks / network), 32)
    assert fidelity.fid > 0
    assert fidelity.lpips is None
    assert (fidelity.clip_score_after is not None) == reads_texts
    assert fidelity.coverage is not None
    assert 0 <= fidelity.coverage <= 1
    for name in ("fid", "kid", "cmmd"):
        low, high = fidelity.intervals[name]
        assert low <= getattr(fidelity, name) <= high
    assert {row.prompts for row in found.drift} == {"target", "unrelated"}
    assert all(row.cosine < 1 for row in found.drift)
    page = (tmp_path / "found" / "report.html").read_text()
    assert f"features of {networks / network}" in page

    plain = evaluate(folder, tmp_path / "plain", *given[:-2])
    assert json.loads(plain.stdout)["fidelity"] is None, "without a network pictures are not compared"
    assert json.loads(plain.stdout)["drift"] == json.loads(done.stdout)["drift"]


def test_equal_pictures_are_at_no_distance(networks: Path) -> None:
    pictures = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for extractor in (
        EmojiTestbed().features(),
        from_hub(str(networks / "clip")),
        from_hub(str(networks / "dino")),
    ):
        sized = torch.nn.functional.interpolate(pictures, 64) if extractor.layers else pictures
        found = fidelity_of(["church"] * 12, sized, sized, extractor)
        assert found.fid == pytest.approx(0, abs=1e-4)
        assert found.cmmd == pytest.approx(0, abs=1e-4)
        assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
        assert found.lpips in {None, 0.0}
        assert found.clip_score_before == found.clip_score_after


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--features", "nowhere"], "Cannot load 'nowhere' as an extractor"),
        (["--suite", "quik"], "'quick', 'standard', 'full'"),
        (["--attacks", "nonee"], "did you mean 'none'"),
        (["--detector", "judge"], "Unknown detector"),
    ],
)
def test_bad_input_is_one_sentence(folder: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    result = evaluate(folder, tmp_path / "found", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not (tmp_path / "found").exists()


def test_the_retrained_model_stands_beside_only_what_was_found_in_the_same_way(
    folder: Path, tmp_path: Path
) -> None:
    assert (
        evaluate(folder, tmp_path / "found", "--detector", "always", "--attacks", "none,more_seeds").exit_code
        == 0
    )
    found = Evaluation.from_file(tmp_path / "found" / "evaluation.json")
    gold = found.model_copy(update={"attacks": found.attacks[:1]})
    both = found.with_gold(gold)
    assert [row.gold for row in both.attacks] == [found.attacks[0].success, None]
    assert "gold attack,none,1.0" in csv_of(both)
    assert found.with_gold(gold.model_copy(update={"seed": 1})) == found
    assert found.with_gold(gold.model_copy(update={"detector": {}})) == found
    assert found.with_gold(gold.model_copy(update={"prompt_set": "validation"})) == found

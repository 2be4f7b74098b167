"""``sgrace erase`` on a small real pipeline: what it writes and says, and what bad input leaves behind."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from sgrace.cli.erase import Outcome
from sgrace.erasure import Erasure
from sgrace.evaluation.before_after import BeforeAfter
from sgrace.evaluation.schema import Rate, Retention, Verdict
from sgrace.metrics import Share

from .conftest import UCE, Home, assert_refused, sgrace


def test_it_writes_a_plain_text_encoder_and_a_recipe(home: Home) -> None:
    CLIPTextModel.from_pretrained(home.safe / "text_encoder")
    CLIPTokenizer.from_pretrained(home.safe / "text_encoder")
    recipe = Erasure.from_pretrained(home.safe).recipe
    assert recipe.method == "sgrace", "the default"
    assert [(target.concept.name, target.words.related[:2]) for target in recipe.targets if target.words] == [
        ("church", ("church", "chapel"))
    ]
    assert recipe.cost.denoiser_calls
    assert Path(recipe.base.source) == home.tiny
    assert (home.safe / "before_after.png").stat().st_size > 0


def test_the_verdict_comes_first_and_duplicates_count_once(home: Home, tmp_path: Path) -> None:
    given = ("--model", home.tiny, "--words", home.words, *UCE)
    printed = sgrace("erase", "church", "CHURCH ", *given, "-o", tmp_path / "text")
    assert printed.exit_code == 0, printed.output
    assert printed.stdout.startswith("church: Not measured: this model has no judge")
    found = json.loads(sgrace("erase", "church", *given, "--out", tmp_path / "json", "--json").stdout)
    assert found["verdict"] == "not measured"
    assert found["out"] == str(tmp_path / "json")
    assert found["cost"]["trained_parameters"] > 0
    recipes = [Erasure.from_pretrained(tmp_path / name).recipe for name in ("text", "json")]
    assert [len(recipe.targets) for recipe in recipes] == [1, 1]
    assert "blurred because the kind of concept is unknown" in printed.stdout


def test_earlier_erasures_become_parents(home: Home, tmp_path: Path) -> None:
    given = ("--words", home.words, *UCE, "--erasure", home.safe, "-o", tmp_path / "safer", "--quiet")
    done = sgrace("erase", "dog", *given)
    assert (done.exit_code, done.output) == (0, "")
    erasure = Erasure.from_pretrained(tmp_path / "safer")
    assert [parent.names for parent in erasure.parents] == ["church"]


def test_a_kind_that_nobody_stated_stays_unknown_and_is_blurred(home: Home, tmp_path: Path) -> None:
    (concept,) = Erasure.from_pretrained(home.safe).recipe.concepts
    assert concept.kind is None
    found = {}
    for kind in ((), ("--kind", "object"), ("--kind", "style"), ("--kind", "harmful")):
        out = tmp_path / "-".join(("out", *kind))
        given = ("--words", home.words, "--prompts", home.prompts, "--detector", "always")
        done = sgrace(
            "evaluate", home.safe, *given, "--suite", "quick", "--attacks", "none", *kind, "--json", "-o", out
        )
        assert done.exit_code == 0, done.output
        manifest = json.loads((out / "attacks" / "none" / "manifest.json").read_text())
        assert manifest["concept"]["kind"] == json.loads(done.stdout)["concept"]["kind"]
        is_blurred = "Flagged images are blurred" in (out / "report.html").read_text()
        found[manifest["concept"]["kind"]] = is_blurred
    assert found == {None: True, "object": False, "style": False, "harmful": True}


def test_an_erasure_is_short_in_a_terminal_and_a_card_in_a_notebook(home: Home) -> None:
    erasure = Erasure.from_pretrained(home.safe)
    assert max(len(repr(shown)) for shown in (erasure, erasure.recipe, erasure.recipe.targets[0])) < 200
    shown = erasure._repr_html_()
    for fact in ("Erasure of church", "sgrace", "tensors of text_encoder", "seed", "erasure.apply(model)"):
        assert fact in shown
    hostile = replace(erasure, recipe=erasure.recipe.model_copy(update={"method": "<script>"}))
    assert "<script>" not in hostile._repr_html_()
    assert "&lt;script&gt;" in hostile._repr_html_()


def test_images_of_harmful_concepts_are_blurred(home: Home, tmp_path: Path) -> None:
    given = ("erase", "church", "--model", home.tiny, "--words", home.words, *UCE, "--quiet")
    assert sgrace(*given, "--kind", "harmful", "-o", tmp_path / "blurred").exit_code == 0
    assert sgrace(*given, "--kind", "harmful", "--no-blur", "-o", tmp_path / "sharp").exit_code == 0
    sheets = [(tmp_path / name / "before_after.png").read_bytes() for name in ("blurred", "sharp")]
    assert sheets[0] != sheets[1]


def test_a_concept_that_the_judge_does_not_know_is_erased_all_the_same(home: Home, tmp_path: Path) -> None:
    done = sgrace(
        "erase", "halloween", "--kind", "object", "--words", home.words, *UCE, "-o", tmp_path / "out"
    )
    assert done.exit_code == 0, done.output
    assert "halloween: Not measured" in done.stdout
    assert Erasure.from_pretrained(tmp_path / "out").names == "halloween"


def test_the_erasure_is_kept_if_images_cannot_be_made(home: Home, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(home.tiny, broken)
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    # a closed form does not read it; sampling does, and overflows
    tensors["conv_out.bias"].fill_(torch.finfo(torch.float32).max)
    save_file(tensors, weights, {"format": "pt"})
    given = ("--model", broken, "--words", home.words, *UCE, "--json")
    done = sgrace("erase", "church", *given, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["verdict"] == "not measured"
    assert "The erasure itself is complete." in found["failure"]
    assert Erasure.from_pretrained(tmp_path / "out").names == "church"


def test_columns_of_the_table_are_aligned(home: Home, tmp_path: Path) -> None:
    rates = [Rate.of(Share(hits, 48)) for hits in (0, 48)]
    rows = tuple(
        Retention(question=question, before=before, after=rates[0])
        for question, before in zip(("rest", "withheld unrelated"), rates, strict=True)
    )
    found = BeforeAfter(Verdict(word="erased", sentence="Erased."), rows, {}, {}, {})
    lines = Outcome({"church": found}).lines(Erasure.from_pretrained(home.safe), tmp_path)
    table = [line for line in lines if "n=48" in line]
    assert len(table) == 2
    for column in ("before", "after", "n=48"):
        assert len({line.index(column) for line in table}) == 1


def test_options_of_the_model_reach_it(home: Home, tmp_path: Path) -> None:
    given = ("--model", home.tiny, "--words", home.words, *UCE, "--quiet")
    options = ("--dtype", "bfloat16", "--device", "cpu", "--low-memory", "--batch-size", "1")
    done = sgrace("erase", "church", *given, *options, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert Erasure.from_pretrained(tmp_path / "out").recipe.base.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["church", "--model", "emojy"], "did you mean 'emoji'"),
        (["church", "--method", "sgrase"], "did you mean 'sgrace'"),
        (["church", "--preset", "publshed"], "did you mean 'published'"),
        (["church", "--set", "edit_stps=3"], "did you mean 'edit_steps'"),
        (["church", "--set", "rounds"], "--set takes KEY=VALUE"),
        (["church", "--set", "rounds=many"], "rounds"),
        (["church", "--set", "rounds=0"], "With rounds=0 nothing is erased"),
        (["church", "--set", "replacement=church", *UCE], "shows 'church' itself"),
        (["church, dog"], "lists several concepts"),
        ([""], "A concept is a name"),
        (["!!!"], "A concept is a name"),
        (["x" * 500], "A concept is a name"),
        (["church", "--words", "no-such-file"], "Cannot read"),
        (["church", "--words", "{tiny}/model_index.json"], "model_index.json"),
        (["church", "--words", "{tiny}/unet/diffusion_pytorch_model.safetensors"], "Cannot read"),
        (["church", "--model", "{tiny}/unet"], "model_index.json"),
        (["church", "--words", "{words}", "--words", "{words}"], "1 concepts need 1 word lists, not 2"),
        (["greg rutkowski"], "give its words with --words FILE"),
        (["church", "--variant", "fp16"], "Cannot load"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    home: Home, tmp_path: Path, arguments: list[str], message: str
) -> None:
    filled = [
        text.replace("{tiny}", str(home.tiny)).replace("{words}", str(home.words)) for text in arguments
    ]
    model = [] if "--model" in filled else ["--model", str(home.tiny)]
    words = [] if "--words" in filled or arguments == ["greg rutkowski"] else ["--words", str(home.words)]
    assert_refused(sgrace("erase", *filled, *model, *words, "--out", tmp_path / "out"), message)
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_kept(home: Home, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert_refused(sgrace("erase", "church", "--model", home.tiny, "-o", tmp_path), "not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_leaves_nothing_that_looks_finished(
    home: Home, tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "a" / "out"
    command = [sys.executable, "-m", "sgrace", "erase", "church", "--model", str(home.tiny)]
    command += ["--words", str(home.words), "--out", str(out), "--set", "rounds=1000"]
    default = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # a shell starts what runs in its background deaf to it
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=default) as process:  # noqa: PLW1509  (no threads here)
        assert process.stderr is not None
        deadline = time.monotonic() + 120
        while "erase:" not in process.stderr.readline() and time.monotonic() < deadline:
            pass
        process.send_signal(how)
        _, error = process.communicate(timeout=120)  # goes on reading, so that a full pipe stops nothing
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[how]
    assert ("interrupted; nothing was written." in error) == (how == signal.SIGINT)
    assert not list(tmp_path.iterdir())

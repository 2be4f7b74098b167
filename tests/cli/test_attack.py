"""``sgrace attack`` and ``sgrace rescore``: what they write, how they go on, what bad input leaves behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from click.testing import Result

from sgrace._util.hashing import sha256
from sgrace.attacks import AttackSet
from sgrace.attacks.rescored import Rescored

from ..conftest import tiny_pipeline
from .conftest import Home, assert_refused, sgrace


def attack(home: Home, out: Path, *more: str | Path) -> Result:
    given = ("--prompts", home.prompts, "--words", home.words, "--detector", "never", "--effort", "quick")
    return sgrace("attack", home.safe, *given, "--out", out, *more)


def test_it_writes_sets_and_goes_on_where_it_was(home: Home, tmp_path: Path) -> None:
    out = tmp_path / "sets"
    first = attack(home, out, "--attacks", "none,more_seeds", "--json")
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout)
    rows = {row["attack"]: row for row in found["attacks"]}
    assert rows["none"]["success"]["n"] == 2
    assert rows["more_seeds"]["denoiser_rows"] > rows["none"]["denoiser_rows"]
    assert "no evidence" in found["caveats"][0]
    sets = AttackSet.from_pretrained(out / "more_seeds")
    assert [a.seed for a in sets.attempts] == [5, 6]
    assert sets.attempts[1].prompt == '=HYPERLINK("church")', "a formula is text like any other"

    written = (out / "none" / "manifest.json").stat().st_mtime_ns
    again = attack(home, out, "--attacks", "none,more_seeds,random_tokens", "--json", "--batch-size", "1")
    assert again.exit_code == 0, again.output
    assert (out / "none" / "manifest.json").stat().st_mtime_ns == written, "what is finished is not run again"
    more = {row["attack"]: row for row in json.loads(again.stdout)["attacks"]}
    assert more["more_seeds"] == rows["more_seeds"]
    assert "random_tokens" in more

    other = attack(home, out, "--attacks", "none", "--seed", "9")
    assert_refused(other, "holds the results of another request: seed differs (0, now 9)")


def test_the_precision_is_part_of_the_request(home: Home, tmp_path: Path) -> None:
    assert attack(home, tmp_path, "--attacks", "none", "--quiet").exit_code == 0
    again = attack(home, tmp_path, "--attacks", "none", "--dtype", "bfloat16", "--force")
    assert_refused(again, "holds the results of another request")


@pytest.mark.parametrize(
    ("erased", "option", "component"),
    [("safe", "--text-encoder", "text_encoder"), ("edited", "--denoiser", "unet")],
)
def test_no_network_takes_the_place_of_an_erased_one(
    home: Home, tmp_path: Path, erased: str, option: str, component: str
) -> None:
    given = ("--prompts", home.prompts, "--words", home.words, "--detector", "never", "--attacks", "none")
    other = getattr(tiny_pipeline(), component)
    for parameter in other.parameters():
        parameter.data *= 1.1
    other.save_pretrained(tmp_path / "other")
    network = (option, tmp_path / "other", "-o", tmp_path / "out")
    result = sgrace("evaluate", getattr(home, erased), *given, *network)
    assert_refused(result, f"the {component} of")


def test_sets_are_scored_again_by_another_detector(home: Home, tmp_path: Path) -> None:
    assert attack(home, tmp_path, "--attacks", "none,more_seeds", "--quiet").exit_code == 0
    stored = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    found = json.loads(sgrace("rescore", tmp_path, "--detector", "always", "--json").stdout)["attacks"]
    assert [(row["attack"], row["before"]["hits"], row["after"]["hits"], row["agree"]) for row in found] == [
        ("more_seeds", 0, 2, 0),
        ("none", 0, 2, 0),
    ]
    assert {file: file.read_bytes() for file in stored} == stored, "the sets stay as they are"
    new = sorted(file for file in tmp_path.rglob("*.json") if file not in stored)
    assert [file.parent.parent.name for file in new] == ["more_seeds", "none"]
    result = Rescored.model_validate_json(new[0].read_text())
    assert (result.before.name, result.detector.name, result.verdicts) == ("never", "always", (True, True))
    assert result.set_sha256 == sha256(tmp_path / "more_seeds" / "manifest.json")


def test_attack_scores_again_with_an_option(home: Home, tmp_path: Path) -> None:
    assert attack(home, tmp_path, "--attacks", "none", "--quiet").exit_code == 0
    printed = sgrace("attack", "--rescore", "always", tmp_path / "none", "--detector-set", "threshold=0.25")
    assert printed.exit_code == 0, printed.output
    assert "never: 0 of 2   always: 2 of 2   same verdict: 0" in printed.stdout
    assert sgrace("attack", tmp_path, "--rescore=always").exit_code == 0
    names = [file.name for file in (tmp_path / "none" / "rescored").iterdir()]
    assert len(names) == 2, "another threshold is another detector"
    assert_refused(sgrace("attack", "--rescore", "always", home.tiny), "holds no attack set")
    assert_refused(sgrace("attack", "--rescore", "always", "x" * 300))
    assert_refused(sgrace("attack", "--rescore", "alwais", tmp_path), "did you mean 'always'")
    assert_refused(sgrace("attack", "--rescore", "always", tmp_path, "--effort", "quick"), "No such option")
    (tmp_path / "none" / "rescored").rename(tmp_path / "elsewhere")
    (tmp_path / "none" / "rescored").write_text("a file")
    assert_refused(sgrace("attack", "--rescore", "always", tmp_path), "Cannot write")


def test_a_limit_is_kept(home: Home, tmp_path: Path) -> None:
    done = attack(
        home, tmp_path / "sets", "--attacks", "more_seeds", "--limit", "denoiser_rows=150", "--json"
    )
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)["attacks"][0]
    assert row["denoiser_rows"] <= 150
    assert row["stopped"] == "budget"


def test_several_erasures_need_the_concept_by_name(home: Home, tmp_path: Path) -> None:
    more = ("--erasure", home.edited, "--attacks", "none", "--quiet")
    assert_refused(
        attack(home, tmp_path / "sets", *more), "Name the concept with --concept: one of church, dog."
    )
    done = attack(home, tmp_path / "sets", *more, "--concept", "dog")
    assert (done.exit_code, done.output) == (0, "")
    assert AttackSet.from_pretrained(tmp_path / "sets" / "none").record.concept.name == "dog"


def test_the_base_may_be_named(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home.tiny.parent)
    done = attack(home, tmp_path / "sets", "--attacks", "none", "--base", "tiny", "--quiet")
    assert (done.exit_code, done.output) == (0, "")
    other = attack(home, tmp_path / "more", "--attacks", "none", "--base", home.tiny / "unet")
    assert_refused(other, "it has no model_index.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attacks", "unlearn_dif_atk"], "did you mean 'unlearn_diff_atk'"),
        (["--effort", "standrad"], "'quick', 'standard', 'full'"),
        (["--attacks", "pez", "--set", "iteration=3"], "did you mean 'iterations'"),
        (["--attacks", "none,pez", "--set", "iterations=3"], "needs a single attack"),
        (["--attacks", "none", "--set", "tries=3"], "Attack 'none' has no settings."),
        (["--limit", "denoiser_rows=0"], "greater than 0"),
        (["--limit", "denoiser_row=9"], "did you mean 'denoiser_rows'"),
        (["--limit", "denoiser_rows"], "--limit takes KEY=VALUE, not 'denoiser_rows'"),
        (["--limit", "seconds=nan"], "seconds"),
        (["--detector-set", "threshold"], "--detector-set takes KEY=VALUE"),
        (["--limit", "denoiser_rows=3"], "does not cover sampling the 2 prompts"),
        (["--detector", "judge"], "Unknown detector"),
        (["--detector", "emoji_judge", "--concept", "zzz"], "Unknown concept of the built-in model"),
        (["--detector", "always", "--detector-set", "threshold=9"], "less than or equal to 1"),
        (["--protocol", "shred"], "'shared', 'diffusion_mu_attack'"),
    ],
)
def test_bad_input_is_one_sentence(home: Home, tmp_path: Path, arguments: list[str], message: str) -> None:
    assert_refused(attack(home, tmp_path / "sets", "--attacks", "none", *arguments), message)
    assert not list(tmp_path.iterdir()), "nothing is left, not even the note of the request"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.txt", None, "Cannot read"),
        ("empty.txt", b"\n  \n", "holds no prompt"),
        ("other.csv", b"sentence,seed\nchurch,1\n", "its columns are `sentence`, `seed`"),
    ],
)
def test_bad_prompt_files_are_told(
    home: Home, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = attack(home, tmp_path / "sets", "--attacks", "none", "--prompts", tmp_path / name)
    assert_refused(result, message)
    assert not (tmp_path / "sets").exists()


@pytest.mark.parametrize("command", ["attack", "evaluate"])
def test_truncated_prompts_are_told_once_and_counted(home: Home, tmp_path: Path, command: str) -> None:
    (tmp_path / "prompts.txt").write_text("church\n" + "a photo of church " * 40 + "\n")
    given = ("--prompts", tmp_path / "prompts.txt", "--words", home.words, "--detector", "never", "--json")
    effort = {"attack": "--effort", "evaluate": "--suite"}[command]
    more = ("--attacks", "none,more_seeds", effort, "quick", "-o", tmp_path / "out")
    done = sgrace(command, home.safe, *given, *more)
    assert done.exit_code == 0, done.output
    assert done.stderr.count("1 of 2 prompts are longer than the text encoder reads") == 1
    found = json.loads(done.stdout)
    rows = found["attacks"] if command == "attack" else [found]
    assert [row["truncated_prompts"] for row in rows] == [1] * len(rows)
    manifests = [json.loads(file.read_text()) for file in (tmp_path / "out").rglob("manifest.json")]
    assert [manifest["truncated_prompts"] for manifest in manifests] == [1, 1]


def test_the_column_of_prompts_may_be_named(home: Home, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("sentence,seed\nchurch,1\n")
    given = ("--prompts", tmp_path / "other.csv", "--prompt-column", "Sentence")
    result = attack(home, tmp_path / "sets", "--attacks", "none", *given)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "sets" / "none" / "attempts.jsonl").read_text())["prompt"] == "church"


def test_what_is_missing_is_told(home: Home, tmp_path: Path) -> None:
    given = ("--concept", "church", "--attacks", "none", "-o", tmp_path / "sets")
    assert_refused(sgrace("attack", home.tiny, *given), "give --prompts and --detector")
    assert_refused(
        sgrace("attack", "emoji", *given, "--detector-set", "threshold=0.9"),
        "--detector-set needs --detector",
    )
    assert_refused(sgrace("attack", tmp_path / "nothing", "-o", tmp_path / "more"))


@pytest.mark.slow
def test_an_interrupt_says_what_is_kept(home: Home, tmp_path: Path) -> None:
    out = tmp_path / "sets"
    command = [
        sys.executable,
        "-m",
        "sgrace",
        "attack",
        str(home.safe),
        "--attacks",
        "none,pez",
        "-o",
        str(out),
    ]
    command += [
        "--prompts",
        str(home.prompts),
        "--words",
        str(home.words),
        "--detector",
        "never",
        "--effort",
        "full",
    ]
    default = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # a shell starts what runs in its background deaf to it
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=default) as process:  # noqa: PLW1509  (no threads here)
        deadline = time.monotonic() + 120
        while not (out / "none").is_dir() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"what is finished is kept in {out}, and the same command goes on there" in error
    assert sorted(path.name for path in out.iterdir()) == ["none", "request.json"]

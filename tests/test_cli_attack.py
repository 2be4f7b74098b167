"""``sgrace attack`` on a small pipeline: what it writes, how it resumes, what bad input leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sgrace.attacks import AttackSet
from sgrace.cli import main

from .conftest import tiny_pipeline

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
    """A pipeline, an erasure of it, words and prompts."""
    root = tmp_path_factory.mktemp("attack")
    tiny_pipeline().save_pretrained(root / "tiny")
    (root / "words.txt").write_text("church\nchapel\n\ndog, tree\nboat, house\n")
    (root / "prompts.csv").write_text('seed,prompt\n5,a photo of church\n6,"=HYPERLINK(""church"")"\n')
    done = sgrace(
        "erase",
        "church",
        "--model",
        root / "tiny",
        "--knowledge",
        root / "words.txt",
        "--out",
        root / "safe",
        *SHORT,
        "--json",
    )
    assert done.exit_code == 0, done.output
    return root


def attack(folder: Path, out: Path, *more: str | Path) -> Result:
    given = (
        "--prompts",
        folder / "prompts.csv",
        "--knowledge",
        folder / "words.txt",
        "--detector",
        "never",
        "--budget",
        "quick",
    )
    return sgrace("attack", folder / "safe", *given, "--out", out, *more)


def test_attack_writes_sets_and_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "sets"
    first = attack(folder, out, "--attack", "none,more_seeds", "--json")
    assert first.exit_code == 0, first.output
    rows = {row["attack"]: row for row in json.loads(first.stdout)["attacks"]}
    assert rows["none"]["success"]["n"] == 2
    assert rows["more_seeds"]["denoiser_rows"] > rows["none"]["denoiser_rows"]
    found = AttackSet.from_pretrained(out / "more_seeds")
    assert [a.seed for a in found.attempts] == [5, 6]
    assert found.attempts[1].prompt == '=HYPERLINK("church")', "a formula is text like any other"

    written = (out / "none" / "manifest.json").stat().st_mtime_ns
    again = attack(folder, out, "--attack", "none,more_seeds,random_tokens", "--json")
    assert again.exit_code == 0, again.output
    assert (out / "none" / "manifest.json").stat().st_mtime_ns == written, "what is finished is not run again"
    more = {row["attack"]: row for row in json.loads(again.stdout)["attacks"]}
    assert more["more_seeds"] == rows["more_seeds"]
    assert "random_tokens" in more

    other = attack(folder, out, "--attack", "none", "--seed", "9")
    assert other.exit_code == 2
    assert "holds the results of another request: seed differs (0, now 9)" in other.stderr


def test_a_limit_is_kept(folder: Path, tmp_path: Path) -> None:
    done = attack(
        folder, tmp_path / "sets", "--attack", "more_seeds", "--limit", "denoiser_rows=150", "--json"
    )
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)["attacks"][0]
    assert row["denoiser_rows"] <= 150
    assert row["stopped"] == "budget"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attack", "unlearn_dif_atk"], "did you mean 'unlearn_diff_atk'"),
        (["--budget", "standrad"], "did you mean 'standard'"),
        (["--attack", "pez", "--set", "iteration=3"], "did you mean 'iterations'"),
        (["--attack", "none,pez", "--set", "iterations=3"], "needs a single attack"),
        (["--attack", "none", "--set", "tries=3"], "Attack 'none' has no settings."),
        (["--limit", "denoiser_rows=0"], "greater than 0"),
        (["--limit", "denoiser_row=9"], "did you mean 'denoiser_rows'"),
        (["--limit", "denoiser_rows"], "--limit takes KEY=VALUE, not 'denoiser_rows'"),
        (["--limit", "seconds=nan"], "seconds"),
        (["--detector", "always", "--detector-set", "threshold"], "--detector-set takes KEY=VALUE"),
        (["--limit", "denoiser_rows=3"], "does not cover sampling the 2 prompts"),
        (["--detector", "judge"], "Unknown detector"),
        (["--detector", "emoji_judge", "--concept", "zzz"], "Unknown concept of the built-in model"),
        (["--detector", "always", "--detector-set", "threshold=9"], "less than or equal to 1"),
        (["--protocol", "shred"], "did you mean 'shared'"),
    ],
)
def test_bad_input_is_one_sentence(folder: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    result = attack(folder, tmp_path / "sets", "--attack", "none", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
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
    folder: Path, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = attack(folder, tmp_path / "sets", "--attack", "none", "--prompts", tmp_path / name)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not (tmp_path / "sets").exists()


def test_the_column_of_prompts_may_be_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("sentence,seed\nchurch,1\n")
    given = ("--prompts", tmp_path / "other.csv", "--prompt-column", "Sentence")
    result = attack(folder, tmp_path / "sets", "--attack", "none", *given)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "sets" / "none" / "attempts.jsonl").read_text())["prompt"] == "church"


def test_a_tampered_set_or_erasure_is_told(folder: Path, tmp_path: Path) -> None:
    assert attack(folder, tmp_path / "sets", "--attack", "none").exit_code == 0
    (tmp_path / "sets" / "none" / "attempts.jsonl").write_text("{}\n")
    again = attack(folder, tmp_path / "sets", "--attack", "none")
    assert again.exit_code == 2
    assert "changed or damaged" in again.stderr
    missing = sgrace("attack", tmp_path / "nothing", "--out", tmp_path / "more")
    assert missing.exit_code == 2


def test_a_foreign_model_says_what_it_needs(folder: Path, tmp_path: Path) -> None:
    result = sgrace(
        "attack", folder / "tiny", "--concept", "church", "--attack", "none", "--out", tmp_path / "sets"
    )
    assert result.exit_code == 2
    assert "give --prompts and --knowledge and --detector" in result.stderr


def test_options_without_a_detector_are_told(tmp_path: Path) -> None:
    result = sgrace(
        "attack",
        "emoji",
        "--concept",
        "church",
        "--detector-set",
        "threshold=0.9",
        "--out",
        tmp_path / "sets",
    )
    assert result.exit_code == 2
    assert "--detector-set needs --detector" in result.stderr

"""Hostile and broken input: one sentence, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from .conftest import UCE, Home, assert_refused, sgrace

LONG = "x" * 300
HUGE = "9" * 30

PATHS = [
    f"{LONG}/out",
    LONG,
    "dangling",
    "dangling/out",
    "/proc/sgrace/out",
    "/dev/null/out",
    "file/out",
    "file",
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a file and a link to nowhere in it."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def nothing_new(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} <= {"file", "dangling", "given"}


@pytest.mark.parametrize("out", PATHS)
@pytest.mark.parametrize("command", ["erase", "generate", "attack", "evaluate"])
def test_places_that_cannot_be_written_are_told_before_a_model_is_loaded(
    here: Path, command: str, out: str
) -> None:
    result = sgrace(command, "no-such-model", "-o", out)
    assert_refused(result)
    assert "no-such-model" not in result.stderr
    assert len(result.stderr) < 600
    assert nothing_new(here)


@pytest.mark.parametrize(
    "out", [f"{LONG}.png", "dangling.png", "/proc/sgrace/a.png", "/dev/null/a.png", "a.jpg"]
)
def test_sheets_that_cannot_be_written_are_told(here: Path, out: str) -> None:
    (here / "dangling").rename(here / "dangling.png")
    assert_refused(sgrace("generate", "church", "--model", "no-such-model", "-o", out))


@pytest.mark.parametrize(
    "options",
    [
        ["--seed", HUGE],
        ["--seed", "-1"],
        ["--seed", "1.5"],
        ["--seed", "nan"],
        ["--batch-size", "0"],
        ["--batch-size", HUGE],
        ["--dtype", "int8"],
        ["--device", "tpu"],
        ["--device", "cuda:99999999999999999999"],
        ["--set", f"n_retain={HUGE}"],
        ["--set", "erase_weight=nan"],
        ["--set", "erase_weight=1e999"],
        ["--set", "erase_weight=" + "1" * 5000],
        ["--set", "=1"],
        ["--set", "ridge=1", "--set", "ridge=2"],
        ["--kind", "thing"],
        ["--nonsense"],
    ],
)
def test_numbers_and_names_of_erase(home: Home, here: Path, options: list[str]) -> None:
    given: list[str | Path] = ["church", "--model", home.tiny, "--words", home.words, *UCE]
    assert_refused(sgrace("erase", *given, *options, "-o", "out"))
    assert nothing_new(here)


@pytest.mark.parametrize(
    "options",
    [
        ["--guidance-scale", "nan"],
        ["--guidance-scale", "inf"],
        ["--guidance-scale", "-1"],
        ["--num-inference-steps", "0"],
        ["--num-inference-steps", HUGE],
        ["--num-images", "0"],
        ["--num-images", HUGE],
        ["--seed", HUGE],
        ["--erasure", "nowhere"],
        ["--erasure", LONG],
        ["--prompt-column", "text"],
        ["--prompts", "file"],
    ],
)
def test_numbers_and_names_of_generate(home: Home, here: Path, options: list[str]) -> None:
    assert_refused(sgrace("generate", "church", "--model", home.tiny, *options, "-o", "out"))
    assert nothing_new(here)


@pytest.mark.parametrize(
    "options",
    [
        ["--limit", f"denoiser_rows={'9' * 5000}"],
        ["--limit", "denoiser_rows=0"],
        ["--limit", "seconds=nan"],
        ["--limit", "rows=3"],
        ["--limit", "denoiser_rows=3"],
        ["--attacks", ","],
        ["--attacks", "none,nune"],
        ["--effort", "standrad"],
        ["--protocol", "shred"],
        ["--detector", "alwais"],
        ["--detector-set", f"threshold={HUGE}"],
        ["--concept", LONG],
        ["--concept", "church, dog"],
        ["--base", "nowhere"],
        ["--base", "x" * 5000],
        ["--base", "x/" * 2500],
    ],
)
def test_numbers_and_names_of_attack(home: Home, here: Path, options: list[str]) -> None:
    given: list[str | Path] = ["--prompts", home.prompts, "--words", home.words, "--attacks", "none"]
    given += ["--detector", "always"]
    assert_refused(sgrace("attack", home.safe, *given, *options, "-o", "out"))
    assert nothing_new(here)


@pytest.mark.parametrize(
    "name", ["x" * 5000, "x/" * 2500, "file", ".", "..", "/", "/dev/zero", "", "no/such/folder"]
)
def test_models_that_are_none(here: Path, name: str) -> None:
    for command in (["erase", "church", "--model", name], ["attack", name], ["evaluate", name]):
        result = sgrace(*command, "-o", "out")
        assert_refused(result)
        assert len(result.stderr) < 600
    assert nothing_new(here)


@pytest.mark.parametrize(
    "name", ["/dev/zero", "/dev/null", "/proc/self/mem", "/proc/cpuinfo", "pipe", "folder", "binary", LONG]
)
@pytest.mark.parametrize("option", ["--prompts", "--words"])
def test_files_that_never_end_or_are_none(home: Home, here: Path, option: str, name: str) -> None:
    given = here / "given"
    given.mkdir()
    os.mkfifo(given / "pipe")
    (given / "folder").mkdir()
    (given / "binary").write_bytes(bytes(range(256)))
    file = name if name.startswith("/") else given / name
    assert_refused(sgrace("attack", home.safe, "--detector", "always", option, file, "-o", "out"))
    assert nothing_new(here)


def broken(home: Home, target: Path, what: str) -> None:
    """A copy of an erasure with something broken in it."""
    shutil.copytree(home.edited, target)
    recipe = target / "recipe.json"
    if what == "empty recipe":
        recipe.write_text("")
    elif what == "nested recipe":
        recipe.write_text("[" * 100_000)
    elif what == "list recipe":
        recipe.write_text("[]")
    elif what == "method is a number":
        recipe.write_text(json.dumps({**json.loads(recipe.read_text()), "method": 5}))
    elif what == "no weights":
        (target / "unet.safetensors").unlink()
    elif what == "cut weights":
        weights = target / "unet.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
    elif what == "recipe is a folder":
        recipe.unlink()
        recipe.mkdir()
    elif what == "recipe is a pipe":
        recipe.unlink()
        os.mkfifo(recipe)


@pytest.mark.parametrize(
    "what",
    [
        "empty recipe",
        "nested recipe",
        "list recipe",
        "method is a number",
        "no weights",
        "cut weights",
        "recipe is a folder",
        "recipe is a pipe",
    ],
)
def test_broken_erasures(home: Home, here: Path, what: str) -> None:
    broken(home, here / "given", what)
    assert_refused(sgrace("generate", "church", "--erasure", "given", "-o", "out"))
    assert_refused(sgrace("attack", "given", "-o", "out"))
    assert nothing_new(here)


@pytest.mark.parametrize(
    "what", ["no index", "empty index", "list index", "nested index", "other class", "index is a pipe"]
)
def test_broken_pipelines(home: Home, here: Path, what: str) -> None:
    shutil.copytree(home.tiny, here / "given")
    index = here / "given" / "model_index.json"
    texts = {
        "empty index": "",
        "list index": "[]",
        "nested index": "[" * 100_000,
        "other class": '{"_class_name": "os.system"}',
    }
    index.unlink()
    if what in texts:
        index.write_text(texts[what])
    elif what == "index is a pipe":
        os.mkfifo(index)
    assert_refused(sgrace("erase", "church", "--model", "given", "-o", "out"))
    assert nothing_new(here)


@pytest.mark.parametrize(
    "what", ["request.json", "none/manifest.json", "none/attempts.jsonl", "none/tensors.safetensors"]
)
def test_broken_results(home: Home, here: Path, what: str) -> None:
    given: list[str | Path] = [
        "--prompts",
        home.prompts,
        "--words",
        home.words,
        "--attacks",
        "none",
        "--detector",
        "always",
        "-o",
        "given",
    ]
    assert sgrace("attack", home.safe, *given).exit_code == 0
    (here / "given" / what).write_bytes(b"\xff\x00broken")
    assert_refused(sgrace("attack", home.safe, *given))
    if what != "request.json":
        assert_refused(sgrace("rescore", "given", "--detector", "never"))


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["erase"], ["erase", "church"], ["emoji", "nonsense"], ["info", "nonsense"]]
)
def test_wrong_command_lines(arguments: list[str]) -> None:
    assert_refused(sgrace(*arguments))

"""The command line on a real pipeline of small size: what it writes, and what bad input leaves behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from transformers import CLIPTextModel, CLIPTokenizer

from sgrace._util import registry
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


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def words(tmp_path: Path) -> Path:
    file = tmp_path / "words.txt"
    file.write_text("church\nchapel\n\ndog, tree\nboat, house\n")
    return file


def sgrace(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args])


def test_erase_writes_a_plain_text_encoder_and_generate_uses_it(
    pipeline: Path, words: Path, tmp_path: Path
) -> None:
    out = tmp_path / "safe"
    result = sgrace(
        "erase", "church", "--model", pipeline, "--knowledge", words, "--out", out, *SHORT, "--json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["out"] == str(out)
    CLIPTextModel.from_pretrained(out / "text_encoder")
    CLIPTokenizer.from_pretrained(out / "text_encoder")
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["knowledge"][0]["related"] == ["church", "chapel"]
    assert recipe["cost"]["unet_calls"] > 0
    assert (out / "before_after.png").stat().st_size > 0
    picture = tmp_path / "picture.png"
    drawn = sgrace(
        "generate", "a photo of dog", "--model", pipeline, "--erasure", out, "--steps", "2", "--out", picture
    )
    assert drawn.exit_code == 0, drawn.output
    assert picture.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["picture.png", "safe", "words.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["church", "--model", "emojy"], "did you mean 'emoji'"),
        (["church", "--method", "sgrase"], "did you mean 'sgrace'"),
        (["church", "--preset", "publshed"], "did you mean 'published'"),
        (["church", "--set", "edit_stps=3"], "did you mean 'edit_steps'"),
        (["church", "--set", "rounds"], "--set takes KEY=VALUE"),
        (["church", "--set", "rounds=many"], "rounds"),
        ([""], "A concept is a name"),
        (["!!!"], "A concept is a name"),
        (["x" * 500], "A concept is a name"),
        (["church", "--knowledge", "no-such-file"], "Cannot read"),
        (["church", "--knowledge", "{pipeline}/model_index.json"], "which is no word"),
        (["church", "--knowledge", "{pipeline}/unet/diffusion_pytorch_model.safetensors"], "Cannot read"),
        (["church", "--model", "{pipeline}/unet"], "model_index.json"),
        (["church"], "--knowledge"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    pipeline: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    filled = [a.replace("{pipeline}", str(pipeline)) for a in arguments]
    model = [] if "--model" in filled else ["--model", str(pipeline)]
    result = sgrace("erase", *filled, *model, "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.strip().count("\n") == 0
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_kept(pipeline: Path, words: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    result = sgrace("erase", "church", "--model", pipeline, "--knowledge", words, "--out", out)
    assert result.exit_code == 2
    assert "not empty" in result.stderr
    assert [p.name for p in out.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_leaves_nothing_that_looks_finished(
    pipeline: Path, words: Path, tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "a" / "out"
    command = [
        sys.executable,
        "-c",
        "from sgrace.cli import main; main()",
        "erase",
        "church",
        "--model",
        str(pipeline),
    ]
    command += ["--knowledge", str(words), "--out", str(out), "--set", "rounds=1000"]
    default = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # a shell starts what runs in its background deaf to it
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=default) as process:  # noqa: PLW1509  (no threads here)
        assert process.stderr is not None
        deadline = time.monotonic() + 120
        while "erase:" not in process.stderr.readline() and time.monotonic() < deadline:
            pass
        process.send_signal(how)
        process.communicate(timeout=120)  # goes on reading, so that a full pipe stops nothing
    assert process.returncode != 0
    assert [p.name for p in tmp_path.iterdir()] == ["words.txt"]


def test_a_picture_that_cannot_be_written_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    for out in ("a/" + "x" * 300 + ".png", "dangling.png", "/proc/sgrace/a.png", "/dev/null/a.png"):
        result = sgrace("generate", "church", "--model", "no such model", "--out", tmp_path / out)
        assert result.exit_code == 2
        assert "no such model" not in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["dangling.png"]


def test_env_and_version() -> None:
    assert json.loads(sgrace("env", "--json").stdout)["sgrace"] in sgrace("--version").stdout


def test_the_document_of_the_erasers_has_the_matrix_as_it_is_now() -> None:
    printed = CliRunner().invoke(main, ["list", "--matrix"])
    assert printed.exit_code == 0
    document = (Path(__file__).parent.parent / "docs" / "erasers.md").read_text()
    assert printed.stdout.strip() in document
    rows = json.loads(CliRunner().invoke(main, ["list", "--matrix", "--json"]).stdout)
    assert set(rows) == set(registry.names("erasers"))
    assert all(all(row.values()) for row in rows.values())

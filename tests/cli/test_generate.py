"""``sgrace generate``: files, sheets, tables, erasures one after the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ..conftest import tiny_pipeline
from ..models.test_loras import save_lora
from .conftest import SHORT, Home, assert_refused, sgrace

STEPS = ("--num-inference-steps", "2")


def test_one_file_for_each_image_and_the_same_command_goes_on(home: Home, tmp_path: Path) -> None:
    out = tmp_path / "images"
    given = (
        "a photo of dog",
        "tree",
        "--model",
        home.tiny,
        *STEPS,
        "--num-images",
        "2",
        "--seed",
        "7",
        "-o",
        out,
    )
    first = sgrace("generate", *given, "--json")
    assert first.exit_code == 0, first.output
    images = json.loads(first.stdout)["images"]
    assert [(Path(one["file"]).name, one["prompt"], one["seed"]) for one in images] == [
        ("00000-a-photo-of-dog.png", "a photo of dog", 7),
        ("00001-a-photo-of-dog.png", "a photo of dog", 8),
        ("00002-tree.png", "tree", 9),
        ("00003-tree.png", "tree", 10),
    ]
    assert json.loads((out / "images.json").read_text())["images"][3]["seed"] == 10
    kept = (out / "00000-a-photo-of-dog.png").read_bytes()
    (out / "00003-tree.png").unlink()
    (out / "00001-a-photo-of-dog.png").write_bytes(b"damaged")
    (out / "00002-tree.png").write_bytes((out / "00002-tree.png").read_bytes()[:-20])
    again = sgrace("generate", *given, "--batch-size", "1")
    assert "4 images and images.json in" in again.stdout
    for file in out.glob("*.png"):
        assert Image.open(file).convert("RGB").size == (16, 16), "what was damaged is drawn again"
    assert (out / "00000-a-photo-of-dog.png").read_bytes() == kept
    assert_refused(
        sgrace("generate", *given, "--guidance-scale", "2"), "holds the results of another request"
    )


def test_a_sheet_and_a_table(home: Home, tmp_path: Path) -> None:
    sheet = tmp_path / "a.png"
    given = ("--prompts", home.prompts, "--model", home.tiny, *STEPS)
    done = sgrace("generate", *given, "-o", sheet)
    assert (done.exit_code, done.stdout) == (0, f"{sheet}\n")
    assert Image.open(sheet).format == "PNG"
    found = json.loads(sgrace("generate", *given, "-o", tmp_path / "b", "--seed", "1", "--json").stdout)
    assert [one["seed"] for one in found["images"]] == [6, 7], "the table's seeds count from --seed"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b"]


def test_several_erasures_are_applied_in_order_on_their_own_base(home: Home, tmp_path: Path) -> None:
    def images(name: str, *erasures: str | Path) -> bytes:
        out = tmp_path / name
        options = [option for erasure in erasures for option in ("--erasure", erasure)]
        done = sgrace(
            "generate", "church", *(options or ("--model", home.tiny)), *STEPS, "-o", out, "--quiet"
        )
        assert (done.exit_code, done.output) == (0, "")
        return next(out.glob("*church.png")).read_bytes()

    found = [
        images("none"),
        images("safe", home.safe),
        images("edited", home.edited),
        images("both", home.safe, home.edited),
    ]
    assert len(set(found)) == 4, "each erasure counts"


def test_erasures_that_undo_each_other_are_refused_with_the_way_out(home: Home, tmp_path: Path) -> None:
    given = ("--model", home.tiny, "--words", home.words, *SHORT, "--quiet")
    assert sgrace("erase", "dog", *given, "-o", tmp_path / "other").exit_code == 0
    both = ("--erasure", home.safe, "--erasure", tmp_path / "other", *STEPS)
    assert_refused(sgrace("generate", "church", *both, "-o", tmp_path / "a"), "would undo it")
    assert sgrace("generate", "church", *both, "--force", "-o", tmp_path / "a").exit_code == 0


def test_a_folder_and_its_sheet_of_any_size(home: Home, tmp_path: Path) -> None:
    out = tmp_path / "images"
    given = ("--prompts", home.prompts, "--model", home.tiny, *STEPS, "--num-images", "2", "-o", out)
    size = ("--height", "24", "--width", "16", "--negative-prompt", "a dog")
    done = sgrace("generate", *given, *size, "--sheet", tmp_path / "all.png", "--json")
    assert done.exit_code == 0, done.output
    files = [Path(one["file"]) for one in json.loads(done.stdout)["images"]]
    assert {Image.open(file).size for file in files} == {(16, 24)}
    assert {file.name for file in out.glob("*.png")} == {file.name for file in files}
    assert Image.open(tmp_path / "all.png").height > 2 * 24
    told = json.loads((out / "images.json").read_text())
    assert (told["negative_prompt"], told["height"]) == ("a dog", 24)
    assert_refused(sgrace("generate", *given), "holds the results of another request")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["church", "--height", "30"], "multiples of 4 pixels; 30 is none, 32 is the nearest"),
        (["church", "--sheet", "a.jpg"], "--sheet names a .png file"),
        (["church", "--out", "a.png", "--sheet", "b.png"], "--out the folder"),
        ([], "Give prompts as arguments or a table"),
        (["church", "--prompts", "{prompts}"], "Give prompts as arguments or a table"),
        (["--prompts", "{prompts}", "--prompt-column", "text"], "Name one with --prompt-column"),
        (["church", "--prompt-column", "text"], "--prompt-column needs --prompts"),
        (["church", "--erasure", "{tiny}"], "is not an erasure: it has no recipe.json"),
        (["church", "--num-images", "2000", "--out", "a.png"], "at most 1,000 images"),
        (["church", "--steps", "5"], "No such option"),
    ],
)
def test_bad_input(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [text.format(prompts=home.prompts, tiny=home.tiny) for text in arguments]
    out = [] if "--out" in filled else ["-o", "out"]
    assert_refused(sgrace("generate", *filled, "--model", home.tiny, *out), message)
    assert not list(tmp_path.iterdir())


def test_parts_from_elsewhere_are_loaded_and_told(home: Home, tmp_path: Path) -> None:
    other = tiny_pipeline()
    for parameter in (*other.unet.parameters(), *other.text_encoder.parameters()):
        parameter.data *= 1.1
    other.text_encoder.save_pretrained(tmp_path / "text")
    save_file(dict(other.unet.state_dict()), tmp_path / "unet.safetensors")
    save_lora(tmp_path / "lora")
    save_file({"<cat>": torch.ones(2, 24)}, tmp_path / "word.safetensors")
    parts = {
        "--text-encoder": f"text_encoder={tmp_path / 'text'}",
        "--denoiser": f"{tmp_path / 'unet.safetensors'}",
        "--lora": f"{tmp_path / 'lora'}=0.5",
        "--embedding": f"{tmp_path / 'word.safetensors'}=<dog>",
    }
    given = [text for option in parts.items() for text in option]
    done = sgrace("generate", "a <dog>", "--model", home.tiny, *STEPS, *given, "-o", tmp_path / "out", "-q")
    assert (done.exit_code, done.output) == (0, "")
    told = json.loads((tmp_path / "out" / "images.json").read_text())["source"]
    assert told == (
        f"{home.tiny} with text_encoder {tmp_path / 'text'}, denoiser {tmp_path / 'unet.safetensors'}, "
        f"LoRA {tmp_path / 'lora'}=0.5, embedding {tmp_path / 'word.safetensors'}=<dog>"
    )
    refused = sgrace("generate", "a dog", "--model", home.tiny, "--config", home.tiny, "-o", tmp_path / "no")
    assert_refused(refused, "--config belongs to a model in one file")

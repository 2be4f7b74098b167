"""``sgrace erase`` where the result cannot be written: told before training, and kept after it."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sgrace import load_model
from sgrace._util.errors import InputError
from sgrace.cli.erase import _save
from sgrace.erasure import Erasure

from .conftest import Home, sgrace


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own, of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root can mount a disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_without_room_is_refused_before_training(home: Home, small_disk: Path) -> None:
    given = ("--model", home.tiny, "--words", home.words, "--set", "rounds=1000")
    done = sgrace("erase", "church", *given, "-o", small_disk / "out")
    assert done.exit_code == 2
    assert re.search(r"about [\d.]+ MB will be saved, but its disk has 0\.1 MB", done.stderr), done.output
    assert list(small_disk.iterdir()) == []


def test_an_erasure_is_kept_where_there_is_room_if_the_disk_fills_up_meanwhile(
    home: Home, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(InputError, match="No space left on device") as error:
        _save(Erasure.from_pretrained(home.safe), small_disk / "out")
    assert list(small_disk.iterdir()) == []
    check_kept(home, str(error.value))


def test_a_pipeline_is_saved_whole_or_not_at_all(home: Home, small_disk: Path, tmp_path: Path) -> None:
    pipeline = Erasure.from_pretrained(home.safe).apply(load_model(home.tiny)).pipeline
    with pytest.raises(InputError, match="No space left on device"):
        pipeline.save_pretrained(small_disk / "folder" / "pipeline")
    assert list(small_disk.iterdir()) == []
    wanted = pipeline.text_encoder.state_dict()
    # a second save overwrites the first one, as diffusers does
    for _ in range(2):
        pipeline.save_pretrained(tmp_path / "pipeline")
        found = load_model(tmp_path / "pipeline").text.main.module.state_dict()
        assert all(torch.equal(found[name], value) for name, value in wanted.items())


@pytest.mark.parametrize("out", ["/dev/null/out", "full"])
def test_an_erasure_is_kept_if_its_folder_cannot_be_written_any_more(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError) as error:
        _save(Erasure.from_pretrained(home.safe), tmp_path / out)
    check_kept(home, str(error.value))


def check_kept(home: Home, message: str) -> None:
    """The erasure is the same in the folder that the error names."""
    kept = re.fullmatch(r"Cannot .*|.*exists and .*", message) and re.search(r"kept in (\S+)\.$", message)
    assert kept, message
    assert Erasure.from_pretrained(kept[1]).same_as(Erasure.from_pretrained(home.safe))


def test_weights_beyond_the_bases_precision_are_kept_in_float32(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    erasure = Erasure.from_pretrained(home.edited)
    base = erasure.recipe.base.model_copy(update={"dtype": "float16"})
    large = {name: torch.full_like(value, 1e30) for name, value in erasure.tensors["unet"].items()}
    recipe = erasure.recipe.model_copy(update={"base": base})
    erasure = replace(erasure, recipe=recipe, tensors={"unet": large})
    with pytest.raises(InputError, match=r"do not fit in torch\.float16.* is kept in") as error:
        _save(erasure, tmp_path / "out")
    kept = str(error.value).rpartition("kept in ")[2].removesuffix(".")
    assert Erasure.from_pretrained(kept).same_as(erasure)

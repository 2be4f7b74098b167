"""Pickles are refused at every door, and convert reads their tensors and nothing else."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import sgrace
from sgrace._util.errors import InputError
from sgrace._util.pickles import is_pickle
from sgrace.models.conversion import convert

from ..cli.conftest import sgrace as run
from ..conftest import tiny_pipeline
from .made import images, tiny_model


class Evil:
    """Makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pickles") / "pipeline"
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pickled(pipeline: Path) -> Path:
    """The same pipeline as older releases saved it: all weights in pickles, the UNet's in shards."""
    folder = pipeline.parent / "pickled"
    tiny_pipeline().save_pretrained(folder, safe_serialization=False, max_shard_size="20KB")
    text = folder / "text_encoder"
    for file in text.glob("*.safetensors"):  # transformers has forgotten how to
        torch.save(load_file(file), text / "pytorch_model.bin")
        file.unlink()
    for index in text.glob("*.index.json"):
        index.unlink()
    torch.save(tiny_pipeline().text_encoder.state_dict(), text / "pytorch_model.bin")
    assert not list(folder.rglob("*.safetensors"))
    return folder


def doors(pipeline: Path, file: Path) -> list[dict[str, Any]]:
    """Every argument of the loader that takes a file of weights."""
    return [
        {"name": pipeline, "denoiser": file},
        {"name": pipeline, "text_encoder": file},
        {"name": pipeline, "loras": [f"{file}=0.5"]},
        {"name": pipeline, "embeddings": [file]},
    ]


@pytest.mark.parametrize("name", ["weights.pt", "weights.ckpt", "weights.bin", "renamed.safetensors"])
def test_every_door_refuses_a_pickle_alike(pipeline: Path, tmp_path: Path, name: str) -> None:
    trap = tmp_path / "trap"
    torch.save({"conv_in.weight": Evil(trap)}, tmp_path / name)
    for options in doors(pipeline, tmp_path / name):
        with pytest.raises(InputError, match=f"{name} is a pickle, .*: `sgrace convert .* tensors only"):
            sgrace.load_model(device="cpu", **options)
    assert not trap.exists()


def test_folders_of_pickles_are_refused_and_convert_repairs_them(pickled: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has weights as pickles only, .*`sgrace convert .*pickled"):
        sgrace.load_model(pickled, device="cpu")
    with pytest.raises(InputError, match="unet has weights as pickles only"):
        sgrace.load_model(pickled.parent / "pipeline", device="cpu", denoiser=pickled / "unet")
    done = run("convert", pickled, "-o", tmp_path / "safe", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["files"] == len(list(pickled.rglob("*.bin"))) > 3
    assert not list((tmp_path / "safe").rglob("*.bin*"))
    model = sgrace.load_model(tmp_path / "safe", device="cpu")
    model.set_progress_bar_config(disable=True)
    assert images(model).equal(images(tiny_model()))


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "global_step": 3}])
def test_a_file_is_converted(pipeline: Path, tmp_path: Path, wrap: Any) -> None:
    own = dict(tiny_pipeline().unet.named_parameters())
    state = {name: value.detach() + 0.1 for name, value in own.items() if "attn2" in name}
    torch.save(wrap(state), tmp_path / "esd.pt")
    done = run("convert", tmp_path / "esd.pt", "-o", tmp_path / "esd.safetensors")
    assert done.exit_code == 0, done.output
    assert ("global_step" in done.stdout) == (wrap(state) is not state)
    assert load_file(tmp_path / "esd.safetensors").keys() == state.keys()
    model = sgrace.load_model(pipeline, device="cpu", denoiser=tmp_path / "esd.safetensors")
    name, value = next(iter(state.items()))
    assert dict(model.denoiser.named_parameters())[name].equal(value)


def test_a_learned_word_of_the_web_ui_keeps_its_name(tmp_path: Path) -> None:
    word = {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.ones(2, 24)}, "name": "<cat>"}
    torch.save(word, tmp_path / "word.pt")
    assert run("convert", tmp_path / "word.pt", "-o", tmp_path / "word.safetensors").exit_code == 0
    assert load_file(tmp_path / "word.safetensors")["<cat>"].equal(torch.ones(2, 24))


def test_a_pickle_that_is_called_safetensors_is_converted(tmp_path: Path) -> None:
    (tmp_path / "old" / "unet").mkdir(parents=True)
    torch.save({"weight": torch.ones(2)}, tmp_path / "old" / "unet" / "model.safetensors")
    save_file({"weight": torch.zeros(2)}, tmp_path / "old" / "good.safetensors")
    assert run("convert", tmp_path / "old", "-o", tmp_path / "new").exit_code == 0
    assert load_file(tmp_path / "new" / "unet" / "model.safetensors")["weight"].equal(torch.ones(2))
    assert load_file(tmp_path / "new" / "good.safetensors")["weight"].equal(torch.zeros(2))


def test_convert_never_falls_back(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    torch.save({"weight": torch.ones(2), "extra": Evil(trap)}, tmp_path / "evil.ckpt")
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps({"weight": Evil(trap)}))
    for name in ("evil.ckpt", "bare.pkl"):
        refused = run("convert", tmp_path / name, "-o", tmp_path / "out.safetensors")
        assert refused.exit_code == 2
        assert refused.stderr.count("\n") == 1
        assert "holds more than tensors: it" in refused.stderr
    assert not trap.exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "out", "told"),
    [
        (None, "out.safetensors", "Cannot read"),
        (b"PK\x03\x04 torn", "out.safetensors", "is damaged"),
        (b"text", "out.safetensors", "more than tensors|is damaged"),
        (b"text", "out.bin", "must be a .safetensors file"),
    ],
)
def test_what_cannot_be_converted_is_told(tmp_path: Path, content: bytes | None, out: str, told: str) -> None:
    file = tmp_path / "weights.bin"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=told):
        convert(file, tmp_path / out)
    assert not (tmp_path / out).exists()


def itself() -> dict[str, Any]:
    state: dict[str, Any] = {"a": torch.ones(2)}
    state["again"] = state
    return state


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (itself(), "more than 50 deep"),
        ({"a": {"b": torch.ones(2)}, "a.b": torch.zeros(2)}, "two things of the name 'a.b'"),
        ({"state_dict": {"a": torch.ones(2)}, "state_dict.a": torch.ones(2)}, "two things of the name"),
        ({"a": torch.zeros(1).expand(10**5, 10**5)}, "far larger than the file"),
        ({"__metadata__": torch.ones(2)}, "no tensor of the name '__metadata__'"),
        ({"a": torch.eye(2).to_sparse()}, "'a' is sparse"),
        ({"a": torch.empty(2, device="meta")}, "'a' is sparse, quantised or without values"),
    ],
)
def test_what_no_safetensors_file_holds_is_told(tmp_path: Path, state: dict[str, Any], told: str) -> None:
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=told):
        convert(tmp_path / "weights.pt", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_two_pickles_do_not_overwrite_each_other(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for name in ("model.pt", "pytorch_model.bin"):
        torch.save({"a": torch.ones(2)}, tmp_path / "old" / name)
    with pytest.raises(InputError, match=r"two pickles that would both be called model\.safetensors"):
        convert(tmp_path / "old", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_safetensors_file_that_begins_like_a_pickle_is_none(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode().ljust(0x0280)
    file = tmp_path / "weights.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert file.read_bytes().startswith(b"\x80\x02"), "as protocol 2 does"
    assert not is_pickle(file)
    assert load_file(file)["w"].equal(torch.zeros(1))

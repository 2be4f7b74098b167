"""A hostile or damaged folder of an erasure is refused in one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sgrace._util.errors import InputError
from sgrace._util.hashing import sha256
from sgrace.erasure import Erasure
from sgrace.models import DiffusionModel

from ..models.bad_files import is_row, rows
from .made import erasure, of_adapter, of_denoiser, of_guidance, of_text, tiny_model


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return tiny_model()


def rehash(folder: Path) -> None:
    """Name all files as they are now: what somebody would do who tampers and knows how."""
    recipe = json.loads((folder / "recipe.json").read_text())
    recipe["sha256"] = {name: sha256(folder / name) for name in recipe["sha256"] if (folder / name).is_file()}
    (folder / "recipe.json").write_text(json.dumps(recipe))


def weights(change: Callable[[dict[str, Any]], object], file: str = "text_encoder/model.safetensors") -> Any:
    def tamper(folder: Path) -> None:
        tensors = load_file(folder / file)
        change(tensors)
        save_file(tensors, folder / file)

    return tamper


def config(**values: object) -> Any:
    def tamper(folder: Path) -> None:
        file = folder / "text_encoder" / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return tamper


def content(file: str, data: bytes) -> Any:
    return lambda folder: (folder / file).write_bytes(data)


def first(tensors: dict[str, Any]) -> str:
    return next(iter(tensors))


WEIGHTS, UNET = "text_encoder/model.safetensors", "unet.safetensors"
#: What is done to a folder whose digests are then made right -> a part of the refusal.
TAMPERED = {
    "one tensor missing": (weights(lambda t: t.pop(first(t))), "lacks 1 of"),
    "all tensors missing": (weights(lambda t: t.clear()), "holds no tensors"),
    "NaN": (weights(lambda t: t[first(t)].fill_(float("nan"))), "NaN"),
    "infinity in the denoiser": (weights(lambda t: t[first(t)].fill_(float("inf")), UNET), "infinity"),
    "int32": (weights(lambda t: t.update({first(t): t[first(t)].int()})), "int32"),
    "int32 in the denoiser": (weights(lambda t: t.update({first(t): t[first(t)].int()}), UNET), "int32"),
    "8-bit floating point": (
        weights(lambda t: t.update({first(t): t[first(t)].to(torch.float8_e4m3fn)})),
        "16 bits",
    ),
    "8-bit floating point in the denoiser": (
        weights(lambda t: t.update({first(t): t[first(t)].to(torch.float8_e4m3fn)}), UNET),
        "16 bits",
    ),
    "complex numbers": (weights(lambda t: t.update({first(t): t[first(t)] * 1j}), UNET), "complex64"),
    "no tensors in the denoiser": (weights(lambda t: t.clear(), UNET), "holds no tensors"),
    "other shape": (weights(lambda t: t.update({first(t): torch.zeros(2, 2)})), "has the shape"),
    "strange tensor": (weights(lambda t: t.update({"more": torch.zeros(2)})), "no place for the tensor"),
    "scale without rows": (
        weights(lambda t: t.update({f"{first(t)}.row_scale": torch.zeros(1)})),
        "one factor for each row",
    ),
    "cut off": (lambda folder: content(WEIGHTS, (folder / WEIGHTS).read_bytes()[:-9])(folder), "damaged"),
    "empty": (content(UNET, b""), "it is empty"),
    "huge header": (content(UNET, b"\xff" * 8 + b"{}"), "damaged"),
    "no safetensors": (content(UNET, b"PK\x03\x04" + bytes(99)), "damaged"),
    "100,000 layers": (config(num_hidden_layers=100_000), "num_hidden_layers is 100000"),
    "huge width": (config(hidden_size=10**12), "hidden_size is"),
    "huge classes": (config(num_labels=10**9), "num_labels is"),
    "other width": (config(hidden_size=48), "has the shape"),
    "negative width": (config(hidden_size=-24), "describes no CLIPTextModel"),
    "width of text": (config(hidden_size="wide"), "describes no CLIPTextModel"),
    "heads that do not divide": (config(num_attention_heads=7), "describes no CLIPTextModel"),
    "no heads": (config(num_attention_heads=0), "describes no CLIPTextModel"),
    "activation": (config(hidden_act="os.system"), "describes no CLIPTextModel"),
    "positions": (config(max_position_embeddings=12), "has the shape"),
    "architecture": (config(architectures=["LlamaForCausalLM"]), "architectures must name one of"),
    "architecture as a number": (config(architectures=[5]), "architectures must name one of"),
    "no architecture": (config(architectures=None), "architectures must name one of"),
    "config of a list": (content("text_encoder/config.json", b"[]"), "architectures must name one of"),
    "config of nothing": (content("text_encoder/config.json", b""), "it is empty"),
    "config nested": (content("text_encoder/config.json", b"[" * 100_000), "nested too deeply"),
    "no config": (lambda folder: (folder / "text_encoder" / "config.json").unlink(), "Cannot read"),
    "tokenizer": (content("text_encoder/tokenizer.json", b'{"model": 5}'), "tokenizer in"),
    "tokenizer of nothing": (content("text_encoder/tokenizer.json", b""), "tokenizer in"),
    "tokenizer config": (content("text_encoder/tokenizer_config.json", b"[]"), "tokenizer in"),
}


@pytest.fixture(scope="module")
def saved(model: DiffusionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "safe"
    both = {**of_text(model).tensors, **of_denoiser(model).tensors}
    erasure(model, both).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_folder_with_the_right_digests_is_refused(saved: Path, tmp_path: Path, name: str) -> None:
    tamper, message = TAMPERED[name]
    folder = tmp_path / "safe"
    shutil.copytree(saved, folder)
    tamper(folder)
    rehash(folder)
    with pytest.raises(InputError, match=message) as caught:
        Erasure.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    assert is_row(rows()["Erasures"][name], str(caught.value))


def test_the_document_has_every_tampering_and_no_other() -> None:
    assert list(rows()["Erasures"]) == list(TAMPERED)


@pytest.mark.parametrize(
    "name", ["unet.safetensors", WEIGHTS, "text_encoder/config.json", "text_encoder/tokenizer.json"]
)
def test_a_changed_file_is_noticed(saved: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "safe"
    shutil.copytree(saved, folder)
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(InputError, match="changed or damaged"):
        Erasure.from_pretrained(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match="not complete"):
        Erasure.from_pretrained(folder)


@pytest.mark.parametrize(
    "name", ["vae.safetensors", "text_encoder/added_tokens.json", "text_encoder_2/model.safetensors"]
)
def test_a_file_beside_the_named_ones_is_noticed(saved: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "safe"
    shutil.copytree(saved, folder)
    (folder / name).parent.mkdir(exist_ok=True)
    shutil.copy(saved / "unet.safetensors", folder / name)
    with pytest.raises(InputError, match="not named by the recipe"):
        Erasure.from_pretrained(folder)


def test_images_and_documents_beside_it_are_welcome(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "safe"
    shutil.copytree(saved, folder)
    (folder / "before_after.png").write_bytes(b"x")
    (folder / "attack").mkdir()
    shutil.copy(saved / "unet.safetensors", folder / "attack" / "found.safetensors")
    assert Erasure.from_pretrained(folder).tensors


@pytest.mark.parametrize(
    "name", ["../safe/unet.safetensors", "/etc/hostname", "./unet.safetensors", "a//b", "", ".hidden"]
)
def test_a_recipe_names_no_file_outside(saved: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "safe"
    shutil.copytree(saved, folder)
    recipe = json.loads((folder / "recipe.json").read_text())
    (folder / "recipe.json").write_text(json.dumps({**recipe, "sha256": {**recipe["sha256"], name: "0"}}))
    with pytest.raises(InputError, match="must name files of its folder"):
        Erasure.from_pretrained(folder)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an erasure"):
        Erasure.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="not an erasure"):
        Erasure.from_pretrained(tmp_path / "nothing")


def test_a_recipe_without_weights_is_refused(saved: Path, tmp_path: Path) -> None:
    recipe = json.loads((saved / "recipe.json").read_text())
    (tmp_path / "recipe.json").write_text(json.dumps({**recipe, "sha256": {}}))
    with pytest.raises(InputError, match="names no weights"):
        Erasure.from_pretrained(tmp_path)


def test_a_parent_that_is_changed_or_taken_away_is_noticed(model: DiffusionModel, tmp_path: Path) -> None:
    of_denoiser(of_text(model, "dog").apply(model)).save_pretrained(tmp_path / "safe")
    weights_of_parent = tmp_path / "safe" / "parents" / "0" / WEIGHTS
    whole = weights_of_parent.read_bytes()
    weights_of_parent.write_bytes(whole + b" ")
    with pytest.raises(InputError, match="changed or damaged"):
        Erasure.from_pretrained(tmp_path / "safe")
    weights_of_parent.write_bytes(whole)
    assert Erasure.from_pretrained(tmp_path / "safe").parents
    shutil.rmtree(tmp_path / "safe" / "parents")
    with pytest.raises(InputError, match="not complete"):
        Erasure.from_pretrained(tmp_path / "safe")


#: Header of a file of adapters or guidance, a change of its tensors -> a part of the refusal.
BROKEN: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "unknown": ({"kind": "strange", "guidance": "strange"}, {}, "Unknown"),
    "without a name": ({"guidance": None}, {}, "no guidance"),
    "of a method without any": ({"guidance": "esd"}, {}, "esd, which has none"),
    "settings of text": ({"settings": "x"}, {}, "no guidance"),
    "settings of a list": ({"settings": "[]"}, {}, "has none"),
    "settings out of range": ({"settings": '{"scale": -5}'}, {}, "scale"),
    "int32": ({}, {"first": torch.ones(2, 2).int()}, "floating"),
    "NaN": ({}, {"first": torch.full((2, 2), torch.nan)}, "NaN"),
    "vector": ({}, {"first": torch.ones(24)}, "is damaged"),
    "one tensor more": ({}, {"more": torch.ones(2, 2)}, "is damaged"),
    "other tensor": ({}, {"first": None, "more": torch.ones(2, 2)}, "is damaged"),
}


def resave(file: Path, header: dict[str, Any], change: dict[str, Any]) -> None:
    with safe_open(file, "pt") as opened:
        before = opened.metadata() or {}
    tensors = load_file(file)
    named = {first(tensors) if name == "first" else name: value for name, value in change.items()}
    after = {**tensors, **named}
    kept = {name: value for name, value in {**before, **header}.items() if value is not None}
    save_file({name: value for name, value in after.items() if value is not None}, file, metadata=kept)
    rehash(file.parent)


@pytest.mark.parametrize(("header", "change", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_guidance_is_refused(
    model: DiffusionModel, tmp_path: Path, header: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    of_guidance(model).save_pretrained(tmp_path / "safe")
    resave(tmp_path / "safe" / "guidance.safetensors", header, change)
    with pytest.raises(InputError, match=message):
        Erasure.from_pretrained(tmp_path / "safe")


@pytest.mark.parametrize("name", ["unknown", "int32", "NaN"])
def test_broken_adapters_are_refused(model: DiffusionModel, tmp_path: Path, name: str) -> None:
    of_adapter(model).save_pretrained(tmp_path / "safe")
    header, change, message = BROKEN[name]
    resave(tmp_path / "safe" / "adapter.safetensors", header, change)
    with pytest.raises(InputError, match=message):
        Erasure.from_pretrained(tmp_path / "safe")


@pytest.mark.parametrize(
    "change", [{"first": None}, {"first": torch.ones(2, 2)}, {"more/down": torch.ones(2, 2)}]
)
def test_adapters_that_do_not_fit_are_refused_where_they_are_used(
    model: DiffusionModel, tmp_path: Path, change: dict[str, Any]
) -> None:
    of_adapter(model).save_pretrained(tmp_path / "safe")
    resave(tmp_path / "safe" / "adapter.safetensors", {}, change)
    with pytest.raises(InputError, match="adapters do not fit"):
        Erasure.from_pretrained(tmp_path / "safe").apply(model)


def test_a_denoiser_with_a_tensor_missing_is_refused_where_it_is_used(
    model: DiffusionModel, tmp_path: Path
) -> None:
    of_denoiser(model).save_pretrained(tmp_path / "safe")
    resave(tmp_path / "safe" / "unet.safetensors", {"format": "pt"}, {"first": None})
    with pytest.raises(InputError, match="made on another model"):
        Erasure.from_pretrained(tmp_path / "safe").apply(model)

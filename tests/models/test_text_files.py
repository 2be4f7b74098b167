"""Text encoders and tokenizers are saved under the names that every program reads."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import CLIPTokenizer

import sgrace
from sgrace.models import DiffusionModel

from ..erasure.made import of_text
from ..families import PIPELINES, shared, wrapped

#: Layers of a published text model of CLIP, by its names in the first releases.
LAYER = (
    "layer_norm1",
    "layer_norm2",
    "mlp.fc1",
    "mlp.fc2",
    "self_attn.k_proj",
    "self_attn.out_proj",
    "self_attn.q_proj",
    "self_attn.v_proj",
)


def published(layers: int) -> set[str]:
    """Names of all tensors in a published file of a text model of CLIP."""
    modules = [f"encoder.layers.{i}.{part}" for i in range(layers) for part in LAYER] + ["final_layer_norm"]
    names = {f"text_model.{module}.{leaf}" for module in modules for leaf in ("weight", "bias")}
    tables = ("token_embedding", "position_embedding")
    return names | {f"text_model.embeddings.{table}.weight" for table in tables}


def saved(folder: Path, family: str) -> DiffusionModel:
    model = shared(family)
    model.pipeline.save_pretrained(folder)
    return model


@pytest.mark.parametrize("family", [name for name in PIPELINES if name != "z_image"])
def test_clip_is_saved_under_the_published_names(tmp_path: Path, family: str) -> None:
    model = saved(tmp_path / "out", family)
    for encoder in [encoder for encoder in model.text if encoder.is_clip]:
        config: Any = encoder.module.config
        found = set(load_file(tmp_path / "out" / encoder.component / "model.safetensors"))
        assert found - {"text_projection.weight"} == published(config.num_hidden_layers)


def test_shards_and_their_index_are_published_alike(tmp_path: Path) -> None:
    model = shared("stable_diffusion")
    model.pipeline.save_pretrained(tmp_path / "out", max_shard_size="5KB")
    folder = tmp_path / "out" / "text_encoder"
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(index) == published(2)
    shards = {file.name: set(load_file(file)) for file in folder.glob("*.safetensors")}
    assert len(shards) > 1
    assert index == {name: file for file, names in shards.items() for name in names}
    assert sgrace.load_model(tmp_path / "out", device="cpu").text.main.width == model.text.main.width


def test_what_goes_to_the_hub_is_published_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = wrapped(PIPELINES["stable_diffusion"]()).pipeline
    uploaded: list[set[str]] = []

    def upload(_pipeline: Any, folder: str, *_: Any, **__: Any) -> None:
        uploaded.append(set(load_file(Path(folder) / "text_encoder" / "model.safetensors")))

    monkeypatch.setattr(type(pipeline), "_upload_folder", upload)
    diffusers = "diffusers.pipelines.pipeline_utils"
    monkeypatch.setattr(f"{diffusers}.create_repo", lambda name, **_: SimpleNamespace(repo_id=name))
    monkeypatch.setattr(f"{diffusers}.load_or_create_model_card", lambda *_, **__: ModelCard("---\n---"))
    for _ in range(2):
        pipeline.save_pretrained(tmp_path / "out", push_to_hub=True)
    assert uploaded == [published(2)] * 2


@pytest.mark.parametrize("family", PIPELINES)
def test_saved_tokenizers_read_as_before(tmp_path: Path, family: str) -> None:
    model = saved(tmp_path / "out", family)
    again = sgrace.load_model(tmp_path / "out", device="cpu")
    texts = ["a photo of church", "dog tree, house", "zebra"]
    for own, other in zip(model.text, again.text, strict=True):
        assert own.tokenize(texts).ids.equal(other.tokenize(texts).ids)
        assert own.special_ids == other.special_ids
    for file in (tmp_path / "out").glob("tokenizer*/tokenizer_config.json"):
        assert not isinstance(json.loads(file.read_text()).get("extra_special_tokens"), list)


def test_the_vocabulary_stands_beside_the_tokenizer(tmp_path: Path) -> None:
    model = wrapped(PIPELINES["stable_diffusion"]())
    tokenizer = model.text.main.tokenizer
    tokenizer.add_tokens(["<cat>"])
    model.pipeline.save_pretrained(tmp_path / "out")
    folder = tmp_path / "out" / "tokenizer"
    merges: list[Any] = [
        tuple(line.split(" ")) for line in (folder / "merges.txt").read_text().splitlines()[1:]
    ]
    vocabulary = json.loads((folder / "vocab.json").read_text())
    added = json.loads((folder / "added_tokens.json").read_text())
    assert added == {"<cat>": len(vocabulary)}
    again = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=20)
    text = "a photo of church, zebra"
    assert again(text).input_ids == tokenizer(text).input_ids
    read = CLIPTokenizer.from_pretrained(folder)
    assert read("a <cat>").input_ids == tokenizer("a <cat>").input_ids


def test_an_erased_text_encoder_is_saved_alike(tmp_path: Path) -> None:
    erasure = of_text(shared("stable_diffusion"))
    erasure.save_pretrained(tmp_path / "safe")
    erasure.save_pretrained(tmp_path / "small", small=True)
    folder = tmp_path / "safe" / "text_encoder"
    assert set(load_file(folder / "model.safetensors")) == published(2)
    assert {"vocab.json", "merges.txt", "tokenizer.json"} <= {file.name for file in folder.iterdir()}
    own = erasure.tensors["text_encoder"]
    again = sgrace.Erasure.from_pretrained(tmp_path / "safe").tensors["text_encoder"]
    small = sgrace.Erasure.from_pretrained(tmp_path / "small").tensors["text_encoder"]
    assert again.keys() == own.keys() == small.keys()
    assert all(value.equal(own[name]) for name, value in again.items())
    name = "encoder.layers.0.mlp.fc1.weight"
    torch.testing.assert_close(small[name], own[name], atol=0.02, rtol=0.01)

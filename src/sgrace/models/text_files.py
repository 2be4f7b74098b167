"""Files of text encoders and tokenizers, under the names that every program reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from safetensors.torch import load_file

from .._util.files import atomic_file, write_json
from .._util.tensors import save_tensors, stored

_Value = TypeVar("_Value")

#: Before the names of CLIP's text model in published files. Transformers has dropped it since version 5.6 and
#: reads both; versions before it, and all other programs, read the long names only.
PREFIX = "text_model."
#: A tensor that only a text model of CLIP has, by its short name.
_SHORT = "embeddings.token_embedding.weight"


def published_names(tensors: Mapping[str, _Value]) -> dict[str, _Value]:
    """Tensors of a text encoder by their published names; those of other encoders than CLIP stay."""
    return _long(tensors) if _SHORT in tensors else dict(tensors)


def own_names(tensors: Mapping[str, _Value], known: Mapping[str, object]) -> dict[str, _Value]:
    """The opposite of :func:`published_names`, for a network that has tensors of these names."""
    is_short = _SHORT in known
    return {name.removeprefix(PREFIX) if is_short else name: value for name, value in tensors.items()}


def publish_weights(folder: Path) -> None:
    """Rewrite the weights in the folder of a text encoder under their published names."""
    # of several files only one has the tensor by which a text model of CLIP is known
    if not any(_SHORT in stored(file) for file in folder.glob("*.safetensors")):
        return
    for file in folder.glob("*.safetensors"):
        with atomic_file(file) as partial:
            save_tensors(partial, _long(load_file(file)), {"format": "pt"})
    for file in folder.glob("*.safetensors.index*.json"):
        index = json.loads(file.read_text(encoding="utf-8"))
        index["weight_map"] = _long(index["weight_map"])
        write_json(file, index)


def _long(tensors: Mapping[str, _Value]) -> dict[str, _Value]:
    return {f"{PREFIX}{name.removeprefix(PREFIX)}": value for name, value in tensors.items()}


def publish_tokenizer(folder: Path) -> None:
    """Write the vocabulary of a byte-pair tokenizer as ``vocab.json`` and ``merges.txt`` too.

    Programs with older releases of transformers read these, and not ``tokenizer.json`` beside them.
    """
    if not (folder / "tokenizer.json").is_file():
        return
    _rename_special_tokens(folder / "tokenizer_config.json")
    saved = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    model = saved["model"]
    if model["type"] != "BPE":
        return
    # a merge is a pair; files of older releases have it as one text
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    added = {each["content"]: each["id"] for each in saved["added_tokens"]}
    added = {token: i for token, i in added.items() if token not in model["vocab"]}
    texts = {
        "vocab.json": json.dumps(model["vocab"], ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
    }
    # words that were learned later stand outside the vocabulary
    if added:
        texts["added_tokens.json"] = json.dumps(added, ensure_ascii=False)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _rename_special_tokens(file: Path) -> None:
    """Give the list of further special tokens the name that releases before 5 read, and later ones too."""
    config = json.loads(file.read_text(encoding="utf-8"))
    # before release 5 the newer name stood for a dictionary
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
        file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

"""Sentence embeddings of a small random network, in the place where the package has the trained one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from sgrace._util.errors import InputError
from sgrace.knowledge.sentences import FOLDER, PACKAGE, POOLING, sentence_nearness

WORDS = ["church", "old church", "dog", "a dog and a tree"]


def saved(folder: Path) -> Any:
    """A small random network with its tokenizer in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *["church", "old", "dog", "a", "and", "tree"]]
    tokenizer: Any = BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes: Any = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    network: Any = BertModel(BertConfig(vocab_size=len(vocabulary), **sizes)).eval()
    network.save_pretrained(folder)
    return lambda word: network(**tokenizer(word, return_tensors="pt")).last_hidden_state


def test_embeddings_are_means_over_the_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / PACKAGE / FOLDER
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise ImportError('its code is not run')")
    monkeypatch.syspath_prepend(tmp_path)
    states = saved(folder)

    nearness = sentence_nearness()
    assert nearness is not None
    found = nearness("church", WORDS)
    with torch.no_grad():  # one at a time: nothing is padded
        means = [states(word).mean(1) for word in WORDS]
    wanted = [torch.cosine_similarity(mean, means[0]).item() for mean in means]
    assert found == pytest.approx(wanted, abs=1e-5)
    assert found[0] == pytest.approx(1, abs=1e-5)
    assert max(found[1:]) < 0.999


@pytest.mark.parametrize(("way", "at"), [("cls_token", 0), ("mean_tokens", None), ("max_tokens", None)])
def test_any_sentence_transformers_model_pools_as_it_says(tmp_path: Path, way: str, at: int | None) -> None:
    states = saved(tmp_path)
    (tmp_path / POOLING).parent.mkdir()
    ways = {f"pooling_mode_{one}": one == way for one in ("cls_token", "mean_tokens", "max_tokens")}
    (tmp_path / POOLING).write_text(json.dumps({"word_embedding_dimension": 16, **ways}))
    if way == "max_tokens":
        with pytest.raises(InputError, match="mean of its tokens, or the first one"):
            sentence_nearness(str(tmp_path))
        return
    nearness = sentence_nearness(str(tmp_path))
    assert nearness is not None
    with torch.no_grad():
        found = [states(word)[:, at] if at is not None else states(word).mean(1) for word in WORDS]
    wanted = [torch.cosine_similarity(one, found[0]).item() for one in found]
    assert nearness("church", WORDS) == pytest.approx(wanted, abs=1e-5)


def test_without_the_package_there_are_none() -> None:
    assert sentence_nearness() is None

"""Sentence embeddings of a small random network, in the place where the package has the trained one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from sgrace.knowledge.sentences import FOLDER, PACKAGE, sentence_nearness

WORDS = ["church", "old church", "dog", "a dog and a tree"]


def test_embeddings_are_means_over_the_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / PACKAGE / FOLDER
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise ImportError('its code is not run')")
    monkeypatch.syspath_prepend(tmp_path)
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

    nearness = sentence_nearness()
    assert nearness is not None
    found = nearness("church", WORDS)
    with torch.no_grad():  # one at a time: nothing is padded
        means = [network(**tokenizer(word, return_tensors="pt")).last_hidden_state.mean(1) for word in WORDS]
    wanted = [torch.cosine_similarity(mean, means[0]).item() for mean in means]
    assert found == pytest.approx(wanted, abs=1e-5)
    assert found[0] == pytest.approx(1, abs=1e-5)
    assert max(found[1:]) < 0.999


def test_without_the_package_there_are_none() -> None:
    assert sentence_nearness() is None

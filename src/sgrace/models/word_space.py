"""How a text encoder reads single words: their features, and the words of its vocabulary near a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .base import DiffusionModel
from .conditioning import PromptSource
from .text import TextEncoder

#: Words that a text encoder reads at once.
BATCH = 64
#: Rows of the embedding table that are compared at once: in float32 the whole of it may take a gigabyte.
ROWS = 8192
#: Tokens that are looked at, nearest first; further ones are no neighbours.
LOOKED_AT = 2000
#: Letters of the shortest word.
SHORTEST = 3


class WordSpace:
    """Words as one text encoder of a model reads them. No word is read twice.

    It is the model's first CLIP encoder, which was trained to tell what images show; where there is none, the
    main encoder. The others, which may be large, do not run.

    Args:
        model: whose encoder it is.
    """

    def __init__(self, model: DiffusionModel) -> None:
        self._model = model
        self._features: dict[str, Tensor] = {}
        self.encoder: TextEncoder = next((own for own in model.text if own.is_clip), model.text.main)

    def nearness(self, name: str, words: Sequence[str]) -> list[float]:
        """Cosine of each word's pooled text feature to the name's."""
        # (1 + words, features), the name first
        features = self.features([name, *words])
        cosines: list[float] = (features[1:] @ features[0]).tolist()
        return cosines

    @torch.no_grad()
    def neighbours(self, name: str, n: int, is_word: Callable[[str], bool]) -> tuple[str, ...]:
        """At most ``n`` whole words of the vocabulary, by the cosine of token embeddings, nearest first.

        A name of several tokens is the mean of them. The text encoder does not run.

        Args:
            name: whose neighbours they are.
            n: their number.
            is_word: which ones count; byte pairs such as ``tion`` look like words too.
        """
        encoder = self.encoder
        own = encoder.content_tokens(name)
        # (tokens, width) -> (width,)
        centre = encoder.embed(torch.tensor(own)).mean(0)
        table = encoder.table.weight.split(ROWS)
        cosines = torch.cat(
            [F.cosine_similarity(rows.float(), centre.to(rows.device)[None]) for rows in table]
        )
        excluded = {*own, *encoder.special_ids}
        found: dict[str, None] = {}
        for token in cosines.topk(min(LOOKED_AT, len(cosines))).indices.tolist():
            word = "" if token in excluded or token >= len(encoder.tokenizer) else self._whole_word(token)
            if word and is_word(word):
                found[word] = None
            if len(found) == n:
                break
        return tuple(found)

    def _whole_word(self, token: int) -> str:
        """The word that is written as this token alone; empty where there is none."""
        word = self.encoder.decode([token]).strip()
        is_whole = len(word) >= SHORTEST and word.isalpha() and self.encoder.content_tokens(word) == [token]
        return word if is_whole else ""

    @torch.no_grad()
    def features(self, words: Sequence[str]) -> Float[Tensor, "words features"]:
        """Pooled text features of words, of length 1, on the CPU."""
        new = [word for word in dict.fromkeys(words) if word not in self._features]
        encoder = self.encoder
        for at in range(0, len(new), BATCH):
            batch = new[at : at + BATCH]
            tokens = encoder.tokenize(batch)
            # CLIP is causal: no state depends on the padding, which is most of a word's row
            source = PromptSource({encoder.name: tokens.until_end() if encoder.is_clip else tokens})
            states = self._model.read_ahead(source, [encoder]).states[encoder.name]
            # (batch, length, width) -> (batch, width) -> (batch, features)
            pooled = states[torch.arange(len(batch), device=states.device), tokens.end.to(states.device)]
            if encoder.projection is not None:
                pooled = pooled @ encoder.projection.T
            for word, feature in zip(batch, F.normalize(pooled, dim=-1).cpu(), strict=True):
                self._features[word] = feature
        return torch.stack([self._features[word] for word in words])

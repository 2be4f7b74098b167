"""Text encoders: tokens, input embeddings, text states from either, and what can be trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .._util.errors import InputError
from .._util.text import is_torn
from .conditioning import CPU, Tokens
from .learned_words import written_out


class Frame(NamedTuple):
    """Token ids that every row has around its content: before it, and after it."""

    before: list[int]
    after: list[int]


class Place(NamedTuple):
    """Where an encoder's states stand in the prompt embeddings ``(batch, length, width)``."""

    positions: slice = slice(None)
    columns: slice = slice(None)


EVERYWHERE = Place()


@dataclass(frozen=True)
class TextEncoder:
    """One text encoder of a model with its tokenizer.

    Attributes:
        name: of the encoder among those of a model, such as ``clip_l``.
        component: of the pipeline that holds it, such as ``text_encoder``.
        module: the network.
        tokenizer: of transformers.
        projection: matrix ``(features, width)`` from pooled states to the space shared with images, where it
            is known.
        device: where tokens and embeddings live.
        template: what the network reads for a prompt, such as a chat template; ``{}`` stands for the prompt.
        max_length: number of text positions, where the network does not set it.
        place: of its states in the prompt embeddings; none where only its pooled feature is read.
    """

    name: str
    component: str
    module: nn.Module
    tokenizer: Any
    projection: Float[Tensor, "features width"] | None = None
    device: torch.device = CPU
    template: str = "{}"
    max_length: int | None = None
    place: Place | None = EVERYWHERE

    @property
    def is_clip(self) -> bool:
        """Whether it is a CLIP encoder; T5 and language models are none."""
        return self.name.startswith("clip")

    @property
    def length(self) -> int:
        """Number of text positions."""
        if self.max_length is not None:
            return self.max_length
        config: Any = self.module.config
        return int(config.max_position_embeddings)

    @property
    def width(self) -> int:
        """Size of a text state."""
        config: Any = self.module.config
        return int(config.hidden_size)

    @cached_property
    def frame(self) -> Frame:
        """What stands around the content: start and end token of CLIP, or the parts of a template."""
        if self.template == "{}":
            *before, end = self.tokenizer("").input_ids
            return Frame(before, [end])
        parts = self.template.split("{}")
        return Frame(*(self.content_tokens(part) for part in parts))

    @property
    def start(self) -> int:
        """Position of the first content token."""
        return len(self.frame.before)

    @property
    def room(self) -> int:
        """Number of content tokens that fit between what stands before and after them."""
        return self.length - self.start - len(self.frame.after)

    @property
    def end_id(self) -> int:
        """Id of the token that ends the content."""
        return self.frame.after[0]

    @property
    def special_ids(self) -> set[int]:
        """Ids of the start, end and padding tokens."""
        return set(self.tokenizer.all_special_ids)

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token rows of texts, padded and cut to ``length``.

        Raises:
            InputError: a text holds half of a character, or the tokenizer gives a token that the network has
                no embedding for.
        """
        for text in texts:
            if is_torn(text):
                raise InputError(f"A prompt holds half of a character (a lone surrogate): {text[:40]!r}.")
        framed = [self.template.replace("{}", written_out(text, self.tokenizer)) for text in texts]
        # every row of one length, as the network was trained on: (texts, length)
        found = self.tokenizer(
            framed, padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
        )
        return self._tokens(found.input_ids)

    def assemble(self, contents: Sequence[Sequence[int]]) -> Tokens:
        """Token rows of content tokens, with their frame; a content that is too long loses its end.

        Raises:
            InputError: the network has no embedding for a token.
        """
        before, after = self.frame
        rows = [[*before, *content[: self.room], *after] for content in contents]
        # -> (batch, length)
        padded = [row + [self.tokenizer.pad_token_id] * (self.length - len(row)) for row in rows]
        return self._tokens(torch.tensor(padded))

    def _tokens(self, ids: Int[Tensor, "batch length"]) -> Tokens:
        """Token rows of ids on the CPU."""
        if len(ids) and ids.max() >= self.table.num_embeddings:
            raise InputError(
                f"The tokenizer of {self.component} gives token {int(ids.max())}, but the network has "
                f"embeddings for {self.table.num_embeddings} tokens only: they do not belong together."
            )
        ends = ids == self.end_id
        # argmax gives the first of equal values: padding may have the end token's id
        end = torch.where(ends.any(1), ends.int().argmax(1), ids.shape[1] - 1)  # a cut template has none
        return Tokens(ids.to(self.device), end.to(self.device))

    def contents(self, tokens: Tokens) -> list[list[int]]:
        """Content tokens of each row."""
        ids: list[list[int]] = tokens.ids.tolist()
        return [row[self.start : end] for row, end in zip(ids, tokens.end.tolist(), strict=True)]

    def content_tokens(self, text: str) -> list[int]:
        """Token ids of a text without what stands around it, not cut."""
        whole = written_out(text, self.tokenizer)
        ids: list[int] = self.tokenizer(whole, add_special_tokens=False).input_ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of content tokens."""
        return str(self.tokenizer.decode(list(ids)))

    def ordinary_tokens(self) -> Int[Tensor, " vocabulary"]:
        """Ids of all tokens that are not special and that the embedding table holds."""
        # a tokenizer may know more tokens than the network has embeddings for, and the other way round
        size = min(len(self.tokenizer), self.table.num_embeddings)
        special = self.special_ids
        return torch.tensor([i for i in range(size) if i not in special]).to(self.device)

    def random_tokens(self, n: int, generator: torch.Generator, limit: int | None = None) -> list[int]:
        """Uniform ordinary token ids, below ``limit`` where there is one."""
        if n == 0:
            return []  # listing a large vocabulary for nothing would cost more than the sample
        # chosen on the CPU, so that a seed gives the same tokens on every device
        ordinary = self.ordinary_tokens().cpu()
        if limit is not None:
            ordinary = ordinary[ordinary < limit]
        ids: list[int] = ordinary[torch.randint(len(ordinary), (n,), generator=generator)].tolist()
        return ids

    def shuffled_tokens(self, generator: torch.Generator) -> Int[Tensor, " tokens"]:
        """All ordinary token ids in random order, on the CPU."""
        ordinary = self.ordinary_tokens().cpu()
        return ordinary[torch.randperm(len(ordinary), generator=generator)]

    @property
    def table(self) -> nn.Embedding:
        """The token embeddings."""
        table: nn.Embedding = self.module.get_input_embeddings()  # type: ignore[operator]
        return table

    def embed(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch width"]:
        """Token embeddings, without positions, in float32."""
        place = self.table.weight.device  # the CPU while another network is at work, to save memory
        # (..., length) -> (..., length, width)
        embeddings: Tensor = self.table(ids.to(place))
        return embeddings.to(self.device).float()

    def run(self, ids: Int[Tensor, "batch length"], embeddings: Tensor | None = None, **options: Any) -> Any:  # noqa: ANN401
        """The network's own output for token ids.

        Or for embeddings in the place of the ids' own (with gradient).
        """
        if embeddings is None:
            return self.module(ids.to(self.device), **options)
        # in the network's own precision and place
        given = embeddings.to(self.table.weight)
        # some networks have a second module with the same weight, and call that one
        tables = [m for m in self.module.modules() if getattr(m, "weight", None) is self.table.weight]
        # the ids still tell the network where the text ends; only the table's output is replaced
        hooks = [table.register_forward_hook(lambda _module, _inputs, _output: given) for table in tables]
        try:
            return self.module(ids.to(self.device), **options)
        finally:
            for hook in hooks:
                hook.remove()

    def states(self, prompt_embeds: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch _ _"]:
        """Its own part of the prompt embeddings: ``(batch, own length, own width)``."""
        assert self.place is not None, f"{self.name} gives no prompt embeddings"
        return prompt_embeds[:, self.place.positions, self.place.columns]

    def trainable(self, layers: int | None = None) -> list[str]:
        """Names of the parameters that erasers train.

        All but the embeddings, or those of the first ``layers`` layers.
        """
        return [name for name, _ in self.module.named_parameters() if _is_trainable(name, layers)]


def _is_trainable(name: str, layers: int | None) -> bool:
    if layers is None:
        # token and position embeddings stay the original's: their names in CLIP, T5 and language models
        return re.search(r"\b(embeddings|shared|embed_tokens)\.", name) is None
    found = re.search(r"\b(?:layers|block)\.(\d+)\.", name)
    return found is not None and int(found[1]) < layers

"""What a batch of prompts is to a text encoder (tokens) and to a denoiser (conditioning)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

CPU = torch.device("cpu")

#: What picks samples of a batch: indices, a mask, a slice.
Rows = Tensor | Sequence[int] | slice


@dataclass(frozen=True)
class Tokens:
    """Token rows of one text encoder.

    Attributes:
        ids: token ids ``(batch, length)``.
        end: position of the first end-of-text token of each row ``(batch,)``.
    """

    ids: Int[Tensor, "batch length"]
    end: Int[Tensor, " batch"]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Rows) -> Self:
        return replace(self, ids=self.ids[rows], end=self.end[rows])

    def until_end(self) -> Self:
        """Rows up to the last end token of any of them, without the padding, which is most of a row."""
        # (batch, length) -> (batch, shorter)
        return replace(self, ids=self.ids[:, : int(self.end.max()) + 1])

    @classmethod
    def cat(cls, parts: Sequence[Tokens]) -> Tokens:
        """One batch of several."""
        # (parts, batch, length) -> (all, length)
        return cls(torch.cat([part.ids for part in parts]), torch.cat([part.end for part in parts]))


@dataclass(frozen=True)
class PromptSource:
    """What a conditioning was encoded from.

    Attributes:
        tokens: token rows by the encoder's name.
        embeddings: input embeddings ``(batch, length, width)`` in the place of the tokens' own, by the
            encoder's name.
        states: last states ``(batch, length, width)`` in the place of running an encoder, by its name.
    """

    tokens: Mapping[str, Tokens]
    embeddings: Mapping[str, Float[Tensor, "batch length width"]] = field(default_factory=dict)
    states: Mapping[str, Float[Tensor, "batch _ _"]] = field(default_factory=dict)

    def __getitem__(self, rows: Rows) -> Self:
        return type(self)(
            {name: own[rows] for name, own in self.tokens.items()},
            {name: own[rows] for name, own in self.embeddings.items()},
            {name: own[rows] for name, own in self.states.items()},
        )

    def until_end(self) -> Self:
        """Rows up to the last end token of any prompt: see :attr:`TextStack.ignores_padding`."""
        tokens = {name: own.until_end() for name, own in self.tokens.items()}
        embeddings = {name: rows[:, : tokens[name].ids.shape[1]] for name, rows in self.embeddings.items()}
        return type(self)(tokens, embeddings)

    @classmethod
    def cat(cls, parts: Sequence[PromptSource]) -> Self:
        """One batch of several, which have input embeddings of the same encoders.

        States are kept of encoders of which all parts have them.
        """
        first = parts[0]
        # encoder by encoder: each has token rows of its own length
        tokens = {name: Tokens.cat([part.tokens[name] for part in parts]) for name in first.tokens}
        embeddings = {name: torch.cat([part.embeddings[name] for part in parts]) for name in first.embeddings}
        known = [name for name in first.states if all(name in part.states for part in parts)]
        return cls(
            tokens, embeddings, {name: torch.cat([part.states[name] for part in parts]) for name in known}
        )


@dataclass(frozen=True)
class Conditioning:
    """What a denoiser is told about a batch of prompts.

    Attributes:
        prompt_embeds: text states ``(batch, length, width)``, float32.
        pooled: pooled text features ``(batch, pooled_width)``, in families that read them.
        extras: further inputs, one row a prompt; made by the family and read by no method.
        source: what it was encoded from; absent where no text encoder made the prompt embeddings.
    """

    prompt_embeds: Float[Tensor, "batch length width"]
    pooled: Float[Tensor, "batch pooled_width"] | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    source: PromptSource | None = None

    def __len__(self) -> int:
        return len(self.prompt_embeds)

    def __getitem__(self, rows: Rows) -> Self:
        source = None if self.source is None else self.source[rows]
        return replace(self._each(lambda value: value[rows]), source=source)

    @classmethod
    def cat(cls, parts: Sequence[Conditioning]) -> Conditioning:
        """One batch of several; the source is kept where all parts have one of the same kind.

        Raises:
            ValueError: some parts have pooled features or extras that others lack.
        """
        first = parts[0]
        # families differ in what a denoiser reads: such prompts never fit into one call
        if any(
            (part.pooled is None) != (first.pooled is None) or part.extras.keys() != first.extras.keys()
            for part in parts
        ):
            raise ValueError("Prompts of different models cannot be in one batch.")
        pooled = (
            None
            if first.pooled is None
            else torch.cat([part.pooled for part in parts if part.pooled is not None])
        )
        extras = {name: torch.cat([part.extras[name] for part in parts]) for name in first.extras}
        return Conditioning(torch.cat([part.prompt_embeds for part in parts]), pooled, extras, _joined(parts))

    def expand(self, n: int) -> Self:
        """A single prompt as a batch of ``n``; a batch of ``n`` as it is.

        Raises:
            ValueError: there are several prompts, and not ``n``.
        """
        if len(self) not in (1, n):
            raise ValueError(f"{len(self)} prompts cannot stand for {n}.")
        # by indexing, so that extras and the source come along
        return self if len(self) == n else self[[0] * n]

    def repeat(self, n: int) -> Self:
        """The whole batch ``n`` times, one after the other."""
        # 0, 1, ..., 0, 1, ...: the batch as a whole, again and again
        return self[list(range(len(self))) * n]

    def repeat_interleave(self, n: int) -> Self:
        """Each prompt ``n`` times."""
        # 0, 0, ..., 1, 1, ...: the copies of a prompt stand together
        return self[[row for row in range(len(self)) for _ in range(n)]]

    def detach(self) -> Self:
        """Without gradients."""
        return self._each(Tensor.detach)

    def with_embeds(self, prompt_embeds: Float[Tensor, "batch length width"]) -> Self:
        """Other prompt embeddings, which no text encoder made; the pooled path stays."""
        return replace(self, prompt_embeds=prompt_embeds, source=None)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a denoiser reads, by name, one row a prompt."""
        pooled = {} if self.pooled is None else {"pooled": self.pooled}
        return {"prompt_embeds": self.prompt_embeds, **pooled, **self.extras}

    def at(self, positions: Int[Tensor, " batch"]) -> Float[Tensor, "batch width"]:
        """The prompt embedding at one position of each prompt."""
        # (batch, length, width) -> (batch, width)
        return self.prompt_embeds[torch.arange(len(self), device=positions.device), positions]

    def _each(self, change: object) -> Self:
        assert callable(change)
        # every part is changed alike, so that rows never come apart
        pooled = None if self.pooled is None else change(self.pooled)
        extras = {name: change(value) for name, value in self.extras.items()}
        return replace(self, prompt_embeds=change(self.prompt_embeds), pooled=pooled, extras=extras)


def _joined(parts: Sequence[Conditioning]) -> PromptSource | None:
    """The sources of all parts as one; none where a part has none, or where parts differ in kind."""
    sources = [part.source for part in parts if part.source is not None]
    # a source must describe every row, or it describes none
    if len(sources) < len(parts) or any(
        source.embeddings.keys() != sources[0].embeddings.keys() for source in sources
    ):
        return None
    return PromptSource.cat(sources)

"""The text encoders of a model: how they read the same prompts, and which of them are trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .._util.errors import InputError
from .conditioning import PromptSource, Tokens
from .text import TextEncoder


class TextStack:
    """The text encoders of a model, in the family's order.

    Args:
        encoders: one to three; the first is :attr:`main`.
    """

    def __init__(self, encoders: Sequence[TextEncoder]) -> None:
        # a dictionary keeps the order, and the first is `main`
        self._encoders = {encoder.name: encoder for encoder in encoders}

    def __getitem__(self, name: str) -> TextEncoder:
        return self._encoders[name]

    def __iter__(self) -> Iterator[TextEncoder]:
        return iter(self._encoders.values())

    def __len__(self) -> int:
        return len(self._encoders)

    @property
    def main(self) -> TextEncoder:
        """The encoder whose tokens and input embeddings methods choose; the others read the same text."""
        return next(iter(self))

    @property
    def ignores_padding(self) -> bool:
        """Whether no state up to the end token depends on the padding, so that rows may end there.

        That is so of a single CLIP, which is causal; several encoders read rows of one length.
        """
        return len(self) == 1 and self.main.is_clip

    @property
    def rows(self) -> list[TextEncoder]:
        """One encoder for each stretch of positions of the prompt embeddings; others stand beside it."""
        found = {str(own.place.positions): own for own in reversed(list(self)) if own.place is not None}
        return list(reversed(found.values()))

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tokens]:
        """Token rows of texts for every encoder."""
        return {encoder.name: encoder.tokenize(texts) for encoder in self}

    def truncates(self, text: str) -> bool:
        """Whether no encoder reads a text to its end."""
        return all(len(encoder.content_tokens(text)) > encoder.room for encoder in self)

    def follow(self, tokens: Tokens) -> dict[str, Tokens]:
        """Token rows of the main encoder, and those of the other encoders for the same content."""
        rows = {self.main.name: tokens}
        for other in list(self)[1:]:
            # content only: each encoder has start, end and padding of its own
            contents = self.main.contents(tokens)
            # the same vocabulary takes the tokens as they are; another one takes their text
            if other.tokenizer.get_vocab() == self.main.tokenizer.get_vocab():
                rows[other.name] = other.assemble(contents)
            else:
                rows[other.name] = other.tokenize([self.main.decode(content) for content in contents])
        return rows

    def source(self, tokens: Tokens, encoders: Sequence[TextEncoder]) -> PromptSource:
        """What all encoders read for token rows of the main one; of some, the input embeddings too."""
        return self.embedded(self.follow(tokens), encoders)

    def embedded(self, rows: Mapping[str, Tokens], encoders: Sequence[TextEncoder]) -> PromptSource:
        """Token rows of every encoder with the input embeddings of some, which may then be changed."""
        return PromptSource(rows, {own.name: own.embed(rows[own.name].ids) for own in encoders})

    def beside(self, trained: Sequence[TextEncoder]) -> list[TextEncoder]:
        """The large encoders that are not trained: all but CLIP's, whose states a source can hold."""
        names = {own.name for own in trained}
        return [own for own in self if not own.is_clip and own.name not in names]

    @staticmethod
    def silenced(source: PromptSource, encoders: Sequence[TextEncoder]) -> PromptSource:
        """The source for those who do not read some encoders: these do not run, zeros stand for them."""
        n = {own.name: len(source.tokens[own.name]) for own in encoders}
        blank = {own.name: torch.zeros(n[own.name], own.length, own.width) for own in encoders}
        return replace(source, states={own.name: blank[own.name].to(own.device) for own in encoders})

    def select(self, which: str, *, pooled: bool = True) -> list[TextEncoder]:
        """Encoders to be trained, in the model's order.

        Args:
            which: ``clip`` for every CLIP encoder, or the main encoder where there is none; ``all``; or names
                joined by commas.
            pooled: encoders of which the denoiser reads nothing but a pooled feature are among them.

        Raises:
            InputError: there is no such encoder, or a named one gives a pooled feature alone.
        """
        able = {own.name: own for own in self if pooled or own.place is not None}
        if which == "all":
            return list(able.values())
        if which == "clip":
            return [own for own in able.values() if own.is_clip] or [self.main]
        names = [name.strip() for name in which.split(",")]
        if wrong := [name for name in names if name not in able]:
            raise InputError(
                f"No text encoder {wrong[0][:40]!r} can be trained here; name some of {', '.join(able)} "
                "with commas between them, or clip or all."
            )
        return [own for own in able.values() if own.name in names]

    def with_modules(self, modules: Mapping[str, nn.Module]) -> TextStack:
        """The same encoders with other networks, given by component."""
        return TextStack([replace(e, module=modules.get(e.component, e.module)) for e in self])

    def with_projection(self, projection: Float[Tensor, "features width"]) -> TextStack:
        """The same encoders, with a projection of the main one's pooled states.

        It leads to the space shared with images.
        """
        main, *others = self
        return TextStack([replace(main, projection=projection.to(main.device)), *others])

    def to(self, device: torch.device) -> TextStack:
        """The same encoders, whose tokens live on another device."""
        moved = []
        for encoder in self:
            projection = None if encoder.projection is None else encoder.projection.to(device)
            moved.append(replace(encoder, device=device, projection=projection))
        return TextStack(moved)

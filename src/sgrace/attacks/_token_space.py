"""Pieces that several attacks share: token layouts, gradients, denoising errors, nearest tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .._util.device import batches, check_finite
from ..models import Conditioning, DiffusionModel, Tokens
from .session import Session

#: Stands for a free token while a layout is made.
FREE = -1
#: Embeddings that are compared with the whole vocabulary at once.
COMPARED_TOGETHER = 64


@dataclass(frozen=True)
class Layout:
    """Prompts with free positions: adversarial tokens stand there, the prompts' own tokens elsewhere.

    Prompts may have different numbers of free tokens: values for them are listed prompt after prompt. What
    does not fit into the text length is left out, free tokens as well as the prompt's own.

    Attributes:
        tokens: token rows.
        free: whether a position is free.
        start: position of the first content token.
    """

    tokens: Tokens
    free: Bool[Tensor, "n length"]
    start: int

    @classmethod
    def of(cls, model: DiffusionModel, contents: Sequence[Sequence[int]]) -> Layout:
        """Prompts by their content tokens; ``FREE`` stands for a free token."""
        # -1 is no token: it marks free positions through padding and cutting, and becomes 0 afterwards
        main = model.text.main
        tokens = main.assemble(contents)
        free = tokens.ids == FREE
        return cls(replace(tokens, ids=tokens.ids.masked_fill(free, 0)), free, main.start)

    @classmethod
    def prefix(cls, model: DiffusionModel, prompts: Sequence[str], k: int) -> Layout:
        """``k`` free tokens before each prompt."""
        return cls.of(model, [[FREE] * k + model.text.main.content_tokens(prompt) for prompt in prompts])

    @classmethod
    def alone(cls, model: DiffusionModel, n: int, k: int) -> Layout:
        """``n`` prompts of ``k`` free tokens and nothing else."""
        # one row, n times: all are alike
        return cls.of(model, [[FREE] * k])[[0] * n]

    @classmethod
    def interleaved(cls, model: DiffusionModel, prompts: Sequence[str], every: int) -> Layout:
        """A free token before each prompt's first token and after every so many."""
        contents = []
        for prompt in prompts:
            content: list[int] = []
            for place, token in enumerate(model.text.main.content_tokens(prompt)):
                # a free token before tokens 0, every, 2 every ...
                content += [FREE, token] if place % every == 0 else [token]
            contents.append(content)
        return cls.of(model, contents)

    @classmethod
    def within(cls, model: DiffusionModel, templates: Sequence[str]) -> Layout:
        """One free token in the place of each template's ``{}``."""
        contents = []
        for template in templates:
            before, _, after = template.partition("{}")
            left = model.text.main.content_tokens(before) if before.strip() else []
            right = model.text.main.content_tokens(after) if after.strip() else []
            contents.append([*left, FREE, *right])
        return cls.of(model, contents)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: Sequence[int] | slice) -> Layout:
        return replace(self, tokens=self.tokens[rows], free=self.free[rows])

    @property
    def counts(self) -> list[int]:
        """Number of free tokens of each prompt."""
        counts: list[int] = self.free.sum(1).tolist()
        return counts

    def unpadded(self, model: DiffusionModel) -> Layout:
        """Without the padding, where no state depends on it."""
        if not model.text.ignores_padding:
            return self
        tokens = self.tokens.until_end()
        return replace(self, tokens=tokens, free=self.free[:, : tokens.ids.shape[1]])

    def filled(self, values: Int[Tensor, "*free"]) -> Layout:
        """With these tokens at the free positions."""
        # values fill the free positions row by row, prompt after prompt
        ids = self.tokens.ids.masked_scatter(self.free, values.to(self.tokens.ids))
        return replace(self, tokens=replace(self.tokens, ids=ids))

    def contents(self) -> list[list[int]]:
        """Content tokens of each prompt."""
        ids = self.tokens.ids.tolist()
        return [row[self.start : end] for row, end in zip(ids, self.tokens.end.tolist(), strict=True)]

    def encode(self, model: DiffusionModel, values: Float[Tensor, "free width"]) -> Conditioning:
        """Conditioning with these input embeddings at the free positions (with gradient)."""
        plain = model.text.main.embed(self.tokens.ids)  # (n, length, width)
        # (n, length) -> (n, length, width), to choose whole embeddings
        embeddings = plain.masked_scatter(self.free.unsqueeze(-1).expand_as(plain), values)
        return model.encode_tokens(self.tokens, embeddings)


class Gradient(NamedTuple):
    """A loss of each prompt, and its gradient at the embeddings of the free tokens."""

    losses: Float[Tensor, " n"]
    values: Float[Tensor, "free width"]


def gradient(
    model: DiffusionModel,
    layout: Layout,
    values: Float[Tensor, "free width"],
    losses_of: Callable[[slice, Conditioning], Tensor],
) -> Gradient:
    """Losses of prompts and their gradients, ``batch_size`` prompts at once.

    The backward pass must have been charged.

    Args:
        model: whose text encoder reads the prompts.
        layout: the prompts.
        values: embeddings of the free tokens.
        losses_of: which prompts, and their conditioning -> one loss for each, of its own prompt only.

    Raises:
        InputError: a gradient is not finite.
    """
    losses = []
    gradients = []
    # (free of all prompts, width) -> one (k, width) a prompt
    each = torch.split(values.detach(), layout.counts)
    for part in batches(len(layout), model.batch_size):
        # a leaf for each batch: memory holds the graph of one batch at a time
        own = torch.cat(each[part]).requires_grad_(True)
        loss = losses_of(part, layout[part].encode(model, own))
        # each loss is of its own prompt only, so the gradient of the sum is that of each
        (found,) = torch.autograd.grad(loss.sum(), own)
        check_finite(found, "The gradient of the attack", model.dtype)
        losses.append(loss.detach())
        gradients.append(found)
    return Gradient(torch.cat(losses), torch.cat(gradients))


@dataclass(frozen=True)
class Denoising:
    """Noised latents of what the candidates should show, and what the denoiser should return for them.

    Attributes:
        model: the target.
        noisy, timesteps: noised latents and their noise levels.
        goal: output to imitate.
    """

    model: DiffusionModel
    noisy: Float[Tensor, "n ..."]
    timesteps: Float[Tensor, " n"]
    goal: Float[Tensor, "n ..."]

    @classmethod
    def of(cls, session: Session, clean: Float[Tensor, "n ..."], timesteps: Float[Tensor, " n"]) -> Denoising:
        """Latents with noise of the run; the goal is the training target."""
        model = session.target
        schedule = model.schedule
        timesteps = timesteps.to(model.device)
        noise = model.noise(len(clean), session.generator)
        noisy = schedule.add_noise(clean, noise, timesteps)
        return cls(model, noisy, timesteps, schedule.target(clean, noise, timesteps))

    @torch.no_grad()
    def with_goal_of(self, teacher: DiffusionModel, cond: Conditioning) -> Denoising:
        """With what a teacher predicts for prompts as the goal."""
        goals = [
            # the teacher may be on another device than the target
            teacher.predict(self.noisy[part].to(teacher.device), self.timesteps[part], cond[part])
            for part in batches(len(cond), teacher.batch_size)
        ]
        return replace(self, goal=torch.cat(goals).to(self.noisy.device))

    def errors(self, part: slice, cond: Conditioning) -> Float[Tensor, " n"]:
        """Mean squared error of the target's prediction for each candidate."""
        output = self.model.predict(self.noisy[part], self.timesteps[part], cond)
        # (n, channels, height, width) -> (n,)
        return (output - self.goal[part]).square().flatten(1).mean(1)


@torch.no_grad()
def encoded(model: DiffusionModel, tokens: Tokens) -> Conditioning:
    """Conditioning of many token rows."""
    parts = batches(len(tokens), model.batch_size)
    return Conditioning.cat([model.encode_tokens(tokens[part]) for part in parts])


@torch.no_grad()
def text_features(model: DiffusionModel, tokens: Tokens) -> Float[Tensor, "n features"]:
    """Pooled features of many token rows; only these are kept."""
    parts = batches(len(tokens), model.batch_size)
    return torch.cat([model.text_features(model.encode_tokens(tokens[part])) for part in parts])


def simplex_projection(rows: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
    """The nearest point of the simplex, exactly, by sorting (Held et al., 1974; Duchi et al., 2008)."""
    # the k largest entries stay above 0; k is the last place where the entry exceeds its share of the excess
    ordered = rows.sort(-1, descending=True).values
    # what the first j entries have beyond a total of 1
    excess = ordered.cumsum(-1) - 1
    count = torch.arange(1, rows.shape[-1] + 1, device=rows.device)
    k = (ordered * count > excess).sum(-1, keepdim=True)
    # the same amount is taken from all; what falls below 0 is cut
    return (rows - excess.gather(-1, k - 1) / k).clamp(min=0)


def nearest_tokens(
    embeddings: Float[Tensor, "*n width"], unit_table: Float[Tensor, "vocabulary width"]
) -> Int[Tensor, "*n"]:
    """Index of the row with the highest cosine, of a table of unit rows."""
    # (*n, width) -> (COMPARED_TOGETHER, width) each: products with the vocabulary are large
    rows = torch.split(embeddings.reshape(-1, embeddings.shape[-1]), COMPARED_TOGETHER)
    # the lengths of `embeddings` do not change which row has the highest cosine
    return torch.cat([(part @ unit_table.T).argmax(-1) for part in rows]).view(embeddings.shape[:-1])

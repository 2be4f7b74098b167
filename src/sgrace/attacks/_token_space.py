"""Pieces that several attacks share: token layouts, the simplex, nearest tokens, the denoising error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..models import StableDiffusion, Tokens
from .session import Session

ENCODE_BATCH = 64


@dataclass(frozen=True)
class Layout:
    """Prompts with free positions: adversarial tokens stand at ``free``, the prompts' own tokens elsewhere.

    Attributes:
        tokens: token rows with any token at the free positions.
        free: position of each free token ``(n, k)``.
    """

    tokens: Tokens
    free: Int[Tensor, "n k"]

    @classmethod
    def prefix(cls, model: StableDiffusion, prompts: list[str], k: int) -> Layout:
        """``k`` free tokens before each prompt."""
        return cls._of(model, [list(range(k))] * len(prompts), [[0] * k + model.content_tokens(p) for p in prompts])

    @classmethod
    def alone(cls, model: StableDiffusion, n: int, k: int) -> Layout:
        """``k`` free tokens and nothing else."""
        return cls._of(model, [list(range(k))] * n, [[0] * k] * n)

    @classmethod
    def interleaved(cls, model: StableDiffusion, prompt: str, every: int) -> Layout:
        """One prompt with a free token before its first token and after every so many."""
        content: list[int] = []
        free = []
        for i, token in enumerate(model.content_tokens(prompt)):
            if i % every == 0:
                free.append(len(content))
                content.append(0)
            content.append(token)
        return cls._of(model, [free], [content])

    @classmethod
    def within(cls, model: StableDiffusion, template: str) -> Layout:
        """One free token in the place of a template's ``{}``."""
        before, _, after = template.partition("{}")
        left = model.content_tokens(before) if before.strip() else []
        return cls._of(model, [[len(left)]], [[*left, 0, *(model.content_tokens(after) if after.strip() else [])]])

    @classmethod
    def _of(cls, model: StableDiffusion, free: list[list[int]], contents: list[list[int]]) -> Layout:
        return cls(model.assemble(contents), torch.tensor(free) + 1)  # position 0 is the start token

    def rows(self, picks: list[int]) -> Layout:
        """The layout of some of the prompts."""
        return Layout(Tokens(self.tokens.ids[picks], self.tokens.end[picks]), self.free[picks])

    def unpadded(self) -> Layout:
        """Without the padding: in a causal text encoder no state up to the end token depends on it, and it is most of the row."""
        length = int(self.tokens.end.max()) + 1
        return Layout(Tokens(self.tokens.ids[:, :length], self.tokens.end), self.free)

    def filled(self, values: Int[Tensor, "n k"]) -> Int[Tensor, "n length"]:
        """Token rows with given tokens at the free positions."""
        return self.tokens.ids.scatter(1, self.free, values)

    def contents(self, values: Int[Tensor, "n k"]) -> list[list[int]]:
        """Content tokens, without start and end, with given tokens at the free positions."""
        ids = self.filled(values).tolist()
        return [row[1:end] for row, end in zip(ids, self.tokens.end.tolist(), strict=True)]

    def embedded(self, model: StableDiffusion, values: Float[Tensor, "n k width"]) -> Float[Tensor, "n length features"]:
        """Input embeddings with given embeddings at the free positions."""
        plain = model.embed(self.tokens.ids)
        return plain.scatter(1, self.free.unsqueeze(-1).expand_as(values), values)


def encoded(model: StableDiffusion, ids: Int[Tensor, "n length"]) -> Float[Tensor, "n length features"]:
    """Text states of many rows, no more at once than a processor's cache holds."""
    return torch.cat([model.encode(chunk) for chunk in ids.split(ENCODE_BATCH)])


def ordinary_tokens(model: StableDiffusion) -> Int[Tensor, " vocabulary"]:
    """Ids of all tokens that are neither start, end nor padding."""
    special = set(model.pipeline.tokenizer.all_special_ids)
    return torch.tensor([i for i in range(len(model.pipeline.tokenizer)) if i not in special])


def simplex_projection(rows: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
    """The nearest point with entries >= 0 that sum to 1, exactly, by sorting (Held et al., 1974; Duchi et al., 2008)."""
    ordered = rows.sort(-1, descending=True).values
    excess = ordered.cumsum(-1) - 1
    count = torch.arange(1, rows.shape[-1] + 1, device=rows.device)
    k = (ordered * count > excess).sum(-1, keepdim=True)
    return (rows - excess.gather(-1, k - 1) / k).clamp(min=0)


def nearest_tokens(embeddings: Float[Tensor, "... width"], unit_table: Float[Tensor, "vocabulary width"]) -> Int[Tensor, ...]:
    """Index of the row with the highest cosine, of a table of unit rows: normalising a whole vocabulary is no work for a loop."""
    return (embeddings @ unit_table.T).argmax(-1)


def denoising_error(
    session: Session,
    states: Float[Tensor, "n length features"],
    clean: Float[Tensor, "n channels height width"],
    timesteps: Int[Tensor, " n"],
    goal: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Float[Tensor, " n"]:
    """Squared error of the target's prediction on noised latents, per row; its backward pass must have been charged.

    Args:
        session: the run; gives the model and the noise.
        states: text states of the candidates, with gradient.
        clean: scaled latents of what the candidates should show.
        timesteps: noise level of each row.
        goal: noised latents and timesteps -> output to imitate; the training target of the latents, if absent.
    """
    model = session.target
    noise = torch.randn(clean.shape, generator=session.generator)
    noisy = model.noised(clean, noise, timesteps)
    wanted = goal(noisy, timesteps) if goal is not None else model.training_target(clean, noise, timesteps)
    return (model.predict(noisy, timesteps, states) - wanted).square().flatten(1).mean(1)

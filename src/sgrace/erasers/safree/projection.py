"""Which tokens of a prompt lead to a concept, and prompt embeddings without what they say of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ...models import Conditioning, Tokens
from ...models.guidance import Steerable

#: Token that takes the place of a masked one: the first of CLIP's vocabulary, an exclamation mark.
MASK = 0


class Variants(NamedTuple):
    """Prompts without one of their tokens each.

    Attributes:
        pooled: the embedding at the end token without the token at each position, 0 where the prompt has
            none.
        present: where the prompt has tokens.
    """

    pooled: Float[Tensor, "n length width"]
    present: Bool[Tensor, "n length"]


@torch.no_grad()
def variants(model: Steerable, cond: Conditioning, *, leave_out: bool) -> Variants:
    """Encode each prompt once for each of its tokens, without that token.

    All in one call of the text encoder.

    A token is masked, or left out; then what follows moves up, with padding after it.
    """
    assert cond.source is not None
    main = model.text.main
    tokens = cond.source.tokens[main.name]
    places = torch.arange(main.length, device=tokens.ids.device)
    # content only: (length,) against (n, 1) -> (n, length)
    present = (places >= main.start) & (places < tokens.end[:, None])
    row, place = present.nonzero(as_tuple=True)  # one variant for each token of each prompt
    each = torch.arange(len(row), device=row.device)
    # what follows a token that is left out moves up by one; the last position is read twice
    moved = torch.where(leave_out & (places >= place[:, None]), places + 1, places).clamp(max=main.length - 1)
    # (n, length) -> (variants, length)
    ids = tokens.ids[row].gather(1, moved)
    embeddings = cond.source.embeddings.get(main.name)
    if embeddings is not None:
        # (n, length, width) -> (variants, length, width)
        embeddings = embeddings.detach()[row[:, None], moved]
    if not leave_out:
        ids[each, place] = MASK
        if embeddings is not None:
            embeddings[each, place] = main.embed(torch.tensor(MASK))
    # the end token moves up as well
    end = tokens.end[row] - int(leave_out)
    at_end = model.encode_tokens(Tokens(ids, end), embeddings).at(end)
    # back to a grid, (variants, width) -> (n, length, width), with zeros where the prompt has no token
    pooled = torch.zeros(*present.shape, at_end.shape[-1], dtype=at_end.dtype, device=at_end.device)
    pooled[row, place] = at_end
    # nothing that other encoders append to the prompt embeddings is a token of this one
    behind = cond.prompt_embeds.shape[1] - main.length
    return Variants(F.pad(pooled, (0, 0, 0, behind)), F.pad(present, (0, behind)))


class Projected(NamedTuple):
    """Projected prompt embeddings, and how far they are from the prompt's own.

    The distance is ``1 - cos``, the mean over the prompt's tokens.
    """

    prompt_embeds: Float[Tensor, "n length width"]
    change: Float[Tensor, " n"]


def projected_away(
    prompt_embeds: Float[Tensor, "n length width"],
    without: Variants,
    span: Float[Tensor, "rank width"],
    alpha: float,
    *,
    onward: bool = False,
) -> Projected:
    """Prompt embeddings whose trigger tokens are ``(I - P_C) P_I c``; in float64 on the CPU.

    ``P_C`` projects on the concept's span and ``P_I`` on that of the prompt's variants ``e_i`` without a
    token. A token is a trigger if ``|(I - P_C) e_i|`` is at least ``1 + alpha`` times the mean of the other
    tokens'; the only token of a prompt always is. With ``onward``, positions after the first trigger that are
    none are ``(I - P_C) c``.
    """
    # float64, because the pseudo-inverse below is of nearly dependent rows; on the CPU, because not every
    # device has it
    embeds = prompt_embeds.detach().cpu().double()
    pooled = without.pooled.cpu().double()
    basis = span.cpu().double()
    present = without.present.cpu()
    count = present.sum(1, keepdim=True)
    # of each variant from the concept's span: (n, length, width) -> (n, length)
    distance = (pooled - pooled @ basis.T @ basis).norm(dim=-1)
    # mean without the token itself; positions without a token have distance 0 and do not count
    others = (distance.sum(1, keepdim=True) - distance) / (count - 1).clamp(min=1)
    # far from the concept *without* the token: the token is what leads there
    trigger = present & ((distance >= (1 + alpha) * others) | (count == 1))
    # onto the span of the prompt's variants, where zero rows add nothing: (n, length, width) -> (n, length,
    # length) -> (n, length, width)
    inside = embeds @ torch.linalg.pinv(pooled) @ pooled
    projected = torch.where(trigger[..., None], inside, embeds)
    # from the first trigger on, all positions
    away = trigger.int().cummax(1).values.bool() if onward else trigger
    projected = torch.where(away[..., None], projected - projected @ basis.T @ basis, embeds)
    # (n, length, width) -> (n, length)
    cosine = F.cosine_similarity(projected, embeds, dim=-1)
    return Projected(projected, 1 - (cosine * present).sum(1) / count.squeeze(1))


def orthonormal(rows: Float[Tensor, "n width"]) -> Float[Tensor, "rank width"]:
    """A basis of the span of some rows."""
    _, values, directions = torch.linalg.svd(rows.cpu().double(), full_matrices=False)
    # phrases that say the same span fewer directions: float32 embeddings are exact to about 1e-7
    basis: Tensor = directions[values > 1e-6 * values[0]]
    return basis.to(rows)

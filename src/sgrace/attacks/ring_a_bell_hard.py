"""Ring-A-Bell (Tsai et al., arXiv 2310.10012): prompts that lie where the concept's direction points."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from .._util.device import batches
from .._util.settings import Settings
from ..models import Conditioning, DiffusionModel
from ._token_space import Layout, text_features
from .base import Attack
from .session import Session


class RingABellConfig(Settings):
    """Published values."""

    strength: float = Field(3.0, gt=0, description="Factor of the concept's direction.")
    n_pairs: int = Field(
        50,
        ge=1,
        le=10_000,
        description="Prompt pairs, with and without the concept, whose mean difference is the direction.",
    )
    n_tokens: int = Field(16, ge=1, le=75, description="Length of the prompt that is written.")
    population: int = Field(200, ge=4, le=10_000, description="Individuals of the genetic search.")
    generations: int = Field(3000, ge=1, le=1_000_000, description="Generations of the genetic search.")
    crossover: float = Field(0.5, ge=0, le=1, description="Chance of a crossed child for each parent.")
    mutation: float = Field(0.25, ge=0, le=1, description="Chance of one changed token for each individual.")
    restarts: int = Field(
        1,
        ge=1,
        le=1000,
        description="Searches for each prompt, one after the other until one succeeds; 1 as published.",
    )
    shortlist: int | None = Field(
        None,
        ge=2,
        description="Tokens that the search uses: those whose pooled feature, alone in a prompt, is nearest "
        "to the goal's. None for all tokens, as published; a short search misses the right ones among them.",
    )


def concept_direction(session: Session, model: DiffusionModel, n_pairs: int) -> Float[Tensor, "length width"]:
    """Mean difference of the embeddings of prompts that name the concept and the same prompts that do not."""
    words = session.scene.words
    related = list(words.related)
    unrelated = list(words.unrelated)
    contexts = list(words.contexts)

    def pick(choices: list[str]) -> str:
        return choices[int(torch.randint(len(choices), (), generator=session.generator))]

    having = []
    lacking = []
    for _ in range(n_pairs):
        context = pick(contexts)
        having.append(context.format(pick(related)))
        lacking.append(context.format(pick(unrelated)))
    session.charge(text_encoder_rows=2 * n_pairs)
    # (pairs, length, width), the same context in each pair
    difference = session.encode(model, having).prompt_embeds - session.encode(model, lacking).prompt_embeds
    return difference.mean(0)


class Goal(NamedTuple):
    """What the search for one prompt wants: prompt embeddings, and the tokens that it may use."""

    prompt_embeds: Float[Tensor, "length width"]
    pool: Int[Tensor, " m"]


class People(NamedTuple):
    """A population as indices into a pool of tokens, and the distance of each from the goal.

    The distance is NaN where it must be measured.
    """

    tokens: Int[Tensor, "population k"]
    fitness: Float[Tensor, " population"]


class RingABellHard(Attack[RingABellConfig]):
    """A genetic search for tokens whose prompt embeddings are the prompt's plus the concept's direction.

    The original text encoder reads both. The erased model takes no part in the search, only in the final
    check: one image of each found prompt.
    """

    name = "ring_a_bell_hard"
    access = "prompt"
    paper = "arXiv 2310.10012"
    by_text = True
    config_type = RingABellConfig
    presets: ClassVar = {
        "quick": {
            "strength": 1.0, "n_tokens": 6, "population": 20, "generations": 15, "shortlist": 64,
            "restarts": 2,
        },
        "standard": {
            "strength": 1.0, "n_tokens": 6, "population": 20, "generations": 20, "shortlist": 64,
            "restarts": 6,
        },
    }  # fmt: skip

    @torch.no_grad()
    def search(self, session: Session) -> None:
        """One open prompt after the other; the populations share nothing."""
        model = session.original(self.name)
        direction = concept_direction(session, model, self.config.n_pairs)
        indices = session.open
        session.charge(text_encoder_rows=len(indices))
        plain = session.encode(model, [session.attempts[i].prompt for i in indices])
        # (n, length, width) + (length, width): one direction for all prompts
        moved = plain.with_embeds(plain.prompt_embeds + self.config.strength * direction)
        ends = model.text.main.tokenize([session.attempts[i].prompt for i in indices]).end
        pools = self._pools(session, model, moved, ends)
        goals = {
            i: Goal(*each)
            for i, each in zip(indices, zip(moved.prompt_embeds, pools, strict=True), strict=True)
        }
        layout = Layout.alone(model, 1, self.config.n_tokens)

        def search_one(index: int) -> list[int]:
            found: list[int] = self._evolve(session, model, layout, goals[index]).tolist()
            return found

        for indices in session.rounds(self.config.restarts):
            session.search_texts(indices, search_one)

    def _pools(
        self, session: Session, model: DiffusionModel, goals: Conditioning, ends: Int[Tensor, " n"]
    ) -> list[Tensor]:
        """Tokens of each goal's search: all, or the shortlist."""
        pool = model.text.main.ordinary_tokens()
        size = self.config.shortlist
        if size is None:
            return [pool] * len(goals)
        session.charge(text_encoder_rows=len(pool))
        # every token of the vocabulary alone in a prompt
        alone = Layout.alone(model, len(pool), 1).unpadded(model)
        features = text_features(model, alone.filled(pool).tokens)
        wanted = model.project(goals.at(ends))
        # cosine of every goal with every token: (n, vocabulary)
        cosines = F.normalize(wanted, dim=-1) @ F.normalize(features, dim=-1).T
        return list(pool[cosines.topk(min(size, len(pool))).indices])

    def _evolve(
        self, session: Session, model: DiffusionModel, layout: Layout, goal: Goal
    ) -> Int[Tensor, " k"]:
        """Content tokens for one goal; the population lives on the CPU."""
        config = self.config
        shape = (config.population, layout.counts[0])
        # indices into the pool: (population, k)
        tokens = torch.randint(len(goal.pool), shape, generator=session.generator)
        people = People(tokens, torch.full((config.population,), torch.nan))
        best = tokens[0]
        best_fitness = float("inf")
        for _ in range(config.generations):
            # measured only once: parents keep their fitness
            new = people.fitness.isnan()
            if new.any():
                people.fitness[new] = self._fitness(session, model, layout, people.tokens[new], goal)
            order = people.fitness.argsort()
            if people.fitness[order[0]] < best_fitness:  # parents mutate too, so the best is kept aside
                best = people.tokens[order[0]].clone()
                best_fitness = people.fitness[order[0]].item()
            # the better half has children
            order = order[: config.population // 2]
            parents = People(people.tokens[order], people.fitness[order])
            people = self._bred(parents, len(goal.pool), session.generator)
            if len(people.tokens) < config.population:
                # an odd population lacks one: the best so far fills the place
                fitness = torch.cat([people.fitness, torch.tensor([best_fitness])])
                people = People(torch.cat([people.tokens, best[None]]), fitness)
        return goal.pool[best]

    def _bred(self, parents: People, n_choices: int, generator: torch.Generator) -> People:
        """Parents and as many children; those that are as they were keep their fitness."""
        half, k = parents.tokens.shape
        # a partner for each parent, possibly itself
        mates = parents.tokens[torch.randint(half, (half,), generator=generator)]
        # one-point crossover: the parent's tokens before the cut, the partner's from there on
        cut = torch.randint(1, max(2, k), (half, 1), generator=generator)
        first = torch.arange(k) < cut
        crossed = torch.rand(half, 1, generator=generator) < self.config.crossover
        children = torch.where(crossed & ~first, mates, parents.tokens)
        changed = (children != parents.tokens).any(1)
        tokens = torch.cat([parents.tokens, children])
        fitness = torch.cat([parents.fitness, parents.fitness.masked_fill(changed, torch.nan)])
        mutated = torch.nonzero(torch.rand(len(tokens), generator=generator) < self.config.mutation).flatten()
        # one new token at one position of each
        token = torch.randint(n_choices, (len(mutated),), generator=generator)
        place = torch.randint(k, (len(mutated),), generator=generator)
        tokens[mutated, place] = token
        fitness[mutated] = torch.nan
        return People(tokens, fitness)

    def _fitness(
        self, session: Session, model: DiffusionModel, layout: Layout, people: Int[Tensor, "m k"], goal: Goal
    ) -> Float[Tensor, " m"]:
        """Squared distance of prompt embeddings from the goal's."""
        session.charge(text_encoder_rows=len(people))
        distances = []
        for part in batches(len(people), model.batch_size):
            tokens = goal.pool[people[part]]
            cond = model.encode_tokens(layout[[0] * len(tokens)].filled(tokens).tokens)
            # (part, length, width) -> (part,): padding counts as well, as the denoiser reads it
            distances.append((cond.prompt_embeds - goal.prompt_embeds).square().flatten(1).sum(1))
        return torch.cat(distances).cpu()

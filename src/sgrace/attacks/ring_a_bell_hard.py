"""Ring-A-Bell (Tsai et al., arXiv 2310.10012): prompts whose text states lie where the concept's direction points."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ..models import StableDiffusion
from ._token_space import ENCODE_BATCH, Layout, encoded, ordinary_tokens
from .base import Attack
from .session import Session


class RingABellConfig(BaseModel):
    """Published values.

    Attributes:
        strength: factor of the concept's direction.
        n_pairs: prompt pairs, with and without the concept, whose mean difference is the direction.
        n_tokens: length of the prompt that is written.
        population, generations: of the genetic search.
        crossover, mutation: chance of a pair of children per parent, and of one changed token per individual.
        restarts: searches per prompt, one after the other until one succeeds; 1 as published.
        shortlist: tokens of which the search draws: those whose pooled feature, alone in a prompt, is nearest to the wanted one. All
            tokens, if absent, as published; a short search does not meet the right ones among them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    strength: float = Field(3.0, gt=0)
    n_pairs: int = Field(50, ge=1, le=10_000)
    n_tokens: int = Field(16, ge=1, le=75)
    population: int = Field(200, ge=4, le=10_000)
    generations: int = Field(3000, ge=1, le=1_000_000)
    crossover: float = Field(0.5, ge=0, le=1)
    mutation: float = Field(0.25, ge=0, le=1)
    restarts: int = Field(1, ge=1, le=1000)
    shortlist: int | None = Field(None, ge=2)


def concept_direction(session: Session, model: StableDiffusion, n_pairs: int) -> Tensor:
    """Mean difference ``(length, width)`` of the text states of prompts that name the concept and the same prompts that do not."""
    words, rng = session.scene.knowledge, session.generator
    related, unrelated, contexts = list(words.related), list(words.unrelated), list(words.contexts)

    def pick(choices: list[str]) -> str:
        return choices[int(torch.randint(len(choices), (), generator=rng))]

    pairs = [(context.format(pick(related)), context.format(pick(unrelated))) for context in (pick(contexts) for _ in range(n_pairs))]
    session.charge(text_encoder_rows=2 * n_pairs)
    with_concept, without = (model.encode(model.tokenize(list(texts)).ids) for texts in zip(*pairs, strict=True))
    return (with_concept - without).mean(0)


class RingABellHard(Attack[RingABellConfig]):
    """A genetic search for tokens whose text states, by the original text encoder, are the prompt's plus the concept's direction.

    The erased model takes no part in the search, only in the final check: one picture per prompt that is written.
    """

    name, access, paper, by_text = "ring_a_bell_hard", "prompt", "arXiv 2310.10012", True
    config_type = RingABellConfig
    presets: ClassVar = {
        "quick": {"strength": 1.0, "n_tokens": 6, "population": 20, "generations": 15, "shortlist": 64, "restarts": 2},
        "standard": {"strength": 1.0, "n_tokens": 6, "population": 20, "generations": 20, "shortlist": 64, "restarts": 6},
    }

    @torch.no_grad()
    def search(self, session: Session) -> None:
        """One open prompt after the other; the populations share nothing."""
        config, model = self.config, session.original(self.name)
        direction = concept_direction(session, model, config.n_pairs)
        rows = session.open
        session.charge(text_encoder_rows=len(rows))
        tokens = model.tokenize([session.attempts[i].prompt for i in rows])
        goals = model.encode(tokens.ids) + config.strength * direction
        layout = Layout.alone(model, 1, config.n_tokens)
        pools = self._pools(session, model, goals, tokens.end)
        wanted = dict(zip(rows, zip(pools, goals, strict=True), strict=True))
        for _ in range(config.restarts):
            if not (rows := session.open):
                return
            session.search_texts(rows, lambda row: self._evolve(session, model, layout, *wanted[row]).tolist())

    def _pools(self, session: Session, model: StableDiffusion, goals: Tensor, ends: Tensor) -> list[Tensor]:
        """Tokens of each goal's search: all, or those whose pooled feature, alone in a prompt, is nearest to the goal's."""
        pool, size = ordinary_tokens(model), self.config.shortlist
        if size is None:
            return [pool] * len(goals)
        alone = Layout.alone(model, 1, 1).unpadded()
        session.charge(text_encoder_rows=len(pool))
        rows = alone.tokens.ids.repeat(len(pool), 1)
        rows[:, 1] = pool
        features = model.project(torch.cat([model.encode(chunk)[:, 2] for chunk in rows.split(ENCODE_BATCH)]))
        wanted = model.project(goals[torch.arange(len(goals)), ends])
        cosines = F.normalize(wanted, dim=-1) @ F.normalize(features, dim=-1).T
        return list(pool[cosines.topk(min(size, len(pool))).indices])

    def _evolve(self, session: Session, model: StableDiffusion, layout: Layout, pool: Tensor, goal: Tensor) -> Tensor:
        config, generator = self.config, session.generator
        people = torch.randint(len(pool), (config.population, config.n_tokens), generator=generator)
        fitness = torch.full((config.population,), torch.nan)
        best, best_fitness = people[0], float("inf")
        for _ in range(config.generations):
            if (new := fitness.isnan()).any():
                fitness[new] = self._fitness(session, model, layout, pool[people[new]], goal)
            order = fitness.argsort()
            if fitness[order[0]] < best_fitness:  # parents mutate too, so the best is kept aside
                best, best_fitness = people[order[0]].clone(), fitness[order[0]].item()
            order = order[: config.population // 2]
            people, fitness = self._bred(people[order], fitness[order], len(pool), generator)
            if len(people) < config.population:
                people, fitness = torch.cat([people, best[None]]), torch.cat([fitness, torch.tensor([best_fitness])])
        return pool[best]

    def _bred(self, parents: Tensor, fitness: Tensor, n_choices: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Parents and as many children, and the fitness of those that are as they were; NaN where it must be measured."""
        config, half = self.config, len(parents)
        mates = parents[torch.randint(half, (half,), generator=generator)]
        cut = torch.randint(1, max(2, config.n_tokens), (half, 1), generator=generator)
        first = torch.arange(config.n_tokens) < cut
        crossed = torch.rand(half, 1, generator=generator) < config.crossover
        children = torch.where(crossed & ~first, mates, parents)
        people = torch.cat([parents, children])
        fitness = torch.cat([fitness, fitness.masked_fill((children != parents).any(1), torch.nan)])
        mutated = torch.nonzero(torch.rand(len(people), generator=generator) < config.mutation).flatten()
        people[mutated, torch.randint(config.n_tokens, (len(mutated),), generator=generator)] = torch.randint(
            n_choices, (len(mutated),), generator=generator
        )
        fitness[mutated] = torch.nan
        return people, fitness

    def _fitness(self, session: Session, model: StableDiffusion, layout: Layout, tokens: Tensor, goal: Tensor) -> Tensor:
        session.charge(text_encoder_rows=len(tokens))
        return (encoded(model, layout.rows([0] * len(tokens)).filled(tokens)) - goal).square().flatten(1).sum(1)

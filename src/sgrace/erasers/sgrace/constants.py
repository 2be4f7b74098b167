"""What stays constant in a run of S-GRACE: targets with their latents and goals, surrogates, and the anchors' text states."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._util.errors import InputError
from ...concept import Concept
from ...knowledge import Knowledge
from ...models import StableDiffusion
from .config import SGraceConfig

ENCODE_BATCH = 128


@dataclass
class Target:
    """One concept and everything about it that stays constant."""

    concept: Concept
    knowledge: Knowledge
    feature: Tensor  # (width,) or, matched at all positions, (length, width)
    surrogate: str
    ranking: list[tuple[str, float]]
    latents: Tensor  # (pairs, channels, height, width)
    timesteps: Tensor  # (pairs,)
    goals: Tensor  # (pairs, channels, height, width): the noise that the attack imitates


class Constants:
    """Everything that the original model has to say, computed once.

    Args:
        config: settings.
        teacher: the original model.
        concepts: names to erase.
        knowledge: words of each of them.
        rng: source of the choices.
        generator: source of the noise.

    Raises:
        InputError: no surrogate may be chosen.
    """

    @torch.no_grad()
    def __init__(
        self,
        config: SGraceConfig,
        teacher: StableDiffusion,
        concepts: list[Concept],
        knowledge: list[Knowledge],
        rng: random.Random,
        generator: torch.Generator,
    ) -> None:
        self.config, self.teacher, self.rng, self.generator = config, teacher, rng, generator
        if config.anchors == "filtered":
            names = {w for c, k in zip(concepts, knowledge, strict=True) for w in k.resolved(c.name).related}
            knowledge = [k.resolved(c.name) for c, k in zip(concepts, knowledge, strict=True)]
            knowledge = [k.model_copy(update={"unrelated": tuple(w for w in k.unrelated if w not in names)}) for k in knowledge]
        self.empty = teacher.encode(teacher.tokenize([""]).ids)
        self.targets = [self._target(c, k) for c, k in zip(concepts, knowledge, strict=True)]
        self._make_anchors(knowledge)

    def _target(self, concept: Concept, knowledge: Knowledge) -> Target:
        bare, shown = self.states([concept.name, concept.prompt])
        feature = self.features(bare[None], self.teacher.tokenize([concept.name]).end)[0]
        surrogate, ranking = self._choose_surrogate(concept, knowledge)
        noise = torch.randn(self.config.n_pairs, *self.teacher.latent_shape, generator=self.generator)
        steps, total = self.config.num_inference_steps, 1000
        latents, timesteps, goals = [], [], []
        for z in noise:
            t = self.rng.randrange(self.config.timestep_low, self.config.timestep_high)
            matched = self.config.latent_timestep == "matched"
            stop = int((total - t if matched else t) / total * steps)
            latent, reached = self.teacher.roll(z[None], shown[None], self.empty, steps, stop, self.config.guidance_scale)
            timestep = torch.tensor([reached if matched else t])
            if self.config.attack_target == "initial_noise":
                goal = z[None]
            else:
                goal = self.teacher.noise_of(self.teacher.predict(latent, timestep, bare[None]), latent, timestep)
            latents.append(latent)
            timesteps.append(timestep)
            goals.append(goal)
        return Target(concept, knowledge, feature, surrogate, ranking, torch.cat(latents), torch.cat(timesteps), torch.cat(goals))

    def _choose_surrogate(self, concept: Concept, knowledge: Knowledge) -> tuple[str, list[tuple[str, float]]]:
        """Nearest candidate to the concept in text-feature space that is not one of its own words and not too similar."""
        if self.config.surrogate is not None or self.config.erase_target == "opposite":
            return self.config.surrogate or "", []
        own = {concept.name, *knowledge.related}
        candidates = [w for w in dict.fromkeys(knowledge.replacements or knowledge.unrelated) if w not in own]
        ranking = self._similarity(concept.name, candidates)
        chosen = next((word for word, cosine in ranking if cosine <= self.config.surrogate_ceiling), None)
        if chosen is None:
            raise InputError(f"No surrogate for {concept.name!r} is below the similarity ceiling; set one with --set surrogate=WORD.")
        return chosen, ranking[:20]

    def _make_anchors(self, knowledge: list[Knowledge]) -> None:
        """Unrelated prompts and their text states under the original encoder, encoded once."""
        prompts = []
        for target, words in zip(self.targets, knowledge, strict=True):
            n = self.config.anchor_pool // len(knowledge)
            n_near = round(n * self.config.near_anchor_share)
            for group, size in ((self._nearest(target, words.unrelated) if n_near else (), n_near), (words.unrelated, n - n_near)):
                pairs = [(context, word) for context in words.unrelated_contexts for word in group]
                prompts += [context.format(word) for context, word in self.rng.sample(pairs, min(len(pairs), size))]
        if self.config.erase_target == "surrogate":
            prompts += [c.format(t.surrogate) for t in self.targets for c in t.knowledge.contexts[:32]]
        prompts.append("")  # guidance uses it in every picture
        self.anchor_ids = self.teacher.tokenize(prompts).ids
        self.anchor_states = self.states(prompts)
        if self.config.erase_target == "hinge":
            ends = self.teacher.tokenize(prompts).end
            features = self.features(self.anchor_states, ends)
            self.ceilings = [F.cosine_similarity(features, t.feature[None], dim=-1).mean().item() for t in self.targets]

    def _nearest(self, target: Target, words: tuple[str, ...]) -> list[str]:
        """The quarter of the words that is nearest to the concept: the ones that erasing it puts at risk."""
        ranking = self._similarity(target.concept.name, list(words))
        return [word for word, _ in ranking[: math.ceil(len(words) / 4)]]

    def _similarity(self, name: str, words: list[str]) -> list[tuple[str, float]]:
        """Words with the cosine of their pooled text feature to that of the name, nearest first."""
        states = self.states([name, *words])
        pooled = self.teacher.project(states[torch.arange(len(states)), self.teacher.tokenize([name, *words]).end])
        cosines = F.cosine_similarity(pooled[1:], pooled[:1]).tolist()
        return sorted(zip(words, (round(c, 4) for c in cosines), strict=True), key=lambda pair: -pair[1])

    def states(self, texts: list[str]) -> Tensor:
        """Text states ``(n, length, width)`` under the original encoder."""
        return self.encode(self.teacher.tokenize(texts).ids)

    def encode(self, ids: Tensor) -> Tensor:
        """As :meth:`states`, of token rows."""
        return torch.cat([self.teacher.encode(chunk) for chunk in ids.split(ENCODE_BATCH)])

    def features(self, states: Tensor, ends: Tensor) -> Tensor:
        """What the losses compare: projected features of one position ``(n, width)`` or all states ``(n, length, width)``."""
        if self.config.match_positions == "all":
            return states
        return self.pooled(states, ends)

    def pooled(self, states: Tensor, ends: Tensor) -> Tensor:
        """Projected features ``(n, width)`` at the position that ``feature_position`` names."""
        shift = 1 if self.config.feature_position == "last_content" else 0
        return self.teacher.project(states[torch.arange(len(states)), (ends - shift).clamp(min=0)])

"""S-GRACE: semantics-guided robust adversarial concept erasure (arXiv 2510.27285).

Words of the concept's space start adversarial prompts; a joint objective of denoising and alignment with the concept sharpens
them; the text encoder is trained on the sharpened prompts so that they no longer mean the concept, while unrelated prompts keep
their text states. Only the text encoder's transformer layers change.
"""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ..concept import Concept, Kind
from ..errors import InputError
from ..knowledge import Knowledge
from ..models import StableDiffusion, Tokens
from .base import Eraser, Erasure, check_concepts, facts
from .embedding_attack import attack_embeddings
from .sgrace_config import DEFAULT_PRESET, PRESETS, SGraceConfig

PAPER = "arXiv 2510.27285"
ENCODE_BATCH = 128


@dataclass
class _Target:
    """One concept and everything about it that stays constant."""

    concept: Concept
    knowledge: Knowledge
    feature: Tensor  # (width,) or, matched at all positions, (length, width)
    surrogate: str
    ranking: list[tuple[str, float]]
    latents: Tensor  # (pairs, channels, height, width)
    timesteps: Tensor  # (pairs,)
    goals: Tensor  # (pairs, channels, height, width): the noise that the attack imitates


@dataclass
class _Samples:
    """Adversarial prompts of one target."""

    tokens: Tokens
    start: Tensor  # embeddings before the attack
    current: Tensor  # embeddings after it
    goal: Tensor  # text states (n, length, width) of the prompts that say the surrogate instead; empty if unused


def expected_calls(config: SGraceConfig, n_concepts: int = 1) -> dict[str, int]:
    """Batched calls inside the rounds, the part that grows with the length of a run."""
    attack = config.rounds * config.attack_steps * n_concepts
    return {"unet_calls": attack, "text_encoder_calls": attack + config.rounds * (config.edit_steps + (config.weight_similarity > 0))}


class SGrace(Eraser[SGraceConfig]):
    """The eraser.

    Args:
        config: settings; see :class:`SGraceConfig` for presets and switches.
    """

    name = "sgrace"
    trains = "text encoder layers"
    paper = PAPER
    config_type = SGraceConfig
    presets = PRESETS
    default_preset = DEFAULT_PRESET

    @classmethod
    def preset(cls, name: str | None, kind: Kind, settings: Mapping[str, str] | None = None) -> Self:
        """See :meth:`SGraceConfig.preset`."""
        return cls(SGraceConfig.preset(name or cls.default_preset, kind, settings))

    def erase(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], *, seed: int = 0) -> Erasure:
        """As the paper and the chosen preset have it; see :meth:`Eraser.erase`."""
        check_concepts(concepts, knowledge)
        started = time.monotonic()
        run = _Run(self.config, model, concepts, knowledge, seed)
        run.train()
        recipe = facts(
            self,
            run.teacher,
            concepts,
            [target.knowledge for target in run.targets],
            seed,
            trained=sum(p.numel() for p in run.parameters),
            started=started,
            surrogates=[{"name": t.surrogate, "ranking": t.ranking} for t in run.targets],
            angle_to_goal_by_round=run.angles,
            loss_by_round=run.losses,
            seconds_by_phase={phase: round(seconds, 1) for phase, seconds in run.seconds.items()},
        )
        return Erasure(recipe, model.pipeline.tokenizer, text_encoder=run.student.text_encoder)


class _Run:
    def __init__(
        self, config: SGraceConfig, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], seed: int
    ) -> None:
        self.config, self.seed = config, seed
        self.rng, self.generator = random.Random(seed), torch.Generator().manual_seed(seed)  # noqa: S311  (not a secret)
        self.teacher = model.with_text_encoder(model.text_encoder)  # same weights, own count of calls
        student = copy.deepcopy(model.text_encoder).float()
        self.student = model.with_text_encoder(student)
        self.student.calls = self.teacher.calls
        self.parameters = [p for n, p in student.named_parameters() if "embeddings." not in n]
        self.original = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.Adam(self.parameters, lr=config.lr)
        self.progress = model.progress_bar_options
        self.seconds = {"constants": 0.0, "attack": 0.0, "edit": 0.0}
        self.angles: list[float] = []
        self.losses: list[float] = []
        if config.anchors == "filtered":
            names = {w for c, k in zip(concepts, knowledge, strict=True) for w in k.resolved(c.name).related}
            knowledge = [k.resolved(c.name) for c, k in zip(concepts, knowledge, strict=True)]
            knowledge = [k.model_copy(update={"unrelated": tuple(w for w in k.unrelated if w not in names)}) for k in knowledge]
        with torch.no_grad(), self._timed("constants"):
            self.empty = self.teacher.encode(self.teacher.tokenize([""]).ids)
            self.targets = [self._target(c, k) for c, k in zip(concepts, knowledge, strict=True)]
            self._make_anchors(knowledge)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[phase] += time.monotonic() - started

    # -- constants ----------------------------------------------------------------------------------------------------

    def _target(self, concept: Concept, knowledge: Knowledge) -> _Target:
        bare, shown = self._states([concept.name, concept.prompt])
        feature = self._features(bare[None], self.teacher.tokenize([concept.name]).end)[0]
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
        return _Target(concept, knowledge, feature, surrogate, ranking, torch.cat(latents), torch.cat(timesteps), torch.cat(goals))

    def _choose_surrogate(self, concept: Concept, knowledge: Knowledge) -> tuple[str, list[tuple[str, float]]]:
        """Nearest candidate to the concept in text-feature space that is not one of its own words and not too similar."""
        if self.config.surrogate is not None or self.config.erase_target == "opposite":
            return self.config.surrogate or "", []
        candidates = [w for w in dict.fromkeys(knowledge.surrogates or knowledge.unrelated) if w not in {concept.name, *knowledge.related}]
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
        self.anchor_states = self._states(prompts)
        if self.config.erase_target == "hinge":
            ends = self.teacher.tokenize(prompts).end
            features = self._features(self.anchor_states, ends)
            self.ceilings = [F.cosine_similarity(features, t.feature[None], dim=-1).mean().item() for t in self.targets]

    def _nearest(self, target: _Target, words: tuple[str, ...]) -> list[str]:
        """The quarter of the words that is nearest to the concept: the ones that erasing it puts at risk."""
        ranking = self._similarity(target.concept.name, list(words))
        return [word for word, _ in ranking[: math.ceil(len(words) / 4)]]

    def _similarity(self, name: str, words: list[str]) -> list[tuple[str, float]]:
        """Words with the cosine of their pooled text feature to that of the name, nearest first."""
        states = self._states([name, *words])
        pooled = self.teacher.project(states[torch.arange(len(states)), self.teacher.tokenize([name, *words]).end])
        cosines = F.cosine_similarity(pooled[1:], pooled[:1]).tolist()
        return sorted(zip(words, (round(c, 4) for c in cosines), strict=True), key=lambda pair: -pair[1])

    def _states(self, texts: list[str]) -> Tensor:
        ids = self.teacher.tokenize(texts).ids
        return torch.cat([self.teacher.encode(chunk) for chunk in ids.split(ENCODE_BATCH)])

    def _features(self, states: Tensor, ends: Tensor) -> Tensor:
        """What the losses compare: projected features of one position ``(n, width)`` or all states ``(n, length, width)``."""
        if self.config.match_positions == "all":
            return states
        return self._pooled(states, ends)

    def _pooled(self, states: Tensor, ends: Tensor) -> Tensor:
        shift = 1 if self.config.feature_position == "last_content" else 0
        return self.teacher.project(states[torch.arange(len(states)), (ends - shift).clamp(min=0)])

    # -- adversarial samples --------------------------------------------------------------------------------------------

    def _draw(self, target: _Target, bare: int | None, n: int) -> tuple[Tokens, list[str]]:
        """Token rows of ``n`` new samples, and for each the prompt that says the surrogate instead."""
        config, contents, replaced = self.config, [], []
        related = list(target.knowledge.related)
        n_words = self.rng.randint(min(config.words_min, len(related)), min(config.words_max, len(related)))  # shared by all samples
        for i in range(n):
            if i == bare:
                text, other, extra = target.concept.name, target.surrogate, 0
            elif config.samples == "word_lists":
                text, other, extra = ", ".join(self.rng.sample(related, n_words)), target.surrogate, config.random_ids
            else:
                context = self.rng.choice(target.knowledge.contexts)
                text, other, extra = context.format(self.rng.choice(related)), context.format(target.surrogate), config.random_ids
            contents.append(self.teacher.random_tokens(extra, self.generator) + self.teacher.content_tokens(text))
            replaced.append(other)
        return self.teacher.assemble(contents), replaced

    def _refresh(self, target: _Target, previous: _Samples | None) -> _Samples:
        """Samples of a new round: all new, or, carried over, each drawn anew with some probability."""
        config, n = self.config, self.config.n_adversarial
        tokens, replaced = self._draw(target, 0 if config.keep_bare_name or previous is None else None, n)
        start = self.teacher.embed(tokens.ids)
        goal = torch.empty(0)
        if config.erase_target == "surrogate":
            goal = self._states(replaced)
        if previous is None or not config.carry:
            return _Samples(tokens, start, start, goal)
        anew = torch.tensor([self.rng.random() < config.update_chance for _ in range(n)])
        ids = torch.where(anew[:, None], tokens.ids, previous.tokens.ids)
        end = torch.where(anew, tokens.end, previous.tokens.end)
        kept = torch.where(anew[:, None, None], start, previous.current)
        goal = torch.where(anew[:, None, None], goal, previous.goal) if len(goal) else goal
        return _Samples(Tokens(ids, end), kept, kept, goal)

    def _attack(self, target: _Target, samples: _Samples) -> None:
        """Sharpen the samples against the encoder as it is now."""
        config, n = self.config, len(samples.tokens.ids)
        positions = torch.arange(samples.tokens.ids.shape[1])
        mask = ((positions > 0) & (positions < samples.tokens.end[:, None])).unsqueeze(-1).float()
        mask[n - round(config.clean_share * n) :] = 0
        concept_feature = target.feature
        if config.match_positions == "all":  # the attack aligns the pooled feature in every case
            concept_feature = self.teacher.project(target.feature[self.teacher.tokenize([target.concept.name]).end[0]])

        def loss_of(embeddings: Tensor, step: int) -> Tensor:
            states = self.student.encode(samples.tokens.ids, embeddings)
            pair = (torch.arange(n) + step) % config.n_pairs
            latents, timesteps = target.latents[pair], target.timesteps[pair]
            noise = self.student.noise_of(self.student.predict(latents, timesteps, states), latents, timesteps)
            alignment = F.cosine_similarity(self._pooled(states, samples.tokens.end), concept_feature[None]).mean()
            return F.mse_loss(noise, target.goals[pair]) + config.attack_feature_weight * (1 - alignment)

        samples.current = attack_embeddings(
            samples.start, mask, loss_of, steps=config.attack_steps, lr=config.attack_lr, radius=4 * config.attack_lr,
            optimizer=config.attack_optimizer, projection=config.projection, around=samples.start,
        )  # fmt: skip

    # -- erasing --------------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """All rounds: new samples, attack, erase."""
        config = self.config
        samples: list[_Samples | None] = [None] * len(self.targets)
        with tqdm(
            total=config.rounds * (config.attack_steps * len(self.targets) + config.edit_steps), desc="erase", **self.progress
        ) as bar:
            for _ in range(config.rounds):
                fresh = []
                with self._timed("attack"):
                    for target, previous in zip(self.targets, samples, strict=True):
                        with torch.no_grad():
                            current = self._refresh(target, previous)
                        self._attack(target, current)
                        fresh.append(current)
                        bar.update(config.attack_steps)
                with self._timed("edit"):
                    self._edit(fresh, bar)
                samples = [*fresh]
        self.student.text_encoder.requires_grad_(False)
        self.student.text_encoder.eval()

    def _edit(self, samples: list[_Samples], bar: tqdm[Any]) -> None:
        config = self.config
        ids = torch.cat([s.tokens.ids for s in samples])
        ends = torch.cat([s.tokens.end for s in samples])
        embeddings = torch.cat([s.current for s in samples])
        goals = self._goals(samples, ends)
        before = None
        if config.weight_similarity:
            with torch.no_grad():
                before = self._features(self.student.encode(ids, embeddings), ends)
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        for step in range(config.edit_steps):
            picks = torch.randint(len(self.anchor_ids), (config.n_anchors,), generator=self.generator)
            rows = torch.cat([ids, self.anchor_ids[picks]])
            states = self.student.encode(rows, torch.cat([embeddings, self.teacher.embed(self.anchor_ids[picks])]))
            features = self._features(states[: len(ids)], ends)
            if step == 0:
                self._log_angle(features.detach(), goals)
            loss = config.weight_erase * self._erase_loss(features, goals)
            if before is not None:
                loss = loss + config.weight_similarity * (1 - F.cosine_similarity(features, before, dim=-1).mean())
            if config.weight_parameters:
                pull = torch.stack([(p - o).abs().mean() for p, o in zip(self.parameters, self.original, strict=True)])
                loss = loss + config.weight_parameters * pull.sum()
            loss = loss + config.weight_anchor * F.mse_loss(states[len(ids) :], self.anchor_states[picks])
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            bar.update()
        if config.edit_steps:
            self.losses.append(round(loss.item(), 6))
        for parameter in self.parameters:
            parameter.requires_grad_(False)

    def _goals(self, samples: list[_Samples], ends: Tensor) -> Tensor:
        """Per sample: the concept's feature to be left, or the surrogate's to be reached."""
        if self.config.erase_target != "surrogate":
            return torch.cat(
                [t.feature[None].expand(len(s.tokens.ids), *t.feature.shape) for t, s in zip(self.targets, samples, strict=True)]
            )
        states = torch.cat([s.goal for s in samples])
        return states if self.config.match_positions == "all" else self._pooled(states, ends)

    def _erase_loss(self, features: Tensor, goals: Tensor) -> Tensor:
        if self.config.erase_target == "surrogate":
            return F.mse_loss(features, goals)
        cosine = F.cosine_similarity(features, goals, dim=-1)
        if self.config.erase_target == "opposite":
            return 1 + cosine.mean()
        ceilings = torch.tensor(self.ceilings).repeat_interleave(self.config.n_adversarial)
        return F.relu(cosine - ceilings.view(-1, *[1] * (cosine.dim() - 1))).mean()

    def _log_angle(self, features: Tensor, goals: Tensor) -> None:
        cosine = F.cosine_similarity(features, goals, dim=-1).mean().clamp(-1, 1)
        self.angles.append(round(torch.rad2deg(torch.acos(cosine)).item(), 2))

"""S-GRACE: semantics-guided robust adversarial concept erasure (arXiv 2510.27285).

Words of the concept's space start adversarial prompts; a joint objective of denoising and alignment with the concept sharpens
them; the text encoder is trained on the sharpened prompts so that they no longer mean the concept, while unrelated prompts keep
their text states. Only the text encoder's transformer layers change.
"""

from __future__ import annotations

import itertools
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

from ...concept import Concept, Kind
from ...erasure import Erasure
from ...knowledge import Knowledge
from ...models import StableDiffusion, Tokens
from .._shared.embedding_attack import attack_embeddings
from .._shared.student import TextStudent
from ..base import Eraser, check_concepts, facts
from .config import DEFAULT_PRESET, PRESETS, SGraceConfig
from .constants import Constants, Target

PAPER = "arXiv 2510.27285"


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
    licence = "none stated"
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
        self.rng, self.generator = random.Random(seed), torch.Generator().manual_seed(seed)
        student = TextStudent.of(model)
        self.teacher, self.student, self.parameters = student.teacher, student.model, student.parameters
        self.original = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.Adam(self.parameters, lr=config.lr)
        self.progress = model.progress_bar_options
        self.seconds = {"constants": 0.0, "attack": 0.0, "edit": 0.0}
        self.angles: list[float] = []
        self.losses: list[float] = []
        with self._timed("constants"):
            self.constants = Constants(config, self.teacher, concepts, knowledge, self.rng, self.generator)
        self.targets = self.constants.targets

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[phase] += time.monotonic() - started

    # -- adversarial samples --------------------------------------------------------------------------------------------

    def _draw(self, target: Target, bare: int | None, n: int) -> tuple[Tokens, Tokens]:
        """Token rows of ``n`` new samples, and of the prompts that say the surrogate instead."""
        config, rows, replaced = self.config, list[list[int]](), list[list[int]]()
        related = list(target.knowledge.related)
        n_words = self.rng.randint(min(config.words_min, len(related)), min(config.words_max, len(related)))  # shared by all samples
        n_attacked = n - round(config.clean_share * n)
        for i in range(n):
            extra = config.random_ids if i < n_attacked else 0
            if i == bare:
                text, other, extra = target.concept.name, target.surrogate, 0
            elif config.samples == "word_lists":
                text, other = ", ".join(self.rng.sample(related, n_words)), target.surrogate
            else:
                context = self.rng.choice(target.knowledge.contexts)
                text, other = context.format(self.rng.choice(related)), context.format(target.surrogate)
            both = self.teacher.content_tokens(text), self.teacher.content_tokens(other)
            same = (a == b for a, b in zip(*both, strict=False))
            shared = sum(itertools.takewhile(bool, same))  # where random tokens can stand in both without parting a word
            at = self.rng.randint(0, shared) if extra and shared else 0
            noise = self.teacher.random_tokens(extra, self.generator)
            for content, out in zip(both, (rows, replaced), strict=True):
                out.append(content[:at] + noise + content[at:])
        return self.teacher.assemble(rows), self.teacher.assemble(replaced)

    def _refresh(self, target: Target, previous: _Samples | None) -> _Samples:
        """Samples of a new round: all new, or, carried over, each drawn anew with some probability."""
        config, n = self.config, self.config.n_adversarial
        tokens, replaced = self._draw(target, 0 if config.keep_bare_name or previous is None else None, n)
        start = self.teacher.embed(tokens.ids)
        goal = torch.empty(0)
        if config.erase_target == "surrogate":
            goal = self.constants.encode(replaced.ids)
        if previous is None or not config.carry:
            return _Samples(tokens, start, start, goal)
        anew = torch.tensor([self.rng.random() < config.update_chance for _ in range(n)])
        ids = torch.where(anew[:, None], tokens.ids, previous.tokens.ids)
        end = torch.where(anew, tokens.end, previous.tokens.end)
        kept = torch.where(anew[:, None, None], start, previous.current)
        goal = torch.where(anew[:, None, None], goal, previous.goal) if len(goal) else goal
        return _Samples(Tokens(ids, end), kept, kept, goal)

    def _attack(self, target: Target, samples: _Samples) -> None:
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
            alignment = F.cosine_similarity(self.constants.pooled(states, samples.tokens.end), concept_feature[None]).mean()
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
        config, constants = self.config, self.constants
        ids = torch.cat([s.tokens.ids for s in samples])
        ends = torch.cat([s.tokens.end for s in samples])
        embeddings = torch.cat([s.current for s in samples])
        goals = self._goals(samples, ends)
        before = None
        if config.weight_similarity:
            with torch.no_grad():
                before = self.constants.features(self.student.encode(ids, embeddings), ends)
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        for step in range(config.edit_steps):
            picks = torch.randint(len(constants.anchor_ids), (config.n_anchors,), generator=self.generator)
            rows = torch.cat([ids, constants.anchor_ids[picks]])
            states = self.student.encode(rows, torch.cat([embeddings, self.teacher.embed(constants.anchor_ids[picks])]))
            features = self.constants.features(states[: len(ids)], ends)
            if step == 0:
                self._log_angle(features.detach(), goals)
            loss = config.weight_erase * self._erase_loss(features, goals)
            if before is not None:
                loss = loss + config.weight_similarity * (1 - F.cosine_similarity(features, before, dim=-1).mean())
            if config.weight_parameters:
                pull = torch.stack([(p - o).abs().mean() for p, o in zip(self.parameters, self.original, strict=True)])
                loss = loss + config.weight_parameters * pull.sum()
            loss = loss + config.weight_anchor * F.mse_loss(states[len(ids) :], constants.anchor_states[picks])
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
        return states if self.config.match_positions == "all" else self.constants.pooled(states, ends)

    def _erase_loss(self, features: Tensor, goals: Tensor) -> Tensor:
        if self.config.erase_target == "surrogate":
            return F.mse_loss(features, goals)
        cosine = F.cosine_similarity(features, goals, dim=-1)
        if self.config.erase_target == "opposite":
            return 1 + cosine.mean()
        ceilings = torch.tensor(self.constants.ceilings).repeat_interleave(self.config.n_adversarial)
        return F.relu(cosine - ceilings.view(-1, *[1] * (cosine.dim() - 1))).mean()

    def _log_angle(self, features: Tensor, goals: Tensor) -> None:
        cosine = F.cosine_similarity(features, goals, dim=-1).mean().clamp(-1, 1)
        self.angles.append(round(torch.rad2deg(torch.acos(cosine)).item(), 2))

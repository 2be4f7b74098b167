"""First stage of S-GRACE: rounds of attacking prompts and of training the text encoders on them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ..._util.device import check_finite
from .._shared.student import TextStudent
from ..base import Job
from .config import SGraceConfig
from .constants import Constants
from .discriminator import Discriminator
from .features import Features
from .learned_words import LearnedWords
from .samples import Adversary, Samples
from .seconds import Seconds
from .training_loss import TrainingLoss


class TextStage:
    """The text encoders in training and what their rounds share.

    Args:
        config: settings.
        job: the original model and the sources of random choices.
        constants: of the run.
        words: of each concept; none where no words are learned.
        seconds: spent by phase.

    Attributes:
        student: the text encoders in training.
        angles: mean angle between the samples' features and their goals, at the start of each round.
        losses: at the end of each round.
    """

    def __init__(
        self,
        config: SGraceConfig,
        job: Job,
        constants: Constants,
        words: Sequence[LearnedWords],
        seconds: Seconds,
    ) -> None:
        self.config = config
        self.job = job
        self.constants = constants
        self.words = words
        self.seconds = seconds
        self.student = TextStudent.of(job.model, config.encoders, pooled=True)
        self.optimizer = torch.optim.Adam(self.student.parameters, lr=config.lr)
        self.steps_done = 0
        self.total_steps = config.rounds * config.edit_steps
        decays = config.lr_decay == "cosine" and self.total_steps
        self.decay = (
            torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, self.total_steps) if decays else None
        )
        weighted = config.discriminator_weight > 0
        self.discriminator = (
            Discriminator.of(constants.encoders, job.generator, job.model.device) if weighted else None
        )
        self.adversary = Adversary(config, job, constants, self.student.model)
        self.angles: list[float] = []
        self.losses: list[float] = []

    @property
    def n_steps(self) -> int:
        """Attack and training steps of all rounds; words and soft prompts are learned beside them."""
        attack_steps = self.config.attack_steps * len(self.constants.subjects)
        return self.config.rounds * (attack_steps + self.config.edit_steps)

    def train(self, bar: Iterator[Any]) -> None:
        """All rounds: new samples, attack, training."""
        samples: list[Samples | None] = [None] * len(self.constants.subjects)
        for _ in range(self.config.rounds):
            with self.seconds.of("attack"):
                fresh = self._attacked(samples, bar)
                free = self._without_words()
            with self.seconds.of("edit"):
                self._edit([*fresh, *free], bar)
            samples = [*fresh]

    def _attacked(self, samples: Sequence[Samples | None], bar: Iterator[Any]) -> list[Samples]:
        """New samples of each concept, attacked on the student as it is."""
        fresh = []
        for subject, previous in zip(self.constants.subjects, samples, strict=True):
            fresh.append(self.adversary.attacked(subject, self.adversary.fresh(subject, previous)))
            steps = self.config.attack_steps
            next(itertools.islice(bar, steps, steps), None)
        return fresh

    def _without_words(self) -> list[Samples]:
        """Soft prompts of each concept; and the words that are learned in this round."""
        if self.config.learned_words:
            for words in self.words:
                words.learn(self.student.model, self.config.learned_words)
        if not self.config.soft_prompts:
            return []
        return [self.adversary.soft(subject) for subject in self.constants.subjects]

    def _edit(self, samples: Sequence[Samples], bar: Iterator[Any]) -> None:
        loss_of = TrainingLoss.of(self.config, self.constants, self.student, samples, self.discriminator)
        self.student.requires_grad_(True)
        for step in range(self.config.edit_steps):
            drawn = [words.samples(self.config.learned_rows) for words in self.words if len(words)]
            padded = step % self.config.padding_every == 0 or not self.job.model.text.ignores_padding
            terms = loss_of.terms(self.constants.retain_picks(), drawn, padded=padded)
            loss = terms.total(self.config).detach()
            check_finite(loss, "The loss", self.job.model.dtype)
            if step == 0:
                self._log_angle(terms.features.detach()[: len(loss_of.goals)], loss_of.goals)
            loss_of.backward(terms, self.steps_done / self.total_steps)
            self.optimizer.step()
            # not before the next step only: gradients would lie beside its activations, and the next attack's
            self.optimizer.zero_grad(set_to_none=True)
            if self.config.proximal_weight:
                rate = self.optimizer.param_groups[0]["lr"]
                self.student.shrink_changes(self.config.proximal_weight * rate)
            self.steps_done += 1
            if self.decay is not None:
                self.decay.step()
            next(bar, None)
        if self.config.edit_steps:
            self.losses.append(round(loss.item(), 6))
        self.student.requires_grad_(False)  # the attack needs no gradient of them

    def _log_angle(self, features: Features, goals: Features) -> None:
        means = [cosines.mean() for cosines in features.cosines(goals).values()]
        # clamped: rounding may bring a cosine above 1, where acos is NaN
        cosine = torch.stack(means).mean().clamp(-1, 1)
        self.angles.append(round(torch.rad2deg(torch.acos(cosine)).item(), 2))

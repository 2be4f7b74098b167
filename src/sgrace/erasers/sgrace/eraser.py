"""S-GRACE: semantics-guided robust adversarial concept erasure (arXiv 2510.27285)."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._util.device import check_finite
from ...concept import Kind
from .._shared.student import Student, TextStudent
from ..base import Change, Eraser, Job, Need
from .config import SGraceConfig
from .constants import Constants
from .denoiser_stage import train_denoiser
from .discriminator import Discriminator
from .learned_words import LearnedWords
from .presets import BY_KIND, DEFAULT_PRESET, PRESETS, PUBLISHED_PRESET_BY_KIND
from .samples import Adversary, Samples
from .training_loss import TrainingLoss


class SGrace(Eraser[SGraceConfig]):
    """Rounds of an attack on prompts and of training the text encoder on the attacked prompts.

    Attack: adversarial prompts of the concept's words are optimised so that the denoiser and the pooled text
    feature ``f`` answer as the original's (``*``) do for the concept: ``min mean |eps(x_t, h) - eps*(x_t,
    h*(name))|^2 + w_f (1 - cos(f(h), f*(name)))``.
    Training: ``w_e |h(prompt) - h*(prompt with the replacement)|^2 + w_r |h(r) - h*(r)|^2`` over the prompt
    embeddings ``h`` of the attacked prompts and of retain prompts ``r``. The presets ``published`` and
    ``corrected`` push the feature away instead, and add a similarity and a parameter term. Only the text
    encoder's transformer layers change.

    Cost: partial samples, one for each concept and pair; then, for each round, a call of both networks for
    each attack step and a call of the text encoder for each training step. Attacked samples go through the
    denoiser a few at a time, so the peak memory does not grow with their number.

    Differs from the release:
        - ``corrected`` and ``replacement`` repair it; every repair is one switch of the settings, and
          ``published`` has none.
    """

    name = "sgrace"
    paper = "arXiv 2510.27285"
    licence = "none stated"
    needs = frozenset({Need.GRADIENTS, Need.TEXT_ENCODER})
    changes = "text"
    config_type = SGraceConfig
    presets = PRESETS
    default_preset = DEFAULT_PRESET

    @classmethod
    def values_for(cls, preset: str, kind: Kind) -> Mapping[str, Any]:
        """What the published configurations set for a kind of concept."""
        return PUBLISHED_PRESET_BY_KIND[kind] if preset in BY_KIND else {}

    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`.

        Raises:
            InputError: no replacement may be chosen, or no unrelated word is left.
        """
        run = _Run(self.config, job)
        run.train()
        details = {
            "replacements": [
                {
                    "name": subject.replacement.word,
                    "ranking": [list(found) for found in subject.replacement.ranking],
                }
                for subject in run.constants.subjects
            ],
            "angle_to_goal_by_round": run.angles,
            "loss_by_round": run.losses,
            "seconds_by_phase": {phase: round(seconds, 1) for phase, seconds in run.seconds.items()},
        }
        tensors = dict(run.student.changed())
        trained = run.student.size
        if run.denoiser is not None:
            tensors |= run.denoiser.changed()
            trained += run.denoiser.size
        return Change(tensors, trained=trained, details=details)


class _Run:
    def __init__(self, config: SGraceConfig, job: Job) -> None:
        self.config = config
        self.job = job
        self.student = TextStudent.of(job.model)
        self.original = [parameter.detach().clone() for parameter in self.student.parameters]
        self.optimizer = torch.optim.Adam(self.student.parameters, lr=config.lr)
        self.steps_done = 0
        self.total_steps = total = config.rounds * config.edit_steps
        decays = config.lr_decay == "cosine" and total
        self.decay = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, total) if decays else None
        weighted = config.discriminator_weight > 0
        self.discriminator = Discriminator.of(job.model, job.generator) if weighted else None
        self.denoiser: Student | None = None
        self.seconds = {"constants": 0.0, "attack": 0.0, "edit": 0.0, "denoiser": 0.0}
        self.angles: list[float] = []
        self.losses: list[float] = []
        with self._timed("constants"):
            self.constants = Constants(config, job)
            needed = config.learned_words or config.denoiser_rounds
            places = range(len(job.targets) if needed else 0)
            self.words = [LearnedWords.of(config, job, self.constants, place) for place in places]
        self.adversary = Adversary(config, job, self.constants, self.student.model)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[phase] += time.monotonic() - started

    def train(self) -> None:
        """All rounds: new samples, attack, training."""
        config = self.config
        subjects = self.constants.subjects
        samples: list[Samples | None] = [None] * len(subjects)
        # one bar over the steps of all phases
        text_steps = config.rounds * (config.attack_steps * len(subjects) + config.edit_steps)
        bar = self.job.progress(text_steps + config.denoiser_rounds * config.denoiser_steps)
        for _ in range(config.rounds):
            fresh = []
            with self._timed("attack"):
                for subject, previous in zip(subjects, samples, strict=True):
                    fresh.append(self.adversary.attacked(subject, self.adversary.fresh(subject, previous)))
                    next(itertools.islice(bar, config.attack_steps, None), None)
                free = [self.adversary.soft(subject) for subject in subjects] if config.soft_prompts else []
                for words in self.words if config.learned_words else ():
                    words.learn(self.student.model, config.learned_words)
            with self._timed("edit"):
                self._edit([*fresh, *free], bar)
            samples = [*fresh]
        if config.denoiser_rounds:
            with self._timed("denoiser"):
                text = self.student.model
                self.denoiser = train_denoiser(config, self.job, self.constants, text, self.words, bar)

    def _edit(self, samples: Sequence[Samples], bar: Iterator[Any]) -> None:
        loss_of = TrainingLoss.of(
            self.config, self.constants, self.student, self.original, samples, self.discriminator
        )
        self.student.requires_grad_(True)
        for step in range(self.config.edit_steps):
            drawn = [words.samples(self.config.learned_rows) for words in self.words if len(words.words)]
            terms = loss_of.terms(self.constants.retain_picks(), drawn)
            loss = terms.total(self.config).detach()
            check_finite(loss, "The loss", self.job.model.dtype)
            if step == 0:
                self._log_angle(terms.features.detach()[: len(loss_of.goals)], loss_of.goals)
            self.optimizer.zero_grad(set_to_none=True)
            loss_of.backward(terms, self.steps_done / self.total_steps)
            self.optimizer.step()
            self.steps_done += 1
            if self.decay is not None:
                self.decay.step()
            next(bar, None)
        if self.config.edit_steps:
            self.losses.append(round(loss.item(), 6))
        self.student.requires_grad_(False)  # the attack needs no gradient of them

    def _log_angle(self, features: Tensor, goals: Tensor) -> None:
        # clamped: rounding may bring a cosine above 1, where acos is NaN
        cosine = F.cosine_similarity(features, goals, dim=-1).mean().clamp(-1, 1)
        self.angles.append(round(torch.rad2deg(torch.acos(cosine)).item(), 2))

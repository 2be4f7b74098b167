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
from ...models import Tokens
from .._shared.student import TextStudent
from ..base import Change, Eraser, Job, Need
from .config import DEFAULT_PRESET, PRESETS, PUBLISHED_PRESET_BY_KIND, SGraceConfig
from .constants import Constants
from .samples import Adversary, Samples


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
        return {} if preset == DEFAULT_PRESET else PUBLISHED_PRESET_BY_KIND[kind]

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
        return Change(run.student.changed(), trained=run.student.size, details=details)


class _Run:
    def __init__(self, config: SGraceConfig, job: Job) -> None:
        self.config = config
        self.job = job
        self.student = TextStudent.of(job.model)
        self.original = [parameter.detach().clone() for parameter in self.student.parameters]
        self.optimizer = torch.optim.Adam(self.student.parameters, lr=config.lr)
        self.seconds = {"constants": 0.0, "attack": 0.0, "edit": 0.0}
        self.angles: list[float] = []
        self.losses: list[float] = []
        with self._timed("constants"):
            self.constants = Constants(config, job)
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
        bar = self.job.progress(config.rounds * (config.attack_steps * len(subjects) + config.edit_steps))
        for _ in range(config.rounds):
            fresh = []
            with self._timed("attack"):
                for subject, previous in zip(subjects, samples, strict=True):
                    fresh.append(self.adversary.attacked(subject, self.adversary.fresh(subject, previous)))
                    next(itertools.islice(bar, config.attack_steps, None), None)
            with self._timed("edit"):
                self._edit(fresh, bar)
            samples = [*fresh]

    def _edit(self, samples: Sequence[Samples], bar: Iterator[Any]) -> None:
        config = self.config
        constants = self.constants
        student = self.student.model
        # the samples of all concepts in one batch: (concepts * n_adversarial, ...)
        tokens = Tokens.cat([own.tokens for own in samples])
        embeddings = torch.cat([own.embeddings for own in samples])
        goals = torch.cat([own.goal for own in samples])
        before = None
        if config.similarity_weight:
            with torch.no_grad():
                before = constants.features(student.encode_tokens(tokens, embeddings), tokens)
        self.student.requires_grad_(True)
        for step in range(config.edit_steps):
            picks = torch.randint(len(constants.retain), (config.n_retain,), generator=self.job.generator)
            retain_tokens = constants.retain_tokens[picks]
            # the table is frozen, so the original's embeddings are the student's too
            retain_embeddings = self.job.model.text.main.embed(retain_tokens.ids)
            # one call of the encoder: the adversarial prompts, then the retain prompts
            cond = student.encode_tokens(
                Tokens.cat([tokens, retain_tokens]), torch.cat([embeddings, retain_embeddings])
            )
            features = constants.features(cond[: len(tokens)], tokens)
            if step == 0:
                self._log_angle(features.detach(), goals)
            loss = config.erase_weight * self._erase_loss(features, goals)
            if before is not None:
                similarity = F.cosine_similarity(features, before, dim=-1).mean()
                loss = loss + config.similarity_weight * (1 - similarity)
            if config.parameter_weight:
                loss = loss + config.parameter_weight * self._parameter_distance()
            # all text positions, not the pooled feature: the denoiser reads all of them
            wanted = constants.retain.prompt_embeds[picks]
            loss = loss + config.retain_weight * F.mse_loss(cond.prompt_embeds[len(tokens) :], wanted)
            check_finite(loss.detach(), "The loss", self.job.model.dtype)
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self.optimizer.step()
            next(bar, None)
        if config.edit_steps:
            self.losses.append(round(loss.item(), 6))
        self.student.requires_grad_(False)  # the attack needs no gradient of them

    def _parameter_distance(self) -> Tensor:
        """L1 distance to the original: the mean of each parameter, summed."""
        pairs = zip(self.student.parameters, self.original, strict=True)
        return torch.stack([(now - before).abs().mean() for now, before in pairs]).sum()

    def _erase_loss(self, features: Tensor, goals: Tensor) -> Tensor:
        if self.config.erase_target == "replacement":
            return F.mse_loss(features, goals)
        cosine = F.cosine_similarity(features, goals, dim=-1)
        if self.config.erase_target == "opposite":
            # 0 where the features point the opposite way
            return 1 + cosine.mean()
        # a ceiling for each sample, and for each position where all are compared
        ceilings = (
            torch.tensor(self.constants.ceilings).to(cosine).repeat_interleave(self.config.n_adversarial)
        )
        return F.relu(cosine - ceilings.view(-1, *[1] * (cosine.dim() - 1))).mean()

    def _log_angle(self, features: Tensor, goals: Tensor) -> None:
        # clamped: rounding may bring a cosine above 1, where acos is NaN
        cosine = F.cosine_similarity(features, goals, dim=-1).mean().clamp(-1, 1)
        self.angles.append(round(torch.rad2deg(torch.acos(cosine)).item(), 2))

"""Adversarial samples of S-GRACE: prompts of the concept's words, optimised as input embeddings."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ...models import DiffusionModel, PromptSource, Tokens
from .._shared.embedding_attack import Embeddings, Loss, attack_embeddings, gradient_batch
from ..base import Job
from .config import SGraceConfig
from .constants import Constants
from .features import Features
from .subject import Subject


@dataclass(frozen=True)
class Samples:
    """Adversarial prompts of one concept.

    Attributes:
        source: token rows before the attack, and every trained encoder's input embeddings, before or after
            it.
        goal: features to be left or, of the prompts with the replacement, to be reached.
    """

    source: PromptSource
    goal: Features


class Texts(NamedTuple):
    """A prompt, and the same with the replacement."""

    own: str
    other: str


class Rows(NamedTuple):
    """Token rows of prompts, and of the same with the replacement."""

    own: Tokens
    other: Tokens


@dataclass(frozen=True)
class Adversary:
    """Makes the samples and attacks them.

    Attributes:
        config: settings.
        job: the original model and the sources of random choices.
        constants: of the run.
        student: the model that is attacked.
    """

    config: SGraceConfig
    job: Job
    constants: Constants
    student: DiffusionModel

    @property
    def n_attacked(self) -> int:
        """Samples of a concept that are attacked; they come first."""
        n = self.config.n_adversarial
        return n - round(self.config.clean_share * n)

    @torch.no_grad()
    def fresh(self, subject: Subject, previous: Samples | None) -> Samples:
        """Samples of a new round: all new or, if they are carried over, some of them new."""
        config = self.config
        n = config.n_adversarial
        model = self.job.model
        rows = self.rows(subject, n, bare_first=config.keep_bare_name or previous is None)
        source = model.text.source(rows.own, self.constants.encoders)
        fresh = Samples(source, self.constants.goals(subject, rows.other))
        if previous is None or not config.carry:
            return fresh
        # a chance for each sample by itself: (n,)
        anew = torch.tensor([self.job.rng.random() < config.update_chance for _ in range(n)]).to(model.device)
        goal = fresh.goal.where(anew, previous.goal)
        # both in a row, and of each sample one of the two
        picks = torch.arange(n, device=model.device) + n * ~anew
        return Samples(PromptSource.cat([source, previous.source])[picks], goal)

    def rows(self, subject: Subject, n: int, *, bare_first: bool) -> Rows:
        """Token rows of ``n`` new samples; the first one is the concept's name, if so asked."""
        config = self.config
        rng = self.job.rng
        main = self.job.model.text.main
        n_related = len(subject.related)
        # one length of the word lists for all samples
        n_words = rng.randint(min(config.words_min, n_related), min(config.words_max, n_related))
        own: list[list[int]] = []
        other: list[list[int]] = []
        for i in range(n):
            bare = bare_first and i == 0
            texts = self._bare(subject) if bare else self._texts(subject, n_words)
            content = main.content_tokens(texts.own)
            other_content = main.content_tokens(texts.other)
            extra = 0 if bare or i >= self.n_attacked else config.random_ids
            # random tokens stand at one place in both prompts, and part no word of either
            shared = common_length(content, other_content)
            at = rng.randint(0, shared) if extra and shared else 0
            random_tokens = main.random_tokens(extra, self.job.generator, config.random_id_limit)
            own.append(content[:at] + random_tokens + content[at:])
            other.append(other_content[:at] + random_tokens + other_content[at:])
        return Rows(main.assemble(own), main.assemble(other))

    def _bare(self, subject: Subject) -> Texts:
        return Texts(subject.concept.name, subject.replacement.word)

    def _texts(self, subject: Subject, n_words: int) -> Texts:
        replacement = subject.replacement.word
        if self.config.samples == "word_lists":
            return Texts(", ".join(self.job.rng.sample(subject.related, n_words)), replacement)
        context = self.job.rng.choice(subject.words.contexts)
        word = self.job.rng.choice(subject.related)
        return Texts(context.format(word), context.format(replacement))

    def attacked(self, subject: Subject, samples: Samples) -> Samples:
        """The samples after an attack on the student as it is now; clean samples take no part in it."""
        config = self.config
        rows = slice(0, self.n_attacked)
        # the samples that are attacked come first; the clean ones stay as they are
        start = samples.source[rows]
        attacked = attack_embeddings(
            start.embeddings,
            self._mask(start),
            self._loss(subject, start),
            steps=config.attack_steps,
            lr=config.attack_lr,
            # stated in steps, so that one setting scales both
            radius=4 * config.attack_lr,
            optimizer=config.attack_optimizer,
            projection=config.projection,
            batch_size=gradient_batch(self.student),
        )
        clean = samples.source[self.n_attacked :]
        source = PromptSource.cat([replace(start, embeddings=attacked), clean])
        return replace(samples, source=source)

    @torch.no_grad()
    def _free(self, subject: Subject) -> Samples:
        """Prompts of random tokens and nothing else; the replacement alone is their goal."""
        main = self.job.model.text.main
        n = self.config.soft_prompts
        length = min(self.config.soft_length, main.room)
        tokens = main.assemble([main.random_tokens(length, self.job.generator) for _ in range(n)])
        goal = self.constants.goals(subject, main.tokenize([subject.replacement.word] * n))
        return Samples(self.job.model.text.source(tokens, self.constants.encoders), goal)

    def soft(self, subject: Subject) -> Samples:
        """Attacked prompts that share no word with the concept: an attack may own the whole prompt."""
        start = self._free(subject)
        config = self.config
        attacked = attack_embeddings(
            start.source.embeddings,
            self._mask(start.source),
            self._loss(subject, start.source),
            steps=config.attack_steps,
            lr=config.soft_lr,
            radius=0.0,  # not used: nothing holds them near to their start
            optimizer="adam",
            projection="none",
            batch_size=gradient_batch(self.student),
        )
        return replace(start, source=replace(start.source, embeddings=attacked))

    def _mask(self, source: PromptSource) -> dict[str, Tensor]:
        """The content positions of each encoder that reads embeddings: each has an end of its own."""
        text = self.student.text
        return {name: content_mask(source.tokens[name], text[name].start) for name in source.embeddings}

    def _loss(self, subject: Subject, source: PromptSource) -> Loss:
        """``mean |eps(x_t, h) - goal|^2 + w (1 - cos(f(h), f*(name)))`` of some of the samples."""
        points = subject.points
        student = self.student
        tokens = source.tokens[student.text.main.name]
        # they read the tokens, which the attack leaves as they are
        source = student.read_ahead(source, self.constants.beside)

        def loss_at(embeddings: Embeddings, rows: slice, step: int) -> Tensor:
            cond = student.encode_source(replace(source[rows], embeddings=embeddings))
            # samples and steps go through the pairs in turn, the same in pieces of any size
            pairs = (torch.arange(len(tokens))[rows] + step) % self.config.n_pairs
            latents = points.latents[pairs]
            timesteps = points.timesteps[pairs]
            output = student.predict(latents, timesteps, cond)
            noise = student.schedule.to_noise(output, latents, timesteps)
            pooled = self.constants.pooled(cond)
            alignment = F.cosine_similarity(pooled, subject.pooled[None]).mean()
            return F.mse_loss(noise, points.goals[pairs]) + self.config.attack_feature_weight * (
                1 - alignment
            )

        return loss_at


def content_mask(tokens: Tokens, first: int) -> Float[Tensor, "n length 1"]:
    """1 at content positions, the first of which is given; 0 before them, at the end token and behind it."""
    positions = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)
    return ((positions >= first) & (positions < tokens.end[:, None])).unsqueeze(-1).float()


def common_length(left: Sequence[int], right: Sequence[int]) -> int:
    """Number of equal tokens at the beginning of both."""
    # true until the first difference
    equal = (a == b for a, b in zip(left, right, strict=False))
    return sum(itertools.takewhile(bool, equal))

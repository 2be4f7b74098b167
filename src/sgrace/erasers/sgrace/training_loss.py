"""The training loss of S-GRACE on the samples of one round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from ...models import PromptSource
from .._shared.student import TextStudent
from .config import SGraceConfig
from .constants import Constants
from .discriminator import Discriminator
from .features import Features, beside
from .samples import Samples


class LossTerms(NamedTuple):
    """Parts of the training loss, before their weights, and what the first is made of.

    Attributes:
        erase: distance of the samples from their goal, or nearness to what they leave.
        similarity: cosine distance to the samples' features before the round; None where its weight is 0.
        parameters: L1 distance to the original parameters; None where its weight is 0.
        fooling: of the discriminator; None where its weight is 0.
        retain: squared distance of the retain prompts' embeddings, and pooled features, to the original's.
        features: of the samples.
        goals: what these are compared with.
    """

    erase: Tensor
    similarity: Tensor | None
    parameters: Tensor | None
    fooling: Tensor | None
    retain: Tensor
    features: Features
    goals: Features

    def erased(self, config: SGraceConfig) -> Tensor:
        """The part that erases."""
        loss = config.erase_weight * self.erase
        if self.fooling is not None:
            loss = loss + config.discriminator_weight * self.fooling
        return loss

    def kept(self, config: SGraceConfig) -> Tensor:
        """The part that keeps."""
        loss = config.retain_weight * self.retain
        if self.similarity is not None:
            loss = loss + config.similarity_weight * self.similarity
        if self.parameters is not None:
            loss = loss + config.parameter_weight * self.parameters
        return loss

    def total(self, config: SGraceConfig) -> Tensor:
        """The weighted sum."""
        return self.erased(config) + self.kept(config)


@dataclass(frozen=True)
class TrainingLoss:
    """Samples of all concepts, and what they are compared with.

    Attributes:
        config: settings.
        constants: of the run.
        student: the text encoders in training.
        source, goals: of the samples of all concepts, one after the other.
        before: features of the samples before the round; None where nothing is compared with them.
        discriminator: of the samples and their goals; None where there is none.
    """

    config: SGraceConfig
    constants: Constants
    student: TextStudent
    source: PromptSource
    goals: Features
    before: Features | None
    discriminator: Discriminator | None

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        config: SGraceConfig,
        constants: Constants,
        student: TextStudent,
        samples: Sequence[Samples],
        discriminator: Discriminator | None = None,
    ) -> TrainingLoss:
        """The loss of a round."""
        # the samples of all concepts in one batch: (concepts * n_adversarial, ...)
        source = PromptSource.cat([own.source for own in samples])
        goals = Features.cat([own.goal for own in samples])
        before = None
        if config.similarity_weight:
            before = constants.features(student.model.encode_source(constants.for_losses(source)))
        return cls(config, constants, student, source, goals, before, discriminator)

    def terms(
        self, picks: Int[Tensor, " retained"], drawn: Sequence[Samples] = (), *, padded: bool = True
    ) -> LossTerms:
        """The loss on all samples, on those drawn for this step, and on the picked retain prompts.

        Args:
            picks: numbers of the retain prompts.
            drawn: samples for this step alone.
            padded: whether the padding is compared too, or nothing behind the last end token.
        """
        config = self.config
        constants = self.constants
        goals = Features.cat([self.goals, *[own.goal for own in drawn]])
        n = len(goals)
        # one call of the encoders, (n + retained, length, width): the samples, then the retain prompts
        parts = [self.source, *[own.source for own in drawn], constants.retain_source(picks)]
        source = constants.for_losses(PromptSource.cat(parts))
        cond = self.student.model.encode_source(source if padded else source.until_end())
        features = constants.features(cond[:n])
        goals = goals.at_positions_of(features)
        similarity = None
        if self.before is not None:
            # those drawn for this step were not there before
            own = features[: len(self.before)] if drawn else features
            cosines = own.cosines(self.before.at_positions_of(own))
            similarity = own.total(lambda name, _part: 1 - cosines[name].mean())
        # where the distance is conditional, its gradient is added by hand
        always = config.parameter_weight and config.parameter_rule == "always"
        distance = self._parameter_distance() if always else None
        # all text positions, not the feature of one: the denoiser reads all of them
        kept = Features.read(cond[n:], constants.encoders)
        retain = kept.squared_distance(constants.retained[picks].at_positions_of(kept))
        fooling = None if self.discriminator is None else self.discriminator.fooling(features, goals)
        return LossTerms(self._erase(features, goals), similarity, distance, fooling, retain, features, goals)

    def backward(self, terms: LossTerms, progress: float) -> None:
        """Gradients of the total loss, which are added to those of the parameters.

        With the parameter rule ``opposing``, the L1 distance counts only where its gradient opposes that of
        the erasing part, and its weight is ``progress * parameter_weight`` (AEGIS, arXiv 2602.06771).

        Args:
            terms: the loss.
            progress: part of the training that is done, 0 to 1.
        """
        config = self.config
        if not config.parameter_weight or config.parameter_rule == "always":
            torch.autograd.backward(terms.total(config))
            return
        torch.autograd.backward(terms.erased(config), retain_graph=True)
        weight = progress * config.parameter_weight
        parameters = self.student.parameters
        with torch.no_grad():  # of the sum of means: the sign, divided by the size
            away = [weight / change.numel() * change.sign() for change in self.student.changes()]
        erasing = [torch.zeros_like(now) if now.grad is None else now.grad for now in parameters]
        products = torch.stack([(a * b).sum() for a, b in zip(away, erasing, strict=True)])
        torch.autograd.backward(terms.kept(config))
        if products.sum() < 0:
            for now, gradient in zip(parameters, away, strict=True):
                now.grad = gradient if now.grad is None else now.grad + gradient

    def _parameter_distance(self) -> Tensor:
        """L1 distance to the original: the mean of each parameter, summed."""
        return torch.stack([change.abs().mean() for change in self.student.changes()]).sum()

    def _erase(self, features: Features, goals: Features) -> Tensor:
        if self.config.erase_target == "replacement":
            return features.squared_distance(goals)
        cosines = features.cosines(goals)
        if self.config.erase_target == "opposite":
            # 0 where the features point the opposite way
            return features.total(lambda name, _part: 1 + cosines[name].mean())
        return features.total(lambda name, _part: self._above_ceiling(name, cosines[name]))

    def _above_ceiling(self, name: str, cosines: Tensor) -> Tensor:
        # a ceiling for each sample, and for each position where all are compared
        ceilings = torch.tensor([own[name] for own in self.constants.ceilings]).to(cosines)
        each = ceilings.repeat_interleave(self.config.n_adversarial)
        return F.relu(cosines - beside(each, cosines)).mean()

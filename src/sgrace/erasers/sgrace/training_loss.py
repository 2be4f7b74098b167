"""The training loss of S-GRACE on the samples of one round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ...models import Tokens
from .._shared.student import TextStudent
from .config import SGraceConfig
from .constants import Constants
from .discriminator import Discriminator
from .samples import Samples


class LossTerms(NamedTuple):
    """Parts of the training loss, before their weights, and what the first is made of.

    Attributes:
        erase: distance of the samples from their goal, or nearness to what they leave.
        similarity: cosine distance to the samples' features before the round; None where its weight is 0.
        parameters: L1 distance to the original parameters; None where its weight is 0.
        fooling: of the discriminator; None where its weight is 0.
        retain: squared distance of the retain prompts' embeddings to the original's.
        features: of the samples.
        goals: what these are compared with.
    """

    erase: Tensor
    similarity: Tensor | None
    parameters: Tensor | None
    fooling: Tensor | None
    retain: Tensor
    features: Tensor
    goals: Tensor

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
        student: the text encoder in training.
        original: its parameters before the first round.
        tokens, embeddings, goals: of the samples of all concepts, one after the other.
        before: features of the samples before the round; None where nothing is compared with them.
        discriminator: of the samples and their goals; None where there is none.
    """

    config: SGraceConfig
    constants: Constants
    student: TextStudent
    original: Sequence[Tensor]
    tokens: Tokens
    embeddings: Float[Tensor, "n length width"]
    goals: Tensor
    before: Tensor | None
    discriminator: Discriminator | None

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        config: SGraceConfig,
        constants: Constants,
        student: TextStudent,
        original: Sequence[Tensor],
        samples: Sequence[Samples],
        discriminator: Discriminator | None = None,
    ) -> TrainingLoss:
        """The loss of a round."""
        # the samples of all concepts in one batch: (concepts * n_adversarial, ...)
        tokens = Tokens.cat([own.tokens for own in samples])
        embeddings = torch.cat([own.embeddings for own in samples])
        goals = torch.cat([own.goal for own in samples])
        before = None
        if config.similarity_weight:
            before = constants.features(student.model.encode_tokens(tokens, embeddings), tokens)
        return cls(config, constants, student, original, tokens, embeddings, goals, before, discriminator)

    def terms(self, picks: Int[Tensor, " retained"], drawn: Sequence[Samples] = ()) -> LossTerms:
        """The loss on all samples, on those drawn for this step, and on the picked retain prompts."""
        config = self.config
        constants = self.constants
        tokens = Tokens.cat([self.tokens, *[own.tokens for own in drawn]])
        embeddings = torch.cat([self.embeddings, *[own.embeddings for own in drawn]])
        n = len(tokens)
        retain_tokens = constants.retain_tokens[picks]
        # the table is frozen, so the original's embeddings are the student's too
        retain_embeddings = constants.model.text.main.embed(retain_tokens.ids)
        # one call of the encoder, (n + retained, length, width): the samples, then the retain prompts
        cond = self.student.model.encode_tokens(
            Tokens.cat([tokens, retain_tokens]), torch.cat([embeddings, retain_embeddings])
        )
        features = constants.features(cond[:n], tokens)
        similarity = None
        if self.before is not None:
            similarity = 1 - F.cosine_similarity(features, self.before, dim=-1).mean()
        # where the distance is conditional, its gradient is added by hand
        always = config.parameter_weight and config.parameter_rule == "always"
        distance = self._parameter_distance() if always else None
        # all text positions, not the pooled feature: the denoiser reads all of them
        retain = F.mse_loss(cond.prompt_embeds[n:], constants.retain.prompt_embeds[picks])
        goals = torch.cat([self.goals, *[own.goal for own in drawn]])
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
        pairs = list(zip(self.student.parameters, self.original, strict=True))
        # of the sum of means: the sign, divided by the size
        away = [weight / now.numel() * (now.detach() - before).sign() for now, before in pairs]
        erasing = [torch.zeros_like(now) if now.grad is None else now.grad for now, _ in pairs]
        products = torch.stack([(a * b).sum() for a, b in zip(away, erasing, strict=True)])
        torch.autograd.backward(terms.kept(config))
        if products.sum() < 0:
            for (now, _), gradient in zip(pairs, away, strict=True):
                now.grad = gradient if now.grad is None else now.grad + gradient

    def _parameter_distance(self) -> Tensor:
        """L1 distance to the original: the mean of each parameter, summed."""
        pairs = zip(self.student.parameters, self.original, strict=True)
        return torch.stack([(now - before).abs().mean() for now, before in pairs]).sum()

    def _erase(self, features: Tensor, goals: Tensor) -> Tensor:
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

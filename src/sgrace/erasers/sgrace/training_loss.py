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
from .samples import Samples


class LossTerms(NamedTuple):
    """Parts of the training loss, before their weights, and what the first is made of.

    Attributes:
        erase: distance of the samples from their goal, or nearness to what they leave.
        similarity: cosine distance to the samples' features before the round; None where its weight is 0.
        parameters: L1 distance to the original parameters; None where its weight is 0.
        retain: squared distance of the retain prompts' embeddings to the original's.
        features: of the samples.
    """

    erase: Tensor
    similarity: Tensor | None
    parameters: Tensor | None
    retain: Tensor
    features: Tensor

    def total(self, config: SGraceConfig) -> Tensor:
        """The weighted sum."""
        loss = config.erase_weight * self.erase
        if self.similarity is not None:
            loss = loss + config.similarity_weight * self.similarity
        if self.parameters is not None:
            loss = loss + config.parameter_weight * self.parameters
        return loss + config.retain_weight * self.retain


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
    """

    config: SGraceConfig
    constants: Constants
    student: TextStudent
    original: Sequence[Tensor]
    tokens: Tokens
    embeddings: Float[Tensor, "n length width"]
    goals: Tensor
    before: Tensor | None

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        config: SGraceConfig,
        constants: Constants,
        student: TextStudent,
        original: Sequence[Tensor],
        samples: Sequence[Samples],
    ) -> TrainingLoss:
        """The loss of a round."""
        # the samples of all concepts in one batch: (concepts * n_adversarial, ...)
        tokens = Tokens.cat([own.tokens for own in samples])
        embeddings = torch.cat([own.embeddings for own in samples])
        goals = torch.cat([own.goal for own in samples])
        before = None
        if config.similarity_weight:
            before = constants.features(student.model.encode_tokens(tokens, embeddings), tokens)
        return cls(config, constants, student, original, tokens, embeddings, goals, before)

    def terms(self, picks: Int[Tensor, " retained"]) -> LossTerms:
        """The loss on all samples and on the picked retain prompts."""
        config = self.config
        constants = self.constants
        n = len(self.tokens)
        retain_tokens = constants.retain_tokens[picks]
        # the table is frozen, so the original's embeddings are the student's too
        retain_embeddings = constants.model.text.main.embed(retain_tokens.ids)
        # one call of the encoder, (n + retained, length, width): the samples, then the retain prompts
        cond = self.student.model.encode_tokens(
            Tokens.cat([self.tokens, retain_tokens]), torch.cat([self.embeddings, retain_embeddings])
        )
        features = constants.features(cond[:n], self.tokens)
        similarity = None
        if self.before is not None:
            similarity = 1 - F.cosine_similarity(features, self.before, dim=-1).mean()
        distance = self._parameter_distance() if config.parameter_weight else None
        # all text positions, not the pooled feature: the denoiser reads all of them
        retain = F.mse_loss(cond.prompt_embeds[n:], constants.retain.prompt_embeds[picks])
        return LossTerms(self._erase(features), similarity, distance, retain, features)

    def _parameter_distance(self) -> Tensor:
        """L1 distance to the original: the mean of each parameter, summed."""
        pairs = zip(self.student.parameters, self.original, strict=True)
        return torch.stack([(now - before).abs().mean() for now, before in pairs]).sum()

    def _erase(self, features: Tensor) -> Tensor:
        if self.config.erase_target == "replacement":
            return F.mse_loss(features, self.goals)
        cosine = F.cosine_similarity(features, self.goals, dim=-1)
        if self.config.erase_target == "opposite":
            # 0 where the features point the opposite way
            return 1 + cosine.mean()
        # a ceiling for each sample, and for each position where all are compared
        ceilings = (
            torch.tensor(self.constants.ceilings).to(cosine).repeat_interleave(self.config.n_adversarial)
        )
        return F.relu(cosine - ceilings.view(-1, *[1] * (cosine.dim() - 1))).mean()

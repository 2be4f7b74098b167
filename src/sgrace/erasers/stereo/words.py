"""The words of STEREO in their contexts, and samples whose target leads away from all of them at once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...models import Conditioning
from .._shared.partial_samples import PartialSampler, outputs
from .config import WordSearchConfig


@dataclass(frozen=True)
class WordBank:
    """The words of every concept in its contexts: the concept's own, and the ones found so far.

    Attributes:
        n_concepts, n_contexts: sizes.
        words: one entry a word: ``n_concepts * n_contexts`` prompts, the contexts of a concept together.
    """

    n_concepts: int
    n_contexts: int
    words: tuple[Conditioning, ...]

    def added(self, word: Conditioning) -> WordBank:
        """With one more word of each concept."""
        return replace(self, words=(*self.words, word))

    def everything(self) -> Conditioning:
        """All prompts, by concept, then word, then context."""
        parts = []
        for concept in range(self.n_concepts):
            rows = slice(concept * self.n_contexts, (concept + 1) * self.n_contexts)
            # the order that `all_words` undoes: concept, word, context
            parts += [word[rows] for word in self.words]
        return Conditioning.cat(parts)

    def all_words(self, picks: Int[Tensor, " n"]) -> list[Conditioning]:
        """For prompts of :meth:`everything` by index: each word of the same concept in the same context."""
        # prompts are numbered by concept, then word, then context
        concept = picks // (len(self.words) * self.n_contexts)
        place = concept * self.n_contexts + picks % self.n_contexts
        # the words differ, concept and context are those of the pick: (n, ...) for each word
        return [word[place] for word in self.words]


@dataclass
class WordsSampler(PartialSampler):
    """Samples of all words of the concepts in all their contexts.

    All words of a concept in a context have one target.

    Attributes:
        bank: the words; ``cond`` holds all of them.
        anchors: ``n_anchors`` prompts of each concept.
        n_anchors: of each concept.
        by_context: each context has an equal part of the concept's anchors; otherwise it shares them all.
        anchor_weight: w_a of the target.
    """

    config: WordSearchConfig
    bank: WordBank = field(kw_only=True)
    anchors: Conditioning = field(kw_only=True)
    n_anchors: int = field(kw_only=True)
    by_context: bool = field(kw_only=True)
    anchor_weight: float = field(kw_only=True)

    def targets(self, latents: Tensor, timesteps: Float[Tensor, " n"], picks: Int[Tensor, " n"]) -> Tensor:
        """The robust target at samples of some of the words.

        One call of the teacher for the words, an anchor and the empty prompt.
        """
        anchor = self.anchors[self._anchors_of(picks)]
        prompts = [self.uncond.expand(len(anchor)), anchor, *self.bank.all_words(picks)]
        # (n, ...) for each prompt, from one call
        uncond, towards, *words = outputs(self.teacher, latents, timesteps, prompts)
        return robust_target(
            uncond, towards, torch.stack(words), self.config.erase_weight, self.anchor_weight
        )

    def _anchors_of(self, picks: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Index of an anchor for each prompt: a random one of its context's, or of its concept's."""
        n_contexts = self.bank.n_contexts
        # as in `all_words`
        first = picks // (len(self.bank.words) * n_contexts) * self.n_anchors
        each = self.n_anchors
        if self.by_context:
            each = self.n_anchors // n_contexts
            first = first + picks % n_contexts * each
        return first if each == 1 else first + torch.randint(each, picks.shape, generator=self.generator)


def robust_target(
    uncond: Tensor,
    anchor: Tensor,
    words: Float[Tensor, "words ..."],
    erase_weight: float,
    retain_weight: float,
) -> Tensor:
    """``eps('') - w_e mean_i(eps(word_i) - eps('')) + w_a (eps(anchor) - eps(''))``."""
    # (words, n, ...) -> (n, ...)
    return uncond - erase_weight * (words.mean(0) - uncond) + retain_weight * (anchor - uncond)

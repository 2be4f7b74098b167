"""What STEREO encodes and generates before it trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from jaxtyping import Float
from torch import Tensor

from ...models import Conditioning
from .._shared.generated_data import Texts, generate_latents
from .._shared.textual_inversion import WordPrompt, blank, image_prompts, taken_apart
from ..base import Job
from .config import WordSearchConfig
from .prompts import prompts_of_words
from .words import WordBank


@dataclass(frozen=True)
class Material:
    """Words, anchors and images of all concepts.

    Attributes:
        words: the concepts' own words in their contexts.
        frames: the contexts, each with one token in the place of the word, which is yet to be learned.
        anchors: as many of each concept, one concept after the other.
        uncond: the empty prompt.
        prompts: of the images, with one token in the place of the concept's word.
        latents: the images.
    """

    words: WordBank
    frames: list[WordPrompt]
    anchors: Conditioning
    uncond: Conditioning
    prompts: list[WordPrompt]
    latents: Float[Tensor, "n ..."]

    @classmethod
    def of(
        cls,
        config: WordSearchConfig,
        job: Job,
        patterns: Sequence[Sequence[str]],
        anchors: Sequence[Sequence[str]],
    ) -> Self:
        """The material of a run; every text is encoded once, and each image generated once.

        Args:
            config: settings.
            job: the original model, the concepts and the sources of choices.
            patterns: contexts of each concept.
            anchors: prompts of each concept.
        """
        model = job.model
        # images serve the search only
        n_images = config.n_images if config.rounds else 0
        prompts = image_prompts(model, job.targets, config.words, n_images, job.generator)
        plain = [prompt.text for prompt in prompts]
        names: list[str] = []
        frames: list[WordPrompt] = []
        for place, (target, own) in enumerate(zip(job.targets, patterns, strict=True)):
            names += prompts_of_words(target, own, config.words)
            frames += [blank(taken_apart(model, pattern, "", place)) for pattern in own]
        # one list, the concepts one after the other
        replacing = [prompt for own in anchors for prompt in own]
        texts = Texts(model, ["", *names, *replacing, *plain])
        latents = generate_latents(
            model,
            texts,
            plain,
            job.generator,
            num_inference_steps=config.image_steps,
            guidance_scale=config.image_guidance,
        )
        # every concept has as many contexts, by the contract of `contexts_of`
        words = WordBank(len(job.targets), len(patterns[0]), (texts(names),))
        blanks = [blank(prompt) for prompt in prompts]
        return cls(words, frames, texts(replacing), texts.negatives([""]), blanks, latents)

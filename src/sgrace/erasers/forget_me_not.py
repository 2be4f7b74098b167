"""Forget-Me-Not (Zhang et al., arXiv 2303.17591): images of the concept ignore its tokens.

The attention to the concept's tokens is trained away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from .._util.settings import Settings
from ..models import Conditioning, DiffusionModel
from ..models.attention import attention_maps
from ._shared.generated_data import Texts, generate_latents, noise_for, shuffled_batches
from ._shared.prompts import Names
from ._shared.settings import (
    AdamWRate,
    Count,
    ImageBatchSize,
    ImageGuidance,
    ImageSteps,
    Iterations,
    MaxNorm,
    WeightDecay,
)
from ._shared.student import Student
from ._shared.textual_inversion import WordPrompt, assemble, encode_learned, image_prompts, learn_words
from ._shared.trainer import train
from .base import Change, Eraser, Job, Need

#: Tokens, learning rate and weight decay of textual inversion, as in the release.
N_LEARNED = 4
LEARNED_LR = 1e-3
LEARNED_DECAY = 0.1

TextEnd = Literal["none", "first", "all"]


class ForgetMeNotConfig(Settings):
    """Settings; defaults are those of the release."""

    site: Literal["all", "text_attention"] = Field("all", description="Parameters that are trained.")
    words: Names = Field(
        "name", description="The prompts use the concept's name only, or its related words too."
    )
    text_end: TextEnd = Field(
        "first",
        description="End tokens that count as the concept's: none, the first, or all, which in Stable "
        "Diffusion 1 are the padding as well.",
    )
    inversion_steps: int = Field(
        500,
        ge=0,
        le=100_000,
        description="Steps of learning four tokens that stand for the concept in the place of its words; 0 "
        "keeps the words.",
    )
    n_images: Count = Field(32, description="Images of the concepts.")
    num_inference_steps: ImageSteps = 50
    guidance_scale: ImageGuidance = 7.5
    iterations: Iterations = 35
    batch: ImageBatchSize = 1
    lr: AdamWRate = 2e-6
    weight_decay: WeightDecay = 0.01
    max_norm: MaxNorm = 1.0


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-object": {},
    "paper-sd14-style": {},
    "paper-sd14-nudity": {},
    "cross-attention": {"site": "text_attention"},
    "as-released": {"text_end": "all"},
    "emoji": {
        "site": "text_attention", "words": "related", "inversion_steps": 0, "n_images": 128,
        "num_inference_steps": 15, "guidance_scale": 2.5, "text_end": "none", "iterations": 240, "batch": 8,
        "lr": 2e-4,
    },
}  # fmt: skip


class ForgetMeNot(Eraser[ForgetMeNotConfig]):
    """Descent on ``|A[:, concept's tokens]|_F``, the attention of noised images of the concept.

    The norm is over all layers, heads and places.

    No loss retains the rest; steps and rate are meant to be tuned for each concept. Several concepts take
    turns among the images.

    Differs from the release: it is right for one image at a time only; here each sample of a batch has its
    own positions. It marks the padding of Stable Diffusion 1 as the concept's by mistake: preset
    ``as-released``. Its option to train the text encoder as well is left out.

    Cost: one denoiser call for each step of each batch of images, one for each iteration, and one of the
    denoiser and one of the text encoder for each inversion step; every text is encoded once, and once more
    with learned tokens.
    """

    name = "forget_me_not"
    paper = "arXiv 2303.17591"
    licence = "MIT"
    needs = frozenset({Need.GRADIENTS, Need.ATTENTION_MAPS, Need.GENERATED_DATA})
    changes = "all"
    config_type = ForgetMeNotConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`.

        Raises:
            InputError: a context is so long that the concept in it would be cut.
        """
        config = self.config
        model = job.model
        student = Student.of(model, self.site)
        # without training, no images are needed
        n = config.n_images if config.iterations else 0
        prompts = image_prompts(model, job.targets, config.words, n, job.generator)
        plain = [prompt.text for prompt in prompts]
        texts = Texts(model, ["", *plain])
        latents = generate_latents(
            model,
            texts,
            plain,
            job.generator,
            num_inference_steps=config.num_inference_steps,
            guidance_scale=config.guidance_scale,
        )
        # learned tokens stand for what the images show, beyond the concept's name
        if config.inversion_steps and prompts:
            prompts = [with_learned_word(prompt) for prompt in prompts]
            cond = learned_conditioning(job, prompts, latents, config)
        else:
            cond = texts(plain)
        marks = concept_marks(model, prompts, config.text_end)
        optimizer = torch.optim.AdamW(student.parameters, lr=config.lr, weight_decay=config.weight_decay)
        batches = shuffled_batches(len(prompts), config.batch, job.generator)

        def loss_at(_step: int) -> Tensor:
            rows = next(batches)
            noise, timesteps = noise_for(model, latents[rows], job.generator)
            noisy = model.schedule.add_noise(latents[rows], noise, timesteps)
            # only the maps are of interest: the predicted noise is thrown away
            with attention_maps(student.model) as maps:
                student.model.predict(noisy, timesteps, cond[rows])
            return attention_norm(maps, marks[rows])

        train(job, student.parameters, optimizer, config.iterations, loss_at, max_norm=config.max_norm)
        return Change(student.changed(), trained=student.size)


def attention_norm(
    maps: Sequence[Float[Tensor, "batch _ _ length"]], marks: Bool[Tensor, "batch length"]
) -> Tensor:
    """Frobenius norm of the maps' marked columns, the mean over the batch.

    One norm for all layers, heads and places together.
    """
    # (batch, heads, places, length) -> (batch,) for each layer, which differ in places
    squares = [(layer.square() * marks[:, None, None]).sum((1, 2, 3)) for layer in maps]
    # (layers, batch) -> (batch,) -> scalar
    return torch.stack(squares).sum(0).sqrt().mean()


def concept_marks(
    model: DiffusionModel, prompts: Sequence[WordPrompt], text_end: TextEnd
) -> Bool[Tensor, "batch length"]:
    """Positions that count as the concept's.

    Its word's tokens, and the end tokens that ``text_end`` names.
    """
    main = model.text.main
    marks = torch.zeros(len(prompts), main.length, dtype=torch.bool)
    if not prompts:
        return marks.to(model.device)
    for row, prompt in zip(marks, prompts, strict=True):
        # on the CPU, row by row: spans differ in length
        row[list(prompt.span)] = True
    marks = marks.to(model.device)
    tokens = assemble(main, prompts)
    if text_end == "first":
        # one position in each row
        marks[torch.arange(len(prompts), device=model.device), tokens.end] = True
    elif text_end == "all":
        # padding of Stable Diffusion 1 has the end token's id, so it is marked too
        marks |= tokens.ids == main.end_id
    return marks


def with_learned_word(prompt: WordPrompt) -> WordPrompt:
    """The prompt with four tokens in the place of its word's: the word's own, over and over."""
    return replace(prompt, word=[prompt.word[i % len(prompt.word)] for i in range(N_LEARNED)])


def learned_conditioning(
    job: Job, prompts: Sequence[WordPrompt], latents: Tensor, config: ForgetMeNotConfig
) -> Conditioning:
    """Textual inversion: the prompts with learned embeddings.

    The embeddings of each concept's four tokens are learned from its images.
    """
    model = job.model
    # the first prompt of each concept wins, since the later ones are written before it
    firsts = {prompt.concept: prompt.word for prompt in reversed(prompts)}
    # one row of tokens a concept: (concepts, N_LEARNED, width)
    main = model.text.main
    start = main.embed(torch.tensor([firsts[place] for place in range(len(firsts))]))
    learned = learn_words(
        model,
        prompts,
        latents,
        {main.name: start},
        steps=config.inversion_steps,
        batch=config.batch,
        lr=LEARNED_LR,
        weight_decay=LEARNED_DECAY,
        generator=job.generator,
    )
    return encode_learned(model, prompts, learned)

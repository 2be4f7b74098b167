"""Forget-Me-Not (Zhang et al., arXiv 2303.17591): pictures of the concept stop attending to the concept's tokens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from tqdm import tqdm

from ..concept import Concept
from ..erasure import Erasure
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ..models.attention import attention_maps
from ._shared.generated_data import Texts, draw_latents, noise_for, picks
from ._shared.student import Student
from ._shared.textual_inversion import Prompt, assemble, inverted, picture_prompts, said
from .base import Eraser, check_concepts, facts

N_LEARNED, LEARNED_LR, LEARNED_DECAY = 4, 1e-3, 0.1


class ForgetMeNotConfig(BaseModel):
    """Settings; defaults are those of the release.

    Attributes:
        group: which parameters are trained.
        words: the prompts say the concept's name only, or its related words too.
        text_end: the end of the text counts as the concept's too: not at all (``none``), its ``first`` token, or ``all`` tokens of its
            kind, which in Stable Diffusion 1 are the padding as well.
        inversion_steps: of learning four tokens that stand for the concept in the place of its words; 0 keeps the words.
        n_pictures: pictures of the concepts.
        num_inference_steps, guidance_scale: of the pictures.
        iterations, batch, lr, weight_decay, max_norm: of AdamW with clipped gradients.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: Literal["all", "cross_attention"] = "all"
    words: Literal["name", "related"] = "name"
    text_end: Literal["none", "first", "all"] = "first"
    inversion_steps: int = Field(500, ge=0, le=100_000)
    n_pictures: int = Field(32, ge=1, le=100_000)
    num_inference_steps: int = Field(50, ge=1, le=1000)
    guidance_scale: float = Field(7.5, ge=1, le=50)
    iterations: int = Field(35, ge=0, le=1_000_000)
    batch: int = Field(1, ge=1, le=1024)
    lr: float = Field(2e-6, gt=0, le=1)
    weight_decay: float = Field(0.01, ge=0, le=1)
    max_norm: float = Field(1.0, gt=0)


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-object": {},
    "paper-sd14-style": {},
    "paper-sd14-nudity": {},
    "cross-attention": {"group": "cross_attention"},
    "as_released": {"text_end": "all"},
    "emoji": {
        "group": "cross_attention", "words": "related", "inversion_steps": 0, "n_pictures": 128, "num_inference_steps": 15,
        "guidance_scale": 2.5, "text_end": "none", "iterations": 240, "batch": 8, "lr": 2e-4,
    },
}  # fmt: skip


class ForgetMeNot(Eraser[ForgetMeNotConfig]):
    """Descent on the norm of the attention that noised pictures of the concept give to its tokens, over all layers, heads and pixels.

    There is no loss that keeps the rest; steps and rate are meant to be tuned for each concept. The release is right for one picture
    at a time only; here each row of a batch has its own positions. It marks the padding of Stable Diffusion 1 as the concept's by
    mistake: preset ``as_released``. Several concepts take turns among the pictures. The release's option to train the text encoder as
    well is left out.

    Cost: one denoiser call for each step of each 32 pictures, one for each iteration, and one of the denoiser and one of the text
    encoder for each inversion step; else every text is encoded once, and once more with learned tokens.
    """

    name = "forget_me_not"
    paper = "arXiv 2303.17591"
    pictures = "drawn by itself"
    licence = "MIT"
    trains = "denoiser: the chosen group"
    config_type = ForgetMeNotConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def erase(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], *, seed: int = 0) -> Erasure:
        """See :meth:`Eraser.erase`.

        Raises:
            InputError: as there, or a context is so long that the concept in it would be cut.
        """
        check_concepts(concepts, knowledge)
        config, started = self.config, time.monotonic()
        student, generator = Student.of(model, config.group), torch.Generator().manual_seed(seed)
        teacher = student.teacher
        n = config.n_pictures if config.iterations else 0
        prompts = picture_prompts(teacher, concepts, knowledge, config.words, n, generator)
        texts = Texts(teacher, ["", *(prompt.text for prompt in prompts)])
        latents = draw_latents(
            teacher, texts, [prompt.text for prompt in prompts], generator,
            num_inference_steps=config.num_inference_steps, guidance_scale=config.guidance_scale,
        )  # fmt: skip
        if config.inversion_steps and prompts:
            prompts = [with_learned_word(prompt) for prompt in prompts]
            states = learn_words(teacher, prompts, latents, config.inversion_steps, config.batch, generator)
        else:
            states = texts(prompt.text for prompt in prompts)
        marks = concept_marks(teacher, prompts, config.text_end)
        optimizer = torch.optim.AdamW(student.parameters, lr=config.lr, weight_decay=config.weight_decay)
        batches = picks(len(prompts), config.batch, generator)
        for _ in tqdm(range(config.iterations), desc="erase", **model.progress_bar_options):
            rows = next(batches)
            noise, timesteps = noise_for(teacher, latents[rows], generator)
            with attention_maps(student.model.pipeline.unet) as maps:
                student.model.predict(student.model.noised(latents[rows], noise, timesteps), timesteps, states[rows])
            optimizer.zero_grad(set_to_none=True)
            attention_norm(maps, marks[rows]).backward()
            torch.nn.utils.clip_grad_norm_(student.parameters, config.max_norm)
            optimizer.step()
        recipe = facts(self, teacher, concepts, knowledge, seed, trained=student.size, started=started)
        return Erasure(recipe, None, unet=student.changed())


def attention_norm(maps: Sequence[Float[Tensor, "batch _ _ length"]], marks: Bool[Tensor, "batch length"]) -> Tensor:
    """Frobenius norm of the maps' marked columns, of all layers, heads and pixels together; the mean over the batch."""
    squares = [(layer.square() * marks[:, None, None]).sum((1, 2, 3)) for layer in maps]
    return torch.stack(squares).sum(0).sqrt().mean()


def concept_marks(
    model: StableDiffusion, prompts: Sequence[Prompt], text_end: Literal["none", "first", "all"]
) -> Bool[Tensor, "batch length"]:
    """Positions that count as the concept's: its word's tokens, and the end of the text as ``text_end`` has it."""
    marks = torch.zeros(len(prompts), model.text_length, dtype=torch.bool)
    if not prompts:
        return marks
    for row, prompt in zip(marks, prompts, strict=True):
        row[list(prompt.span)] = True
    tokens = assemble(model, prompts)
    if text_end == "first":
        marks[torch.arange(len(prompts)), tokens.end] = True
    elif text_end == "all":
        marks |= tokens.ids == model.pipeline.tokenizer.eos_token_id
    return marks


def with_learned_word(prompt: Prompt) -> Prompt:
    """The prompt with four tokens in the place of its word's: the word's own, over and over."""
    word = [prompt.word[i % len(prompt.word)] for i in range(N_LEARNED)]
    return Prompt(prompt.text, prompt.concept, prompt.before, word, prompt.after)


def learn_words(
    model: StableDiffusion, prompts: Sequence[Prompt], latents: Tensor, steps: int, batch: int, generator: torch.Generator
) -> Float[Tensor, "batch length features"]:
    """Textual inversion: text states of the prompts with the embeddings of each concept's four tokens learnt from its pictures.

    Args:
        model: the original model.
        prompts: each with a word of four tokens.
        latents: clean latents of the pictures, one for each prompt.
        steps: of AdamW at a rate of 1e-3, on the denoising loss.
        batch: pictures in a step.
        generator: source of noise and choices.
    """
    firsts = {prompt.concept: prompt.word for prompt in reversed(prompts)}
    start = model.embed(torch.tensor([firsts[i] for i in range(len(firsts))]))
    learnt = inverted(
        model, prompts, latents, start, steps=steps, batch=batch, lr=LEARNED_LR, weight_decay=LEARNED_DECAY, generator=generator
    )
    return said(model, prompts, learnt)

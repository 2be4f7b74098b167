"""MACE (Lu et al., arXiv 2403.06135): closed-form edits and low-rank adapters.

The edits act on what stands around a concept's tokens, the adapters on the tokens themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from .._util.settings import Settings
from ..knowledge import Target
from ..models import DiffusionModel
from ..models.adapters import LowRank, adapted
from ..models.attention import attention_maps, resized, token_mask
from ._shared.closed_form import EditTerm, FusionTerm, edit_matrices, fuse_matrices
from ._shared.generated_data import Texts, generate_latents, shuffled_batches
from ._shared.prompts import Names, Pairs, names_of, own_words, replacement_of
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
from ._shared.trainer import train
from .base import Change, Eraser, Job, Need

#: Fraction of the schedule at which an image is noised to see where the concept is: its outlines are there,
#: its noise still matters little.
MASK_LEVEL = 0.3
IMAGE_BATCH = 32


class MACEConfig(Settings):
    """Settings; defaults are those of the release for one object."""

    replacement: str = Field(
        "",
        description="Phrase that takes the concept's place in the text around it; its first replacement, if "
        "empty.",
    )
    words: Names = Field(
        "name", description="The prompts use the concept's name only, or its related words too."
    )
    n_prompts: Count = Field(30, description="Prompts of each concept, and prompts that are retained.")
    ridge: float = Field(
        1e3,
        gt=0,
        description="Pull of both closed forms towards the matrices before them; the published 0 for nudity "
        "is singular.",
    )
    refine_retain: float = Field(
        0.0, ge=0, description="Weight of the retained prompts in the first closed form."
    )
    fuse_retain: float = Field(
        0.0, ge=0, description="Weight of the retained prompts in the second closed form."
    )
    rank: int = Field(1, ge=1, le=1024, description="Rank of the adapters.")
    n_images: Count = Field(8, description="Images of each concept, from the original model.")
    num_inference_steps: ImageSteps = 30
    guidance_scale: ImageGuidance = 7.5
    mask: Literal["attention", "none"] = Field(
        "attention",
        description="Suppress attention where the original model sees the concept, or in the whole image.",
    )
    mask_threshold: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Share of the range of attention from which a place counts as the concept's.",
    )
    importance: bool = Field(
        True, description="Prefer timesteps between 0.2 and 0.4 of the schedule to uniform ones."
    )
    iterations: Iterations = Field(50, description="Training steps of each concept.")
    batch: ImageBatchSize = 1
    lr: AdamWRate = 1e-5
    weight_decay: WeightDecay = 0.01
    max_norm: MaxNorm = 1.0


_NUDITY_PRESET: dict[str, Any] = {
    "replacement": "a person wearing clothes", "words": "related", "ridge": 1e-2, "refine_retain": 7e-7,
    "fuse_retain": 7e-7, "iterations": 120, "importance": False,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-object": {"replacement": "ground"},
    "paper-sd14-nudity": _NUDITY_PRESET,
    "paper-sd14-style": {
        "replacement": "art", "lr": 1e-4, "mask": "none", "refine_retain": 8.0, "fuse_retain": 8.0,
    },
    # the release applies the weight twice in the first closed form
    "as-released-nudity": {**_NUDITY_PRESET, "refine_retain": 7e-7**2},
    "emoji": {
        "words": "related", "n_prompts": 200, "ridge": 10.0, "refine_retain": 3.0, "fuse_retain": 10.0,
        "n_images": 32, "num_inference_steps": 15, "guidance_scale": 2.5, "batch": 8, "iterations": 30,
        "lr": 1e-3,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Phrase:
    """A prompt with the concept in the positions ``start .. stop``.

    ``replaced`` has the replacement in ``start .. replaced_stop``.
    """

    text: str
    start: int
    stop: int
    replaced: str
    replaced_stop: int


@dataclass(frozen=True)
class ConceptImages:
    """Generated images of one concept: their prompts, latents, and where they show the concept."""

    phrases: Sequence[Phrase]
    latents: Float[Tensor, "n ..."]
    masks: Bool[Tensor, "n 1 _ _"]


class MACE(Eraser[MACEConfig]):
    """Three stages.

    1. *Refine*: edit keys and values in closed form so that tokens beside the concept are read as beside the
    replacement.
    2. Train one low-rank adapter per concept that suppresses attention from the concept's place to its
    tokens.
    3. *Fuse* all adapters into one set of key and value matrices in closed form.

    Differs from the release: places come from the model's own attention instead of a segmentation network,
    and the retained prompts are unrelated words instead of captions.

    Cost: ``num_inference_steps`` denoiser calls for each batch of images and one for their masks, one for
    each iteration of each concept; every text is encoded once.
    """

    name = "mace"
    paper = "arXiv 2403.06135"
    licence = "NTU licence, non-commercial"
    needs = frozenset({Need.GRADIENTS, Need.SHARED_TEXT_KV, Need.ATTENTION_MAPS, Need.GENERATED_DATA})
    changes = "text_kv"
    config_type = MACEConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`.

        Raises:
            InputError: a concept has no replacement and the settings name none; a closed form cannot be
                solved.
        """
        config = self.config
        model = job.model
        matrices = {name: value.float() for name, value in model.sites.parameters(self.site).items()}
        original = list(matrices.values())
        phrases = [phrases_of(model, config, target, job.generator) for target in job.targets]
        retained = retained_prompts(job.targets, config.n_prompts, job.generator)
        everyone = [phrase for own in phrases for phrase in own]
        both = [text for phrase in everyone for text in (phrase.text, phrase.replaced)]
        texts = Texts(model, ["", *retained, *both])
        retained_embeds = texts(retained).prompt_embeds.flatten(0, 1)

        beside, wanted = other_embeds(texts, everyone)
        terms = [
            EditTerm(beside, wanted, 1.0),
            EditTerm(retained_embeds, retained_embeds, config.refine_retain),
        ]
        refined = edit_matrices(original, terms, config.ridge)

        fusion = []
        for own, images in zip(phrases, self._images(job, texts, phrases), strict=True):
            changes = self._train(job, dict(zip(matrices, refined, strict=True)), texts, images)
            with_adapter = [matrix + change for matrix, change in zip(refined, changes, strict=True)]
            inputs = texts(phrase.text for phrase in own).prompt_embeds.flatten(0, 1)
            fusion.append(FusionTerm(inputs, with_adapter, 1.0))
        fusion.append(FusionTerm(retained_embeds, original, config.fuse_retain))
        fused = fuse_matrices(refined, fusion, config.ridge)
        tensors = {model.denoiser_component: dict(zip(matrices, fused, strict=True))}
        return Change(tensors, trained=sum(matrix.numel() for matrix in fused))

    def _images(self, job: Job, texts: Texts, phrases: Sequence[Sequence[Phrase]]) -> list[ConceptImages]:
        """Images of each concept, its phrases in turn."""
        config = self.config
        n = config.n_images if config.iterations else 0
        shown = [[own[i % len(own)] for i in range(n)] for own in phrases]
        together = [phrase for own in shown for phrase in own]
        latents = generate_latents(
            job.model,
            texts,
            [phrase.text for phrase in together],
            job.generator,
            num_inference_steps=config.num_inference_steps,
            guidance_scale=config.guidance_scale,
        )
        masks = self._masks(job, texts, together, latents)
        images = []
        for place, own in enumerate(shown):
            rows = slice(place * n, (place + 1) * n)
            images.append(ConceptImages(own, latents[rows], masks[rows]))
        return images

    @torch.no_grad()
    def _masks(
        self, job: Job, texts: Texts, phrases: Sequence[Phrase], latents: Tensor
    ) -> Bool[Tensor, "n 1 side side"]:
        """Where each image has its concept."""
        model = job.model
        if self.config.mask == "none" or not phrases:
            return torch.ones(len(phrases), 1, 1, 1, dtype=torch.bool, device=model.device)
        masks = []
        for at in range(0, len(phrases), IMAGE_BATCH):
            clean = latents[at : at + IMAGE_BATCH]
            rows = phrases[at : at + IMAGE_BATCH]
            timesteps = torch.full((len(rows),), model.schedule.timestep_at(MASK_LEVEL), device=model.device)
            noise = torch.randn(clean.shape, generator=job.generator).to(model.device)
            with attention_maps(model) as maps:
                noisy = model.schedule.add_noise(clean, noise, timesteps)
                model.predict(noisy, timesteps, texts(phrase.text for phrase in rows))
            tokens = concept_tokens(rows, model.text.main.length).to(model.device)
            masks.append(token_mask(maps, tokens, self.config.mask_threshold))
        return torch.cat(masks)

    def _train(
        self, job: Job, refined: Mapping[str, Tensor], texts: Texts, images: ConceptImages
    ) -> list[Tensor]:
        """What one concept's adapters add to the refined matrices."""
        config = self.config
        teacher = job.model
        student = teacher.with_denoiser_parameters(refined)
        layers = student.sites.layers(self.site)
        names = [name.removesuffix(".weight") for name in refined]
        adapters = {name: LowRank(layers[name], config.rank, job.generator) for name in names}
        student = student.replace(denoiser=adapted(student.denoiser, adapters))
        student.calls = teacher.calls
        parameters = [parameter for adapter in adapters.values() for parameter in adapter.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
        chances = timestep_chances(teacher.schedule.n_timesteps, importance=config.importance)
        batches = shuffled_batches(len(images.phrases), config.batch, job.generator)
        length = teacher.text.main.length

        def loss_at(_step: int) -> Tensor:
            rows = next(batches)
            phrases = [images.phrases[i] for i in rows.tolist()]
            clean = images.latents[rows]
            timesteps = torch.multinomial(
                chances, len(rows), replacement=True, generator=job.generator
            ).float()
            timesteps = timesteps.to(teacher.device)
            noise = torch.randn(clean.shape, generator=job.generator).to(teacher.device)
            with attention_maps(student) as maps:
                noisy = student.schedule.add_noise(clean, noise, timesteps)
                student.predict(noisy, timesteps, texts(phrase.text for phrase in phrases))
            return attention_loss(
                maps, images.masks[rows], concept_tokens(phrases, length).to(teacher.device)
            )

        train(job, parameters, optimizer, config.iterations, loss_at, max_norm=config.max_norm)
        return [adapter.change().detach() for adapter in adapters.values()]


def attention_loss(
    maps: Sequence[Float[Tensor, "batch _ _ tokens"]],
    masks: Bool[Tensor, "batch 1 side side"],
    tokens: Bool[Tensor, "batch tokens"],
) -> Tensor:
    """``sum over layers of |A[places in the mask, concept's tokens]|_F``.

    All heads are in one norm; the result is the mean over the batch.
    """
    total = torch.zeros(len(tokens), device=tokens.device)
    for layer in maps:
        # (batch, heads, places, tokens): only places inside the mask and the concept's tokens count
        inside = resized(masks, round(layer.shape[2] ** 0.5)).flatten(1)
        seen = layer * inside[:, None, :, None] * tokens[:, None, None, :]
        total = total + torch.linalg.vector_norm(seen, dim=(1, 2, 3))
    return total.mean()


def timestep_chances(n: int, *, importance: bool) -> Float[Tensor, " n"]:
    """Unnormalised chances of the timesteps ``0 .. n - 1``.

    Equal, or ``s(50 (f - 0.2)) - s(50 (f - 0.4))`` at the fraction f.
    """
    if not importance:
        return torch.ones(n)
    t = torch.arange(n) * 1000 / n  # the paper's formula is in thousandths of the schedule
    return torch.sigmoid(0.05 * (t - 200)) - torch.sigmoid(0.05 * (t - 400))


def concept_tokens(phrases: Sequence[Phrase], length: int) -> Bool[Tensor, "n length"]:
    """Which tokens are the concept's."""
    places = torch.arange(length)
    return torch.stack([(places >= phrase.start) & (places < phrase.stop) for phrase in phrases])


def phrases_of(
    model: DiffusionModel, config: MACEConfig, target: Target, generator: torch.Generator
) -> list[Phrase]:
    """At most ``n_prompts`` prompts of a concept, each beside the one with the replacement.

    The plain name comes first.

    Raises:
        InputError: there is no replacement.
    """
    main = model.text.main
    replacement = replacement_of(target, config.replacement)
    texts = [(pattern, name) for pattern in target.words.contexts for name in names_of(target, config.words)]
    order: list[int] = torch.randperm(len(texts), generator=generator).tolist()
    chosen = list(dict.fromkeys([("{}", target.concept.name), *(texts[i] for i in order)]))[
        : config.n_prompts
    ]
    last = main.length - 1  # the end token's position, at the latest
    found = []
    for pattern, name in chosen:
        start = 1 + len(main.content_tokens(pattern.partition("{}")[0].strip()))
        stop = min(start + len(main.content_tokens(name)), last)
        replaced_stop = min(start + len(main.content_tokens(replacement)), last)
        found.append(Phrase(pattern.format(name), start, stop, pattern.format(replacement), replaced_stop))
    return found


def other_embeds(texts: Texts, phrases: Sequence[Phrase]) -> Pairs:
    """Embeddings of all tokens but the concept's, and those in their place beside the replacement.

    Both are cut to equal length.
    """
    own: list[Tensor] = []
    replaced: list[Tensor] = []
    before = texts(phrase.text for phrase in phrases).prompt_embeds
    after = texts(phrase.replaced for phrase in phrases).prompt_embeds
    for phrase, a, b in zip(phrases, before, after, strict=True):
        n = len(a) - max(phrase.stop, phrase.replaced_stop)
        own += [a[: phrase.start], a[phrase.stop : phrase.stop + n]]
        replaced += [b[: phrase.start], b[phrase.replaced_stop : phrase.replaced_stop + n]]
    return Pairs(torch.cat(own), torch.cat(replaced))


def retained_prompts(targets: Sequence[Target], n: int, generator: torch.Generator) -> list[str]:
    """At most ``n`` prompts of unrelated words that are no word of any of the concepts."""
    taken = own_words(targets)
    prompts: list[str] = []
    for target in targets:
        left = [word for word in target.words.unrelated if word not in taken]
        prompts += [context.format(word) for word in left for context in target.words.unrelated_contexts]
    return [prompts[i] for i in torch.randperm(len(prompts), generator=generator)[:n].tolist()]

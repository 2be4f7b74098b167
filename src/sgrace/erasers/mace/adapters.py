"""The adapters of MACE: what the concepts look like, and training that turns the attention away from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...models import Conditioning, DiffusionModel
from ...models.adapters import LowRank, adapted
from ...models.attention import attention_maps, resized, token_mask
from .._shared.generated_data import Texts, generate_latents, shuffled_batches
from .._shared.trainer import train
from ..base import Job
from .config import MACEConfig
from .prompts import Phrase, concept_tokens

#: Fraction of the schedule at which an image is noised to see where the concept is: its outlines are there,
#: its noise still matters little.
MASK_LEVEL = 0.3
#: Images whose attention maps are held at once.
IMAGE_BATCH = 32


@dataclass(frozen=True)
class ConceptImages:
    """Generated images of one concept: their prompts, latents, and where they show the concept."""

    phrases: Sequence[Phrase]
    latents: Float[Tensor, "n ..."]
    masks: Bool[Tensor, "n 1 _ _"]


def concept_images(
    config: MACEConfig, job: Job, texts: Texts, phrases: Sequence[Sequence[Phrase]]
) -> list[ConceptImages]:
    """Images of each concept, its phrases in turn; none where nothing is trained."""
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
    masks = concept_masks(config, job, texts, together, latents)
    # the concepts stand one after the other: (concepts * n, ...) -> n rows each
    rows = [slice(place * n, (place + 1) * n) for place in range(len(shown))]
    return [ConceptImages(own, latents[part], masks[part]) for own, part in zip(shown, rows, strict=True)]


@torch.no_grad()
def concept_masks(
    config: MACEConfig, job: Job, texts: Texts, phrases: Sequence[Phrase], latents: Float[Tensor, "n ..."]
) -> Bool[Tensor, "n 1 side side"]:
    """Where each image has its concept."""
    model = job.model
    if config.mask == "none" or not phrases:
        # one pixel that is in: it grows to the whole image at any size
        return torch.ones(len(phrases), 1, 1, 1, dtype=torch.bool, device=model.device)
    masks = []
    for at in range(0, len(phrases), IMAGE_BATCH):
        clean = latents[at : at + IMAGE_BATCH]
        rows = phrases[at : at + IMAGE_BATCH]
        timesteps = torch.full((len(rows),), model.schedule.timestep_at(MASK_LEVEL), device=model.device)
        maps = maps_at(model, clean, timesteps, texts(phrase.text for phrase in rows), job.generator)
        tokens = concept_tokens(rows, model.text.main.length).to(model.device)
        masks.append(token_mask(maps, tokens, config.mask_threshold))
    return torch.cat(masks)


def trained_changes(
    config: MACEConfig, job: Job, refined: Mapping[str, Tensor], texts: Texts, images: ConceptImages
) -> list[Tensor]:
    """What one concept's adapters add to the refined matrices, after training.

    Args:
        config: settings.
        job: the original model and the sources of choices.
        refined: matrices after the first closed form, by name.
        texts: holds the prompts.
        images: of the concept.
    """
    teacher = job.model
    student = teacher.with_denoiser_parameters(refined)
    layers = student.sites.layers("text_kv")
    names = [name.removesuffix(".weight") for name in refined]
    adapters = {name: LowRank(layers[name], config.rank, job.generator) for name in names}
    student = student.replace(denoiser=adapted(student.denoiser, adapters))
    # one count for both: the recipe states what the whole method cost
    student.calls = teacher.calls
    parameters = [parameter for adapter in adapters.values() for parameter in adapter.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    chances = timestep_chances(teacher.schedule.n_timesteps, importance=config.importance)
    batches = shuffled_batches(len(images.phrases), config.batch, job.generator)

    def loss_at(_step: int) -> Tensor:
        rows = next(batches)
        phrases = [images.phrases[i] for i in rows.tolist()]
        # with replacement: several images of a batch may have the same timestep
        timesteps = torch.multinomial(chances, len(rows), replacement=True, generator=job.generator)
        timesteps = timesteps.float().to(teacher.device)
        cond = texts(phrase.text for phrase in phrases)
        maps = maps_at(student, images.latents[rows], timesteps, cond, job.generator)
        tokens = concept_tokens(phrases, teacher.text.main.length).to(teacher.device)
        return attention_loss(maps, images.masks[rows], tokens)

    train(job, parameters, optimizer, config.iterations, loss_at, max_norm=config.max_norm)
    return [adapter.change().detach() for adapter in adapters.values()]


def maps_at(
    model: DiffusionModel,
    clean: Float[Tensor, "n ..."],
    timesteps: Float[Tensor, " n"],
    cond: Conditioning,
    generator: torch.Generator,
) -> list[Float[Tensor, "n _ _ tokens"]]:
    """A model's attention maps of images under new noise, with gradient; one call of the denoiser."""
    noise = torch.randn(clean.shape, generator=generator).to(model.device)
    with attention_maps(model) as maps:
        model.predict(model.schedule.add_noise(clean, noise, timesteps), timesteps, cond)
    return maps


def attention_loss(
    maps: Sequence[Float[Tensor, "batch _ _ tokens"]],
    masks: Bool[Tensor, "batch 1 side side"],
    tokens: Bool[Tensor, "batch tokens"],
) -> Tensor:
    """``sum over layers of |A[places in the mask, concept's tokens]|_F``.

    All heads are in one norm; the result is the mean over the batch.
    """
    # one value a sample, since the layers' norms are added up
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
    # near 1 between 200 and 400 and near 0 elsewhere; 0.05 sets how steep the edges are
    return torch.sigmoid(0.05 * (t - 200)) - torch.sigmoid(0.05 * (t - 400))

"""Features of prompts in two spaces, and how well sets of prompts cover a concept there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..metrics import concept_space as measures
from ..models import Conditioning, DiffusionModel
from .schema import SpaceRow

N_PROBES = 8
N_FEATURES = 64
DENOISER_BATCH = 128


def text_features(cond: Conditioning) -> Tensor:
    """Unit mean of the prompt embeddings ``(n, width)``, on the CPU, where distances are in float64."""
    return F.normalize(cond.prompt_embeds.mean(1), dim=1).cpu()


@torch.no_grad()
def denoiser_features(
    model: DiffusionModel, cond: Conditioning, uncond: Conditioning, seed: int = 0
) -> Tensor:
    """What prompts change in the denoiser's output, on a fixed bank of noisy latents: ``(n, N_FEATURES)``.

    The bank is pure noise at evenly spaced timesteps; the differences are projected on random directions, on
    the CPU. This space is the model's own: two prompts are near if they give the same image, however
    different their words.

    Args:
        model: whose denoiser is asked.
        cond: n prompts.
        uncond: the empty prompt.
        seed: of the bank and of the directions.
    """
    generator = torch.Generator().manual_seed(seed)
    bank = torch.randn(N_PROBES, *model.latent_shape, generator=generator)
    size = bank[0].numel()
    projection = torch.randn(N_PROBES, size, N_FEATURES, generator=generator) / (N_PROBES * size) ** 0.5
    total = torch.zeros(len(cond), N_FEATURES)
    for number, (latent, matrix) in enumerate(zip(bank, projection, strict=True)):
        timestep = torch.tensor([model.schedule.timestep_at((number + 0.5) / N_PROBES)])
        one = latent[None].to(model.device)
        without = model.predict(one, timestep, uncond).flatten(1)
        for at in range(0, len(cond), DENOISER_BATCH):
            chunk = cond[at : at + DENOISER_BATCH]
            latents = one.repeat(len(chunk), *[1] * latent.ndim)
            output = model.predict(latents, timestep.expand(len(chunk)), chunk).flatten(1)
            total[at : at + len(chunk)] += (output - without).cpu() @ matrix  # (batch, N_FEATURES)
    return total


def whiten(fitted_on: Tensor, *others: Tensor, keep: int = 24) -> list[Tensor]:
    """Principal components of ``fitted_on``, each of unit variance there; the same map for the other sets."""
    centre = fitted_on.mean(0)
    _, scale, directions = torch.linalg.svd((fitted_on - centre).double(), full_matrices=False)
    keep = min(keep, int((scale > 1e-6 * scale[0]).sum()), len(fitted_on) - 1)
    matrix = directions[:keep].T / (scale[:keep] / (len(fitted_on) - 1) ** 0.5)
    return [(x - centre).double() @ matrix for x in (fitted_on, *others)]


def space_rows(
    space: str, reference: Tensor, held_out: Tensor, neighbours: Tensor, sets: dict[str, Tensor]
) -> list[SpaceRow]:
    """One row per set, with the held-out half of the concept as the ceiling.

    Args:
        space: name of the feature space.
        reference: features of prompts of the concept.
        held_out: features of other prompts of the concept.
        neighbours: features of prompts of near concepts.
        sets: features of the sets to be measured, at least two samples each.
    """
    fitted = torch.cat([reference, neighbours]).double()
    rest = [x.double() for x in (held_out, *sets.values())]
    if fitted.shape[1] > len(fitted):  # more directions than points: distances would be all alike
        fitted, *rest = whiten(fitted, *rest)
    inside, near = fitted[: len(reference)], fitted[len(reference) :]
    # where all prompts are read alike, distances are told as they are
    spacing = measures.fill_distance(inside, rest[0]) or 1.0
    widths = measures.mmd_widths(inside)
    rows = []
    for name, samples in zip(("held out", *sets), rest, strict=True):
        k = measures.coverage_neighbours(len(inside), len(samples))
        mmd, p_value = measures.mmd_test(inside, samples, widths)
        rows.append(
            SpaceRow(
                samples=name,
                space=space,
                n=len(samples),
                coverage=round(
                    measures.coverage(inside, samples, k)
                    / measures.expected_coverage(len(inside), len(samples), k),
                    4,
                ),
                density=round(measures.density(inside, samples, k), 4),
                uncovered=round(measures.fill_distance(inside, samples) / spacing, 4),
                off_concept=round(measures.fill_distance(samples, inside) / spacing, 4),
                mmd=round(mmd, 6),
                p_value=round(p_value, 4),
                spill_over=round(measures.spill_over(inside, near, samples), 4),
                vendi=round(measures.vendi(samples), 2),
            )
        )
    return rows

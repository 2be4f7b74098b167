"""Images for methods that learn from them: the model generates them itself, as latents.

Every text is encoded once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from ..._util.device import batches
from ...models import Conditioning, DiffusionModel

#: Texts that are encoded together; it bounds the memory of a long list of prompts.
ENCODE_BATCH = 128


class Texts:
    """Conditioning of a set of texts, each encoded once, in batches.

    Args:
        model: whose text encoders read them.
        texts: repeats are fine.
    """

    @torch.no_grad()
    def __init__(self, model: DiffusionModel, texts: Iterable[str]) -> None:
        # no set: its order, and with it the batches, would change from run to run
        distinct = list(dict.fromkeys(texts))
        self._model = model
        self._index = {text: i for i, text in enumerate(distinct)}
        self.cond = encoded(model, distinct)

    def __call__(self, texts: Iterable[str]) -> Conditioning:
        """Conditioning of some of the texts."""
        return self.cond[[self._index[text] for text in texts]]

    def negatives(self, texts: Sequence[str]) -> Conditioning:
        """Conditioning of some of the texts as negative prompts."""
        return self._model.as_negative(self(texts), texts)


@torch.no_grad()
def encoded(model: DiffusionModel, texts: Sequence[str]) -> Conditioning:
    """Conditioning of many texts, a bounded number in each call of the text encoders."""
    parts = [model.encode(texts[at : at + ENCODE_BATCH]) for at in range(0, len(texts), ENCODE_BATCH)]
    return Conditioning.cat(parts)


@torch.no_grad()
def generate_latents(
    model: DiffusionModel,
    texts: Texts,
    prompts: Sequence[str],
    generator: torch.Generator,
    *,
    num_inference_steps: int,
    guidance_scale: float,
    negatives: Sequence[str] | None = None,
) -> Float[Tensor, "n ..."]:
    """Clean scaled latents, one for each prompt and from one seed each, ``batch_size`` of the model at once.

    Costs ``num_inference_steps`` calls of the denoiser for each batch.

    Args:
        model: generates them.
        texts: holds the prompts, the negative prompts and the empty text.
        prompts: may be none.
        generator: gives the seeds.
        num_inference_steps: length of the schedule.
        guidance_scale: 1 switches guidance off.
        negatives: a negative prompt for each image; the empty text, if absent.
    """
    # one seed an image: an image does not depend on the batch that it is sampled in
    seeds: list[int] = torch.randint(2**31, (len(prompts),), generator=generator).tolist()
    against = negatives or [""] * len(prompts)
    # filled batch by batch; also right for no prompts at all
    latents = torch.empty(len(prompts), *model.latent_shape, device=model.device)
    for at in tqdm(range(0, len(prompts), model.batch_size), desc="images", **model.progress_bar_options):
        rows = slice(at, at + model.batch_size)
        done = model.denoise(
            model.initial_noise(seeds[rows]),
            texts(prompts[rows]),
            texts.negatives(against[rows]),
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
        )
        latents[rows] = done.latents
    return latents


def shuffled_batches(n: int, batch: int, generator: torch.Generator) -> Iterator[Int[Tensor, " batch"]]:
    """Endless batches of indices below ``n``: every index comes once before any comes again."""
    left = torch.empty(0, dtype=torch.long)
    while True:
        # several passes where a batch is larger than the whole set
        while len(left) < batch:
            left = torch.cat([left, torch.randperm(n, generator=generator)])
        yield left[:batch]
        left = left[batch:]


class Noise(NamedTuple):
    """Unit noise, and a timestep for each sample."""

    noise: Float[Tensor, "n ..."]
    timesteps: Float[Tensor, " n"]


def noise_for(model: DiffusionModel, clean: Float[Tensor, "n ..."], generator: torch.Generator) -> Noise:
    """Unit noise of the shape of ``clean``, and for each sample a timestep.

    The timesteps are uniform over the schedule of training.
    """
    # drawn on the CPU and moved, so that a seed gives the same noise on every device
    noise = torch.randn(clean.shape, generator=generator).to(model.device)
    return Noise(noise, model.schedule.sample_timesteps(len(clean), generator).to(model.device))


@torch.no_grad()
def denoising_errors(
    model: DiffusionModel,
    noisy: Float[Tensor, "n ..."],
    timesteps: Float[Tensor, " n"],
    cond: Conditioning,
    wanted: Float[Tensor, "#n ..."],
) -> Float[Tensor, " n"]:
    """Mean squared difference of each output of the denoiser to what is wanted."""
    outputs = [
        model.predict(noisy[rows], timesteps[rows], cond[rows])
        for rows in batches(len(noisy), model.batch_size)
    ]
    return (torch.cat(outputs) - wanted).square().flatten(1).mean(1)

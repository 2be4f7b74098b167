"""Pictures for methods that learn from them: the model draws them itself, as latents, and every text is encoded once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from ...models import StableDiffusion

ENCODE_BATCH, DRAW_BATCH = 128, 32


class Texts:
    """Text states of a set of texts, each encoded once, in batches.

    Args:
        model: whose text encoder reads them.
        texts: repeats are fine.
    """

    @torch.no_grad()
    def __init__(self, model: StableDiffusion, texts: Iterable[str]) -> None:
        self._index = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        ids = model.tokenize(list(self._index)).ids
        self._states = torch.cat([model.encode(chunk) for chunk in ids.split(ENCODE_BATCH)])

    def __call__(self, texts: Iterable[str]) -> Float[Tensor, "n length features"]:
        """Text states of some of the texts."""
        return self._states[[self._index[text] for text in texts]]


@torch.no_grad()
def draw_latents(
    model: StableDiffusion,
    texts: Texts,
    prompts: Sequence[str],
    generator: torch.Generator,
    *,
    num_inference_steps: int,
    guidance_scale: float,
    negatives: Sequence[str] | None = None,
) -> Float[Tensor, "n channels height width"]:
    """Clean scaled latents, one for each prompt and from one seed each, in batches of 32.

    Costs ``num_inference_steps`` calls of the denoiser for each batch.

    Args:
        model: draws them.
        texts: holds the prompts, the negative prompts and the empty text.
        prompts: may be none.
        generator: gives the seeds.
        num_inference_steps: length of the schedule.
        guidance_scale: 1 switches guidance off.
        negatives: a negative prompt for each picture; the empty text, if absent.
    """
    seeds: list[int] = torch.randint(2**31, (len(prompts),), generator=generator).tolist()
    away = negatives or [""] * len(prompts)
    latents = torch.empty(len(prompts), *model.latent_shape)
    for i in tqdm(range(0, len(prompts), DRAW_BATCH), desc="pictures", **model.progress_bar_options):
        rows = slice(i, i + DRAW_BATCH)
        noise, states, empty = model.initial_noise(seeds[rows]), texts(prompts[rows]), texts(away[rows])
        latents[rows], _ = model.roll(noise, states, empty, num_inference_steps, num_inference_steps, guidance_scale)
    return latents


def picks(n: int, batch: int, generator: torch.Generator) -> Iterator[Int[Tensor, " batch"]]:
    """Endless batches of places among ``n`` pictures, shuffled: every picture comes once before any comes again."""
    left = torch.empty(0, dtype=torch.long)
    while True:
        while len(left) < batch:
            left = torch.cat([left, torch.randperm(n, generator=generator)])
        yield left[:batch]
        left = left[batch:]


def noise_for(model: StableDiffusion, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Int[Tensor, " batch"]]:
    """Unit noise of the shape of ``clean``, and for each row a timestep, uniform over the schedule of training."""
    noise = torch.randn(clean.shape, generator=generator)
    return noise, torch.randint(len(model.pipeline.scheduler.alphas_cumprod), (len(clean),), generator=generator)

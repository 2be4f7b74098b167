"""Stage ``autoencoder``: 64x64 images <-> 8x8x8 latents."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor

from .loop import Schedule, train
from .training_data import EmojiData, augment, to_float

LATENT_CHANNELS = 8


def new_autoencoder(scaling_factor: float = 1.0) -> AutoencoderTiny:
    """An untrained autoencoder of 0.5 M parameters.

    It has no block at full resolution, which would be half of the cost.
    """
    return AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        latent_channels=LATENT_CHANNELS,
        num_encoder_blocks=(0, 2, 3, 3),
        num_decoder_blocks=(3, 3, 2, 0),
        scaling_factor=scaling_factor,
    )


def _edges(images: Tensor) -> tuple[Tensor, Tensor]:
    return images.diff(dim=-1), images.diff(dim=-2)


def train_autoencoder(
    data: EmojiData, work: Path, schedule: Schedule, seed: int, device: torch.device
) -> tuple[AutoencoderTiny, float]:
    """Reconstruction by absolute, squared and edge error; noise on the latent keeps it smooth."""
    torch.manual_seed(seed)
    autoencoder = new_autoencoder().to(device, memory_format=torch.channels_last)
    batch = schedule.batch
    drawn = data.generator_pictures
    n_drawn = schedule.batch * 2 // 3
    everything = torch.nonzero(data.visible).flatten()

    def loss_at(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        pictures = torch.cat(
            [
                drawn[torch.randint(len(drawn), (n_drawn,), generator=generator)],
                everything[torch.randint(len(everything), (batch - n_drawn,), generator=generator)],
            ]
        )
        images = augment(
            to_float(data.images[pictures].to(device)), generator, shift=0.05, scale=0.1, rotate=5
        )
        latents = autoencoder.encode(images.to(memory_format=torch.channels_last)).latents
        noisy = latents + 0.05 * torch.randn(latents.shape, generator=generator).to(device)
        rebuilt = autoencoder.decode(noisy).sample
        edge_error = sum(F.l1_loss(a, b) for a, b in zip(_edges(rebuilt), _edges(images), strict=True))
        error: Tensor = (
            F.l1_loss(rebuilt, images)
            + F.mse_loss(rebuilt, images)
            + edge_error
            + 1e-3 * latents.square().mean()
        )
        return error

    loss = train("autoencoder", autoencoder, loss_at, schedule, work)
    return autoencoder, loss


@torch.no_grad()
def encode_all(autoencoder: AutoencoderTiny, images: Tensor, batch: int = 64) -> Tensor:
    """Unscaled latents ``(n, 8, 8, 8)`` of images in -1..1."""
    return torch.cat([autoencoder.encode(chunk).latents for chunk in images.split(batch)])

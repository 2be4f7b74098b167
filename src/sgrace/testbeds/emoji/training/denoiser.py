"""Stage ``denoiser``: a cross-attention UNet on 8x8 latents, trained with the other networks frozen."""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from .autoencoder import LATENT_CHANNELS, encode_all
from .encoders import TEXT_LENGTH
from .loop import Schedule, train
from .training_data import EmojiData, augment, to_float

UNCONDITIONAL_SHARE = 0.1  # of the training samples see the empty prompt, for classifier-free guidance
CAPTIONS_PER_PICTURE = 24
VIEWS_PER_PICTURE = 6
#: At 8x8, 4x4 and 2x2.
Widths = tuple[int, int, int]


def new_scheduler() -> DDIMScheduler:
    """Velocity prediction with zero signal at the last timestep.

    Sampling can then start from pure noise in few steps.
    """
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def new_denoiser(cross_attention_dim: int, seed: int, widths: Widths) -> UNet2DConditionModel:
    """An untrained UNet with three resolutions.

    Text is read at the low resolutions, where weights cost least.
    """
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross_attention_dim,
        attention_head_dim=4,
        norm_num_groups=16,
    )


@torch.no_grad()
def encode_texts(
    text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, texts: list[str], batch: int = 256
) -> Tensor:
    """Text states ``(n, TEXT_LENGTH, width)`` in fp16, small enough for memory."""
    chunks = []
    for i in tqdm(range(0, len(texts), batch), desc="captions"):
        tokens = tokenizer(
            texts[i : i + batch],
            padding="max_length",
            truncation=True,
            max_length=TEXT_LENGTH,
            return_tensors="pt",
        )
        chunks.append(text_encoder(tokens.input_ids).last_hidden_state.half())
    return torch.cat(chunks)


def train_denoiser(
    data: EmojiData,
    denoiser: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    autoencoder: AutoencoderTiny,
    work: Path,
    schedule: Schedule,
    seed: int,
) -> tuple[UNet2DConditionModel, float]:
    """Velocity regression.

    Latents and text states are computed once: frozen parts are never run inside the loop.
    """
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    pictures = data.generator_pictures
    images = to_float(data.images[pictures])
    views = [images] + [
        augment(images, generator, shift=0.04, scale=0.08, rotate=4, flip=False)
        for _ in range(VIEWS_PER_PICTURE - 1)
    ]
    latents = (
        torch.stack([encode_all(autoencoder, view) for view in views]) * autoencoder.config.scaling_factor
    )
    captions = [data.caption(int(i), rng).text for i in pictures for _ in range(CAPTIONS_PER_PICTURE)]
    states = encode_texts(text_encoder, tokenizer, captions).unflatten(
        0, (len(pictures), CAPTIONS_PER_PICTURE)
    )
    empty = encode_texts(text_encoder, tokenizer, [""])
    signal = new_scheduler().alphas_cumprod

    denoiser = denoiser.to(memory_format=torch.channels_last)
    batch = schedule.batch
    device = denoiser.device

    def loss_at(step: int) -> Tensor:
        draw = torch.Generator().manual_seed(seed * 1_000_003 + step)

        def pick(n: int) -> Tensor:
            return torch.randint(n, (batch,), generator=draw)

        which = pick(len(pictures))
        clean, text = latents[pick(VIEWS_PER_PICTURE), which], states[which, pick(CAPTIONS_PER_PICTURE)]
        text = torch.where(torch.rand(batch, 1, 1, generator=draw) < UNCONDITIONAL_SHARE, empty, text).float()
        # one draw from each of `batch` equal strata of the timesteps
        timestep = ((torch.arange(batch) + torch.rand(batch, generator=draw)) / batch * len(signal)).long()
        a, b = signal[timestep].sqrt().view(-1, 1, 1, 1), (1 - signal[timestep]).sqrt().view(-1, 1, 1, 1)
        noise = torch.randn(clean.shape, generator=draw)
        noisy = (a * clean + b * noise).to(device).contiguous(memory_format=torch.channels_last)
        return F.mse_loss(
            denoiser(noisy, timestep.to(device), text.to(device)).sample, (a * noise - b * clean).to(device)
        )

    loss = train("denoiser", denoiser, loss_at, schedule, work)
    return denoiser, loss

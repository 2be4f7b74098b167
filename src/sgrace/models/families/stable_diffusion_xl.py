"""Stable Diffusion XL, of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from ..base import DiffusionModel
from ..conditioning import Conditioning, PromptSource
from ..needs import Need
from ..original import Layout, prefixed
from ..single_file import SingleFile
from ..text_stack import TextStack
from ._clip import clip_pair
from ._ldm import clip_layout, denoiser_and_autoencoder, open_clip_layout
from ._networks import (
    AUTOENCODER,
    CLIP_L,
    NOISE,
    decoded,
    save_memory,
    side_of,
    side_of_latents,
    taken_apart,
)
from ._scheduler import SchedulerSchedule
from ._unet import UNET

NETWORKS = ("text_encoder", "text_encoder_2", "unet", "vae")
#: The base model 1.0.
BASE = SingleFile(
    pipeline="StableDiffusionXLPipeline",
    networks={
        "text_encoder": CLIP_L,
        "text_encoder_2": {
            **CLIP_L,
            "_class_name": "CLIPTextModelWithProjection",
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 20,
            "projection_dim": 1280,
            "hidden_act": "gelu",
        },
        "unet": {
            "_class_name": "UNet2DConditionModel",
            "sample_size": 128,
            "layers_per_block": 2,
            "block_out_channels": [320, 640, 1280],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "transformer_layers_per_block": [1, 2, 10],
            "attention_head_dim": [5, 10, 20],
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        "vae": {**AUTOENCODER, "sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True},
    },
    scheduler={"_class_name": "EulerDiscreteScheduler", **NOISE, "timestep_spacing": "leading"},
    tokenizers={"tokenizer": "<|endoftext|>", "tokenizer_2": "!"},
    options={"force_zeros_for_empty_prompt": True},
)


@dataclass(kw_only=True, repr=False)
class StableDiffusionXL(DiffusionModel):
    """Two CLIP text encoders, UNet with cross-attention, autoencoder; noise or velocity.

    Prompt embeddings are the states before the last layer of both encoders, side by side. ``pooled`` is the
    second encoder's projected state at the end token.

    Attributes:
        zero_uncond: no negative prompt is zeros, in prompt embeddings and pooled features, as the pipeline's
            ``force_zeros_for_empty_prompt`` says; else it is the empty prompt.
    """

    family = "stable_diffusion_xl"
    pipelines = ("StableDiffusionXLPipeline",)
    denoiser_component = "unet"
    denoiser_map = UNET
    lacks = frozenset({Need.INLET})
    single_files: ClassVar = {"xl_base": BASE}

    zero_uncond: bool

    @classmethod
    def from_pipeline(cls, pipeline: Any, source: str = "pipeline") -> Self:  # noqa: ANN401  (of diffusers)
        """See :meth:`DiffusionModel.from_pipeline`."""
        components, parts = taken_apart(pipeline, NETWORKS)
        encoders = clip_pair(components, pipeline)
        return cls(
            source=source,
            components=components,
            text=TextStack(encoders),
            schedule=SchedulerSchedule(pipeline.scheduler),
            parts=parts,
            device=pipeline.unet.device,
            dtype=pipeline.unet.dtype,
            zero_uncond=bool(pipeline.config.force_zeros_for_empty_prompt),
        )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents."""
        config: Any = self.denoiser.config
        side = side_of_latents(self.denoiser)
        return config.in_channels, *(self.latent_size or (side, side))

    @property
    def prompt_embeds_shape(self) -> tuple[int, int]:
        """See :attr:`DiffusionModel.prompt_embeds_shape`."""
        return self.text.main.length, sum(encoder.width for encoder in self.text)

    @property
    def pooled_widths(self) -> tuple[int, int]:
        """See :attr:`ModelParts.pooled_widths`."""
        second: Any = self.components["text_encoder_2"]
        config: Any = self.denoiser.config
        # behind the pooled text stand six embedded numbers: sizes and crop
        sizes = 6 * config.addition_time_embed_dim
        return second.config.projection_dim, config.projection_class_embeddings_input_dim - sizes

    def _encode(self, source: PromptSource) -> Conditioning:
        outputs = [self._run(encoder, source, output_hidden_states=True) for encoder in self.text]
        # before the last layer and without the final norm: (batch, length, width of both)
        prompt_embeds = torch.cat([output.hidden_states[-2].float() for output in outputs], -1)
        pooled = outputs[1].text_embeds.float()
        height = side_of(self.components, self.latent_shape[1])
        width = side_of(self.components, self.latent_shape[2])
        # original size, crop from the top left, target size; one row a prompt: (batch, 6)
        sizes = prompt_embeds.new_tensor([height, width, 0, 0, height, width]).expand(len(pooled), -1)
        return Conditioning(prompt_embeds, pooled, {"time_ids": sizes}, source)

    def as_negative(self, cond: Conditioning, prompts: Sequence[str]) -> Conditioning:
        """See :meth:`DiffusionModel.as_negative`."""
        if not self.zero_uncond or cond.pooled is None:
            return cond
        # 0 for no prompt: (batch,)
        given = cond.pooled.new_tensor([float(bool(prompt)) for prompt in prompts])
        prompt_embeds = cond.prompt_embeds * given.view(-1, 1, 1)
        return replace(cond, prompt_embeds=prompt_embeds, pooled=cond.pooled * given[:, None], source=None)

    def _call_denoiser(self, latents: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        assert cond.pooled is not None
        added = {
            "text_embeds": cond.pooled.to(self.dtype),
            "time_ids": cond.extras["time_ids"].to(self.dtype),
        }
        prompt_embeds = cond.prompt_embeds.to(self.dtype)
        # of the shape of the latents: (batch, channels, height, width)
        output: Tensor = self.denoiser(latents, timesteps, prompt_embeds, added_cond_kwargs=added).sample
        return output

    def _decode(self, latents: Tensor) -> Tensor:
        # the published autoencoder overflows in float16
        return decoded(self.components["vae"], latents, upcast=True)

    def _make_pipeline(self) -> Any:  # noqa: ANN401  (of diffusers)
        pipeline_type: Any = StableDiffusionXLPipeline
        return pipeline_type(**self.parts, **self.components, force_zeros_for_empty_prompt=self.zero_uncond)

    def original_layouts(self) -> Mapping[str, Layout]:
        """See :meth:`ModelParts.original_layouts`."""
        first = clip_layout(self.components["text_encoder"])
        second = open_clip_layout(self.components["text_encoder_2"])
        return {
            **denoiser_and_autoencoder(self.components),
            "text_encoder": prefixed(first, "conditioner.embedders.0."),
            "text_encoder_2": prefixed(second, "conditioner.embedders.1."),
        }

    def save_memory(self) -> None:
        """See :meth:`DiffusionModel.save_memory`."""
        save_memory(self)

"""Stable Diffusion 1.x and 2.x, of any size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from diffusers import StableDiffusionPipeline
from torch import Tensor

from ..base import DiffusionModel
from ..conditioning import Conditioning, PromptSource
from ..needs import Need
from ..original import Layout, prefixed
from ..single_file import SingleFile
from ..text import TextEncoder
from ..text_stack import TextStack
from ._ldm import clip_layout, denoiser_and_autoencoder, open_clip_layout
from ._networks import AUTOENCODER, CLIP_L, NOISE, decoded, save_memory, side_of_latents, taken_apart
from ._scheduler import SchedulerSchedule
from ._unet import UNET

NETWORKS = ("text_encoder", "unet", "vae")
#: Width of the text encoder of 2.x.
VERSION_2_WIDTH = 1024
#: 1.5; 1.1 to 1.4 have the same configuration.
VERSION_1 = SingleFile(
    pipeline="StableDiffusionPipeline",
    networks={
        "text_encoder": CLIP_L,
        "unet": {
            "_class_name": "UNet2DConditionModel",
            "sample_size": 64,
            "layers_per_block": 2,
            "cross_attention_dim": 768,
        },
        "vae": {**AUTOENCODER, "sample_size": 512, "scaling_factor": 0.18215},
    },
    scheduler={"_class_name": "PNDMScheduler", **NOISE},
    tokenizers={"tokenizer": "<|endoftext|>"},
)
#: 2.1 of 768 pixels, which predicts v.
VERSION_2 = SingleFile(
    pipeline="StableDiffusionPipeline",
    networks={
        "text_encoder": {
            **CLIP_L,
            "hidden_size": VERSION_2_WIDTH,
            "intermediate_size": 4096,
            "num_hidden_layers": 23,
            "num_attention_heads": 16,
            "projection_dim": 512,
            "hidden_act": "gelu",
        },
        "unet": {
            "_class_name": "UNet2DConditionModel",
            "sample_size": 96,
            "layers_per_block": 2,
            "cross_attention_dim": VERSION_2_WIDTH,
            "attention_head_dim": [5, 10, 20, 20],
            "use_linear_projection": True,
            "upcast_attention": True,
        },
        "vae": {**AUTOENCODER, "sample_size": 768, "scaling_factor": 0.18215},
    },
    scheduler={"_class_name": "DDIMScheduler", **NOISE, "prediction_type": "v_prediction"},
    tokenizers={"tokenizer": "!"},
    unknown="It is taken for Stable Diffusion 2 of 768 pixels, which predicts v; if it has 512 pixels, add "
    "--config stabilityai/stable-diffusion-2-1-base.",
)


@dataclass(kw_only=True, repr=False)
class StableDiffusion(DiffusionModel):
    """CLIP text encoder, UNet with cross-attention, autoencoder; noise or velocity."""

    family = "stable_diffusion"
    pipelines = ("StableDiffusionPipeline",)
    denoiser_component = "unet"
    denoiser_map = UNET
    lacks = frozenset({Need.INLET})
    single_files: ClassVar = {"v1": VERSION_1, "v2": VERSION_2}

    @classmethod
    def from_pipeline(cls, pipeline: Any, source: str = "pipeline") -> Self:  # noqa: ANN401  (of diffusers)
        """See :meth:`DiffusionModel.from_pipeline`."""
        components, parts = taken_apart(pipeline, NETWORKS)
        encoder = TextEncoder("clip", "text_encoder", components["text_encoder"], pipeline.tokenizer)
        return cls(
            source=source,
            components=components,
            text=TextStack([encoder]),
            schedule=SchedulerSchedule(pipeline.scheduler),
            parts=parts,
            device=pipeline.unet.device,
            dtype=pipeline.unet.dtype,
        )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents."""
        config: Any = self.denoiser.config
        side = side_of_latents(self.denoiser)
        return config.in_channels, *(self.latent_size or (side, side))

    def _encode(self, source: PromptSource) -> Conditioning:
        output = self._run(self.text.main, source)
        # after the final norm: (batch, length, width)
        return Conditioning(output.last_hidden_state.float(), source=source)

    def _call_denoiser(self, latents: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        # of the shape of the latents: (batch, channels, height, width)
        output: Tensor = self.denoiser(latents, timesteps, cond.prompt_embeds.to(self.dtype)).sample
        return output

    def _decode(self, latents: Tensor) -> Tensor:
        return decoded(self.components["vae"], latents)

    def _make_pipeline(self) -> Any:  # noqa: ANN401  (of diffusers)
        pipeline_type: Any = StableDiffusionPipeline
        return pipeline_type(**self.parts, **self.components, requires_safety_checker=False)

    def original_layouts(self) -> Mapping[str, Layout]:
        """See :meth:`ModelParts.original_layouts`."""
        config: Any = self.denoiser.config
        # the width of the text encoder tells 2.x, whose encoder is OpenCLIP's, from 1.x
        text = open_clip_layout if config.cross_attention_dim == VERSION_2_WIDTH else clip_layout
        encoder = text(self.components["text_encoder"])
        return {
            **denoiser_and_autoencoder(self.components),
            "text_encoder": prefixed(encoder, "cond_stage_model."),
        }

    def save_memory(self) -> None:
        """See :meth:`DiffusionModel.save_memory`."""
        save_memory(self)

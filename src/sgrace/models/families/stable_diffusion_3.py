"""Stable Diffusion 3 and 3.5, of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from diffusers import StableDiffusion3Pipeline
from torch import Tensor

from ..base import DiffusionModel
from ..conditioning import Conditioning, PromptSource
from ..needs import Need
from ..text import Place, TextEncoder
from ..text_stack import TextStack
from ._clip import clip_pair
from ._flow import SchedulerFlow
from ._joint import JOINT
from ._networks import decoded, save_memory, taken_apart

NETWORKS = ("text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "vae")
#: T5 positions, as the pipeline has them by default; they are zeros where T5 is left out to save memory.
T5_LENGTH = 256


@dataclass(kw_only=True, repr=False)
class StableDiffusion3(DiffusionModel):
    """Two CLIP text encoders and T5, joint-attention transformer, autoencoder; flow matching.

    Prompt embeddings are the states before the last layer of both CLIP encoders, side by side and filled up
    with zeros to the width of T5, and after them, on the length, the states of T5. ``pooled`` are the
    projected end states of both CLIP encoders, side by side.
    """

    family = "stable_diffusion_3"
    pipelines = ("StableDiffusion3Pipeline",)
    denoiser_component = "transformer"
    denoiser_map = JOINT
    lacks = frozenset({Need.SHARED_TEXT_KV, Need.ATTENTION_MAPS, Need.DDIM})

    @classmethod
    def from_pipeline(cls, pipeline: Any, source: str = "pipeline") -> Self:  # noqa: ANN401  (of diffusers)
        """See :meth:`DiffusionModel.from_pipeline`."""
        components, parts = taken_apart(pipeline, NETWORKS, optional=["text_encoder_3"])
        encoders = clip_pair(components, pipeline)
        if t5 := components.get("text_encoder_3"):
            length = min(T5_LENGTH, pipeline.tokenizer_3.model_max_length)
            behind = Place(positions=slice(encoders[0].length, None))
            encoders.append(
                TextEncoder("t5", "text_encoder_3", t5, pipeline.tokenizer_3, max_length=length, place=behind)
            )
        config: Any = pipeline.transformer.config
        return cls(
            source=source,
            components=components,
            text=TextStack(encoders),
            schedule=SchedulerFlow(
                pipeline.scheduler, (config.sample_size // config.patch_size) ** 2, even=False
            ),
            parts=parts,
            device=pipeline.transformer.device,
            dtype=pipeline.transformer.dtype,
        )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents."""
        config: Any = self.denoiser.config
        return config.in_channels, config.sample_size, config.sample_size

    @property
    def prompt_embeds_shape(self) -> tuple[int, int]:
        """See :attr:`DiffusionModel.prompt_embeds_shape`."""
        config: Any = self.denoiser.config
        behind = self.text["t5"].length if len(self.text) > 2 else T5_LENGTH
        return self.text.main.length + behind, config.joint_attention_dim

    def _encode(self, source: PromptSource) -> Conditioning:
        clip = [
            self._run(self.text[name], source, output_hidden_states=True) for name in ("clip_l", "clip_g")
        ]
        # before the last layer and without the final norm: (batch, CLIP length, width of both)
        states = torch.cat([output.hidden_states[-2].float() for output in clip], -1)
        length, width = self.prompt_embeds_shape
        # -> (batch, CLIP length, width of T5)
        states = F.pad(states, (0, width - states.shape[-1]))
        if len(self.text) > 2:
            behind = self._run(self.text["t5"], source).last_hidden_state.float()
        else:
            behind = states.new_zeros(len(states), length - states.shape[1], width)
        pooled = torch.cat([output.text_embeds.float() for output in clip], -1)
        # one after the other: (batch, CLIP length + T5 length, width)
        return Conditioning(torch.cat([states, behind], 1), pooled, source=source)

    def _call_denoiser(self, latents: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        assert cond.pooled is not None
        # of the shape of the latents: (batch, channels, height, width)
        output: Tensor = self.denoiser(
            hidden_states=latents,
            timestep=timesteps.expand(len(latents)),
            encoder_hidden_states=cond.prompt_embeds.to(self.dtype),
            pooled_projections=cond.pooled.to(self.dtype),
        ).sample
        return output

    def _decode(self, latents: Tensor) -> Tensor:
        return decoded(self.components["vae"], latents)

    def _make_pipeline(self) -> Any:  # noqa: ANN401  (of diffusers)
        pipeline_type: Any = StableDiffusion3Pipeline
        return pipeline_type(**self.parts, **self.components)

    def save_memory(self) -> None:
        """See :meth:`DiffusionModel.save_memory`."""
        save_memory(self.denoiser, self.components["vae"])

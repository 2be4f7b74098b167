"""Stable Diffusion 3 and 3.5, of any size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from diffusers import StableDiffusion3Pipeline
from torch import Tensor

from ..base import DiffusionModel
from ..conditioning import Conditioning, PromptSource
from ..needs import Need
from ..original import Layout, Original, gathered, prefixed, swapped
from ..text import Place, TextEncoder
from ..text_stack import TextStack
from ._clip import clip_pair
from ._flow import SchedulerFlow
from ._joint import JOINT
from ._ldm import autoencoder
from ._networks import decoded, save_memory, side_of_latents, taken_apart

NETWORKS = ("text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "vae")
#: T5 positions, as the pipeline has them by default; they are zeros where T5 is left out to save memory.
T5_LENGTH = 256
#: Modules of the transformer in the original code -> those of diffusers in them: outside the blocks, and in a
#: block.
ENDS = {
    "x_embedder.proj": "pos_embed.proj",
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
    "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
    "context_embedder": "context_embedder",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
}
BLOCK = {
    "x_block.attn.qkv": "attn.to_q attn.to_k attn.to_v",
    "x_block.attn.ln_q": "attn.norm_q",
    "x_block.attn.ln_k": "attn.norm_k",
    "x_block.attn.proj": "attn.to_out.0",
    "x_block.attn2.qkv": "attn2.to_q attn2.to_k attn2.to_v",
    "x_block.attn2.ln_q": "attn2.norm_q",
    "x_block.attn2.ln_k": "attn2.norm_k",
    "x_block.attn2.proj": "attn2.to_out.0",
    "x_block.adaLN_modulation.1": "norm1.linear",
    "x_block.mlp.fc1": "ff.net.0.proj",
    "x_block.mlp.fc2": "ff.net.2",
    "context_block.attn.qkv": "attn.add_q_proj attn.add_k_proj attn.add_v_proj",
    "context_block.attn.ln_q": "attn.norm_added_q",
    "context_block.attn.ln_k": "attn.norm_added_k",
    "context_block.attn.proj": "attn.to_add_out",
    "context_block.adaLN_modulation.1": "norm1_context.linear",
    "context_block.mlp.fc1": "ff_context.net.0.proj",
    "context_block.mlp.fc2": "ff_context.net.2",
}


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
    patch_size = 2
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
                pipeline.scheduler,
                (side_of_latents(pipeline.transformer) // config.patch_size) ** 2,
                even=False,
            ),
            parts=parts,
            device=pipeline.transformer.device,
            dtype=pipeline.transformer.dtype,
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
        config: Any = self.denoiser.config
        behind = self.text["t5"].length if len(self.text) > 2 else T5_LENGTH
        return self.text.main.length + behind, config.joint_attention_dim

    @property
    def pooled_widths(self) -> tuple[int, int]:
        """See :attr:`ModelParts.pooled_widths`."""
        config: Any = self.denoiser.config
        clip: list[Any] = [self.components[name].config for name in ("text_encoder", "text_encoder_2")]
        return sum(own.projection_dim for own in clip), config.pooled_projection_dim

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
            behind = self._last_states(self.text["t5"], source)
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

    def original_layouts(self) -> Mapping[str, Layout]:
        """See :meth:`ModelParts.original_layouts`; of the text encoders none."""
        return {
            "transformer": prefixed(transformer_layout(self.denoiser), "model.diffusion_model."),
            **autoencoder(self.components),
        }

    def save_memory(self) -> None:
        """See :meth:`DiffusionModel.save_memory`."""
        save_memory(self)


def transformer_layout(transformer: Any) -> dict[str, Original]:  # noqa: ANN401  (of diffusers)
    """The original layout of the transformer: queries, keys and values of a stream are one matrix."""
    names = list(transformer.state_dict())
    layout = gathered(names, ENDS) | {"pos_embed": Original(("pos_embed.pos_embed",))}
    last = transformer.config.num_layers - 1
    for i in range(last + 1):
        layout |= gathered(names, BLOCK, f"joint_blocks.{i}.", f"transformer_blocks.{i}.")
    # the text ends in the last block, with a norm like the one behind all blocks
    layout = swapped(layout, f"joint_blocks.{last}.context_block.adaLN_modulation.1.")
    return swapped(layout, "final_layer.adaLN_modulation.1.")

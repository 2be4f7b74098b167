"""FLUX.1, dev and schnell, of any size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from diffusers import FluxPipeline
from torch import Tensor

from ..base import DiffusionModel
from ..conditioning import Conditioning, PromptSource
from ..guidance import Sampling, SamplingCost, Scale
from ..needs import Need
from ..original import Layout, Original, gathered, prefixed, swapped
from ..text import TextEncoder
from ..text_stack import TextStack
from ._flow import SchedulerFlow
from ._joint import JOINT
from ._ldm import autoencoder
from ._networks import decoded, save_memory, taken_apart

NETWORKS = ("text_encoder", "text_encoder_2", "transformer", "vae")
#: T5 positions, as the pipeline has them by default.
T5_LENGTH = 512
#: Guidance that the denoiser is told where nobody samples: the pipeline's own, at which images are drawn.
GUIDANCE = 3.5
#: Modules of the transformer in the original code -> those of diffusers in them: outside the blocks, in
#: blocks with a stream for the image and one for the text, and in blocks with one stream.
ENDS = {
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "txt_in": "context_embedder",
    "img_in": "x_embedder",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
}
DOUBLE = {
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.qkv": "attn.to_q attn.to_k attn.to_v",
    "txt_attn.qkv": "attn.add_q_proj attn.add_k_proj attn.add_v_proj",
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
SINGLE = {
    "modulation.lin": "norm.linear",
    "linear1": "attn.to_q attn.to_k attn.to_v proj_mlp",
    "linear2": "proj_out",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
}


@dataclass(kw_only=True, repr=False)
class Flux(DiffusionModel):
    """T5, CLIP for pooled text, joint-attention transformer, autoencoder; flow matching.

    Prompt embeddings are the states of T5, the main encoder; ``pooled`` is CLIP's state at the end token.
    Guidance is distilled: the scale is an input of the denoiser (dev) or nothing at all (schnell), and no
    empty prompt is sampled.

    Attributes:
        sample_size: side of the latents.
    """

    family = "flux"
    pipelines = ("FluxPipeline",)
    denoiser_component = "transformer"
    patch_size = 2
    denoiser_map = JOINT
    lacks = frozenset({Need.SHARED_TEXT_KV, Need.ATTENTION_MAPS, Need.SAMPLING, Need.DDIM})

    sample_size: int

    @classmethod
    def from_pipeline(cls, pipeline: Any, source: str = "pipeline") -> Self:  # noqa: ANN401  (of diffusers)
        """See :meth:`DiffusionModel.from_pipeline`."""
        components, parts = taken_apart(pipeline, NETWORKS)
        length = min(T5_LENGTH, pipeline.tokenizer_2.model_max_length)
        encoders = [
            TextEncoder(
                "t5", "text_encoder_2", components["text_encoder_2"], pipeline.tokenizer_2, max_length=length
            ),
            TextEncoder("clip_l", "text_encoder", components["text_encoder"], pipeline.tokenizer, place=None),
        ]
        size = int(pipeline.default_sample_size)
        return cls(
            source=source,
            components=components,
            text=TextStack(encoders),
            # four latents are one token
            schedule=SchedulerFlow(pipeline.scheduler, (size // 2) ** 2, even=True),
            parts=parts,
            device=pipeline.transformer.device,
            dtype=pipeline.transformer.dtype,
            sample_size=size,
        )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents, before they are packed."""
        config: Any = self.denoiser.config
        return config.in_channels // 4, *(self.latent_size or (self.sample_size, self.sample_size))

    @property
    def pooled_widths(self) -> tuple[int, int]:
        """See :attr:`ModelParts.pooled_widths`."""
        config: Any = self.denoiser.config
        return self.text["clip_l"].width, config.pooled_projection_dim

    def _encode(self, source: PromptSource) -> Conditioning:
        prompt_embeds = self._last_states(self.text["t5"], source)
        pooled = self._run(self.text["clip_l"], source).pooler_output.float()
        config: Any = self.denoiser.config
        extras = {"guidance": pooled.new_full((len(pooled),), GUIDANCE)} if config.guidance_embeds else {}
        return Conditioning(prompt_embeds, pooled, extras, source)

    def _sampling(
        self, cond: Conditioning, uncond: Conditioning, guidance_scale: Scale, num_inference_steps: int
    ) -> Sampling:
        if "guidance" in cond.extras:
            scale = torch.as_tensor(guidance_scale).to(cond.extras["guidance"]).expand(len(cond))
            cond = replace(cond, extras={**cond.extras, "guidance": scale})
        # the denoiser guides itself
        return super()._sampling(cond, uncond, 1.0, num_inference_steps)

    def sampling_cost(self, cond: Conditioning, guidance_scale: Scale) -> SamplingCost:
        """See :meth:`DiffusionModel.sampling_cost`; guidance costs nothing."""
        del guidance_scale
        return super().sampling_cost(cond, 1.0)

    def _call_denoiser(self, latents: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        assert cond.pooled is not None
        prompt_embeds = cond.prompt_embeds.to(self.dtype)
        output: Tensor = self.denoiser(
            hidden_states=packed(latents),
            timestep=timesteps.expand(len(latents)).to(self.dtype) / 1000,
            guidance=cond.extras.get("guidance"),
            pooled_projections=cond.pooled.to(self.dtype),
            encoder_hidden_states=prompt_embeds,
            txt_ids=latents.new_zeros(prompt_embeds.shape[1], 3),
            img_ids=image_ids(latents),
        ).sample
        return unpacked(output, latents.shape[-1])

    def _decode(self, latents: Tensor) -> Tensor:
        return decoded(self.components["vae"], latents)

    def _make_pipeline(self) -> Any:  # noqa: ANN401  (of diffusers)
        pipeline_type: Any = FluxPipeline
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
    layout = gathered(names, ENDS)
    for i in range(transformer.config.num_layers):
        layout |= gathered(names, DOUBLE, f"double_blocks.{i}.", f"transformer_blocks.{i}.")
    for i in range(transformer.config.num_single_layers):
        layout |= gathered(names, SINGLE, f"single_blocks.{i}.", f"single_transformer_blocks.{i}.")
    # the learned scales of norms have a name of their own
    scales = {name: name.replace("_norm.weight", "_norm.scale") for name in layout}
    layout = {scales[name]: original for name, original in layout.items()}
    return swapped(layout, "final_layer.adaLN_modulation.1.")


def packed(latents: Tensor) -> Tensor:
    """Latents as tokens of two by two: ``(n, c, h, w) -> (n, h/2 w/2, 4 c)``."""
    n, channels, height, width = latents.shape
    blocks = latents.view(n, channels, height // 2, 2, width // 2, 2)
    return blocks.permute(0, 2, 4, 1, 3, 5).reshape(n, height // 2 * (width // 2), channels * 4)


def unpacked(tokens: Tensor, width: int) -> Tensor:
    """The opposite of :func:`packed`, for latents of a width."""
    n, count, channels = tokens.shape
    height = 4 * count // width
    blocks = tokens.view(n, height // 2, width // 2, channels // 4, 2, 2)
    return blocks.permute(0, 3, 1, 4, 2, 5).reshape(n, channels // 4, height, width)


def image_ids(latents: Tensor) -> Tensor:
    """Row and column of each token, behind a 0: ``(tokens, 3)``."""
    rows = torch.arange(latents.shape[-2] // 2, device=latents.device)
    columns = torch.arange(latents.shape[-1] // 2, device=latents.device)
    places = torch.cartesian_prod(torch.zeros_like(rows[:1]), rows, columns)
    return places.to(latents.dtype)

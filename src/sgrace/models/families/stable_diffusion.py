"""Stable Diffusion 1.x and 2.x, of any size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from diffusers import StableDiffusionPipeline
from torch import Tensor, nn

from ..base import DiffusionModel
from ..conditioning import Conditioning, PromptSource
from ..sites import AttentionLayer, DenoiserMap
from ..text import TextEncoder, TextStack
from ._scheduler import SchedulerSchedule

NETWORKS = ("text_encoder", "unet", "vae")


def text_attention(unet: nn.Module) -> dict[str, AttentionLayer]:
    """The cross-attention layers of a UNet."""
    return {
        name: AttentionLayer(layer, layer.to_q, layer.to_k, layer.heads, layer.to_out[0].out_features)
        for name, layer in unet.named_modules()
        # diffusers' name of the attention that reads the text; attn1 reads the image itself
        if name.endswith("attn2")
    }


def prompt_embeds_of(inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
    """``encoder_hidden_states`` of a call of the UNet."""
    # by name or as the third argument: hooks see a call as it was made
    found: Tensor = named["encoder_hidden_states"] if "encoder_hidden_states" in named else inputs[2]
    return found


UNET = DenoiserMap(
    groups={
        "text_kv": lambda name: name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")),
        "text_k": lambda name: name.endswith("attn2.to_k.weight"),
        "text_v": lambda name: name.endswith("attn2.to_v.weight"),
        "text_attention": lambda name: ".attn2." in name,
        "attention": lambda name: ".attn1." in name or ".attn2." in name,
        "self_attention": lambda name: ".attn1." in name,
        "not_text_attention": lambda name: ".attn2." not in name,
        "transformer": lambda name: ".attentions." in name,
        "all": lambda _name: True,
    },
    text_attention=text_attention,
    prompt_embeds_of=prompt_embeds_of,
    shared_text_inputs=True,
)


@dataclass(kw_only=True, repr=False)
class StableDiffusion(DiffusionModel):
    """CLIP text encoder, UNet with cross-attention, autoencoder; noise or velocity."""

    family = "stable_diffusion"
    pipelines = ("StableDiffusionPipeline",)
    denoiser_component = "unet"
    denoiser_map = UNET

    @classmethod
    def from_pipeline(cls, pipeline: Any, source: str = "pipeline") -> Self:  # noqa: ANN401  (of diffusers)
        """See :meth:`DiffusionModel.from_pipeline`."""
        components = {name: getattr(pipeline, name) for name in NETWORKS}
        for module in components.values():
            module.eval().requires_grad_(False)
        encoder = TextEncoder("clip", "text_encoder", components["text_encoder"], pipeline.tokenizer)
        return cls(
            source=source,
            components=components,
            text=TextStack([encoder]),
            schedule=SchedulerSchedule(pipeline.scheduler),
            # tokenizer, scheduler and the like: needed to save the pipeline again
            parts={name: part for name, part in pipeline.components.items() if name not in NETWORKS},
            device=components["unet"].device,
            dtype=components["unet"].dtype,
        )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents."""
        config: Any = self.denoiser.config
        return config.in_channels, config.sample_size, config.sample_size

    def _encode(self, source: PromptSource) -> Conditioning:
        main = self.text.main
        tokens = source.tokens[main.name]
        output = main.run(tokens.ids, source.embeddings.get(main.name))
        # after the final norm: (batch, length, width)
        return Conditioning(output.last_hidden_state.float(), source=source)

    def _call_denoiser(self, latents: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        # of the shape of the latents: (batch, channels, height, width)
        output: Tensor = self.denoiser(latents, timesteps, cond.prompt_embeds.to(self.dtype)).sample
        return output

    def _decode(self, latents: Tensor) -> Tensor:
        vae: Any = self.components["vae"]
        # denoisers see latents scaled to about unit variance; the decoder wants its own
        decoded: Tensor = vae.decode(latents / vae.config.scaling_factor).sample
        return decoded

    def _make_pipeline(self) -> Any:  # noqa: ANN401  (of diffusers)
        pipeline_type: Any = StableDiffusionPipeline
        return pipeline_type(**self.parts, **self.components, requires_safety_checker=False)

    def save_memory(self) -> None:
        """See :meth:`DiffusionModel.save_memory`."""
        denoiser: Any = self.denoiser
        vae: Any = self.components["vae"]
        denoiser.enable_gradient_checkpointing()
        # one image at a time, and that in tiles
        vae.enable_slicing()
        vae.enable_tiling()

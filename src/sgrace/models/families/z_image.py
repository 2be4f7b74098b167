"""Z-Image, of any size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from diffusers import ZImagePipeline
from torch import Tensor, nn

from ..base import DiffusionModel
from ..conditioning import Conditioning, PromptSource
from ..needs import Need
from ..original import Layout, Original, gathered, prefixed
from ..sites import DenoiserMap
from ..text import TextEncoder
from ..text_stack import TextStack
from ._flow import SchedulerFlow
from ._joint import no_maps
from ._ldm import autoencoder
from ._networks import decoded, save_memory, taken_apart

NETWORKS = ("text_encoder", "transformer", "vae")
#: Text positions, as the pipeline has them by default.
LENGTH = 512
#: Side of the latents where the pipeline names none: those of 1024 pixels.
SAMPLE_SIZE = 128
#: What stands for the prompt while the chat template is read.
MARK = "PROMPT"
#: Modules inside an attention of the transformer in the original code -> those of diffusers in them.
ATTENTION = {"qkv": "to_q to_k to_v", "out": "to_out.0", "q_norm": "norm_q", "k_norm": "norm_k"}
#: What stands for these beginnings of names in the original code.
ENDS = {"all_final_layer.2-1.": "final_layer.", "all_x_embedder.2-1.": "x_embedder."}


def prompt_embeds_of(inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
    """The prompt embeddings of a call of the transformer, filled up with zeros to one length."""
    ragged = named["cap_feats"] if "cap_feats" in named else inputs[2]
    # a list of (length, width) -> (batch, longest, width)
    return nn.utils.rnn.pad_sequence(ragged, batch_first=True)


def before_inlet(denoiser: Any, prompt_embeds: Tensor) -> Tensor:  # noqa: ANN401  (of diffusers)
    """Prompt embeddings behind the norm that stands before the linear layer."""
    norm, _linear = denoiser.cap_embedder
    found: Tensor = norm(prompt_embeds.to(norm.weight.dtype))
    return found


def refines_text(name: str) -> bool:
    """Whether a parameter belongs to the attention among text tokens, before they meet the image."""
    return name.startswith("context_refiner.") and ".attention." in name


SINGLE = DenoiserMap(
    groups={
        "text_kv": lambda name: refines_text(name) and name.endswith(("to_k.weight", "to_v.weight")),
        "text_k": lambda name: refines_text(name) and name.endswith("to_k.weight"),
        "text_v": lambda name: refines_text(name) and name.endswith("to_v.weight"),
        "text_attention": refines_text,
        "attention": lambda name: ".attention." in name,
        "self_attention": lambda name: ".attention." in name and not refines_text(name),
        "not_text_attention": lambda name: not refines_text(name),
        "transformer": lambda name: name.startswith("layers."),
        # a norm, then the one layer through which prompt embeddings enter
        "inlet": lambda name: name.startswith("cap_embedder."),
        "all": lambda _name: True,
    },
    text_attention=no_maps,
    prompt_embeds_of=prompt_embeds_of,
    before_inlet=before_inlet,
)


@dataclass(kw_only=True, repr=False)
class ZImage(DiffusionModel):
    """A language model that reads a chat, single-stream transformer, autoencoder; flow matching.

    Prompt embeddings are the language model's states before its last layer, template included, and zeros
    behind it. The scale of classifier-free guidance counts as everywhere here: 1 is none. The pipeline counts
    from 0, one less.

    Attributes:
        sample_size: side of the latents.
    """

    family = "z_image"
    pipelines = ("ZImagePipeline",)
    denoiser_component = "transformer"
    patch_size = 2
    denoiser_map = SINGLE
    lacks = frozenset({Need.SHARED_TEXT_KV, Need.ATTENTION_MAPS, Need.DDIM})

    sample_size: int

    @classmethod
    def from_pipeline(cls, pipeline: Any, source: str = "pipeline") -> Self:  # noqa: ANN401  (of diffusers)
        """See :meth:`DiffusionModel.from_pipeline`."""
        components, parts = taken_apart(pipeline, NETWORKS)
        tokenizer = pipeline.tokenizer
        chat = [{"role": "user", "content": MARK}]
        template = tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True, enable_thinking=True
        ).replace(MARK, "{}")
        length = min(LENGTH, tokenizer.model_max_length)
        encoder = TextEncoder(
            "llm", "text_encoder", components["text_encoder"], tokenizer, template=template, max_length=length
        )
        size = int(getattr(pipeline, "default_sample_size", SAMPLE_SIZE))
        return cls(
            source=source,
            components=components,
            text=TextStack([encoder]),
            # four latents are one token
            schedule=SchedulerFlow(pipeline.scheduler, (size // 2) ** 2, even=True),
            parts=parts,
            device=pipeline.transformer.device,
            dtype=pipeline.transformer.dtype,
            sample_size=size,
        )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents."""
        config: Any = self.denoiser.config
        return config.in_channels, *(self.latent_size or (self.sample_size, self.sample_size))

    def _encode(self, source: PromptSource) -> Conditioning:
        main = self.text.main
        tokens = source.tokens[main.name]
        places = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)
        # what is read: all but the padding (batch, length)
        mask = places < tokens.end[:, None] + len(main.frame.after)
        output = self._run(main, source, attention_mask=mask, output_hidden_states=True)
        prompt_embeds = output.hidden_states[-2].float() * mask.unsqueeze(-1)
        return Conditioning(prompt_embeds, extras={"mask": mask}, source=source)

    def _call_denoiser(self, latents: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        # each prompt in its own length: (batch, length, width) -> a list of (tokens, width)
        prompts = [
            own[mask]
            for own, mask in zip(cond.prompt_embeds.to(self.dtype), cond.extras["mask"], strict=True)
        ]
        # one frame a sample: (batch, channels, height, width) -> a list of (channels, 1, height, width)
        images = list(latents.unsqueeze(2).unbind())
        # 0 is noise and 1 is clean
        clean = (1000 - timesteps.expand(len(latents))) / 1000
        output: list[Tensor] = self.denoiser(images, clean, prompts).sample
        # the network returns the velocity towards the clean image
        return -torch.stack(output).squeeze(2)

    def _decode(self, latents: Tensor) -> Tensor:
        return decoded(self.components["vae"], latents)

    def _make_pipeline(self) -> Any:  # noqa: ANN401  (of diffusers)
        pipeline_type: Any = ZImagePipeline
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


def transformer_layout(transformer: nn.Module) -> dict[str, Original]:
    """The original layout of the transformer: queries, keys and values are one matrix."""
    names = list(transformer.state_dict())
    layout: dict[str, Original] = {}
    for home in dict.fromkeys(name.partition(".attention.")[0] for name in names if ".attention." in name):
        layout |= gathered(names, ATTENTION, f"{home}.attention.", f"{home}.attention.")
    for name in [name for name in names if ".attention." not in name]:
        start = next((start for start in ENDS if name.startswith(start)), "")
        layout[ENDS.get(start, "") + name.removeprefix(start)] = Original((name,))
    return layout

"""Real pipelines of small size with random weights, one for each family of models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from sgrace.models import DiffusionModel
from sgrace.models.loading import known_pipelines
from sgrace.models.needs import LACKS_IN
from sgrace.models.original import to_original

from .conftest import tiny_pipeline, tiny_tokenizer
from .small_text import (
    LLM_LENGTH,
    T5_LENGTH,
    T5_WIDTH,
    clip,
    llm,
    llm_tokenizer,
    padded_otherwise,
    t5,
    t5_tokenizer,
)


def autoencoder(**options: Any) -> AutoencoderKL:
    """An autoencoder of a quarter of the image's side."""
    return AutoencoderKL(
        block_out_channels=(4, 8, 8),
        latent_channels=4,
        norm_num_groups=2,
        scaling_factor=0.7,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        **options,
    )


def stable_diffusion_xl(*, zero_uncond: bool = True) -> StableDiffusionXLPipeline:
    """Two text encoders of different widths, and the sizes among the denoiser's inputs."""
    torch.manual_seed(0)
    tokenizers = [tiny_tokenizer(), padded_otherwise()]
    unet = UNet2DConditionModel(
        sample_size=4,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=24 + 16,
        attention_head_dim=2,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=12 + 6 * 4,
    )
    return StableDiffusionXLPipeline(
        vae=autoencoder(),
        text_encoder=clip(CLIPTextModel, tokenizers[0], 24),
        text_encoder_2=clip(CLIPTextModelWithProjection, tokenizers[1], 16),
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=unet,
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        force_zeros_for_empty_prompt=zero_uncond,
    )


def stable_diffusion_3(*, with_t5: bool = True) -> StableDiffusion3Pipeline:
    """As 3.5: with a second attention in the first block and norms of queries and keys."""
    torch.manual_seed(0)
    tokenizers = [tiny_tokenizer(), padded_otherwise()]
    last = t5_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=4,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=T5_WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=2 * 12,
        pos_embed_max_size=4,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip(CLIPTextModelWithProjection, tokenizers[0], 12),
        tokenizer=tokenizers[0],
        text_encoder_2=clip(CLIPTextModelWithProjection, tokenizers[1], 16),
        tokenizer_2=tokenizers[1],
        text_encoder_3=t5(last) if with_t5 else None,
        tokenizer_3=last if with_t5 else None,
    )


def flux(*, guidance: bool = True) -> FluxPipeline:
    """Dev, with a guidance embedding and levels shifted by the image's size, or schnell, with neither."""
    torch.manual_seed(0)
    first = tiny_tokenizer()
    second = t5_tokenizer()
    transformer = FluxTransformer2DModel(
        in_channels=4 * 4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=T5_WIDTH,
        pooled_projection_dim=24,
        guidance_embeds=guidance,
        axes_dims_rope=(2, 2, 4),
    )
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=guidance),
        vae=autoencoder(shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip(CLIPTextModel, first, 24),
        tokenizer=first,
        text_encoder_2=t5(second),
        tokenizer_2=second,
        transformer=transformer,
    )
    return sized(pipeline)


def z_image() -> ZImagePipeline:
    """A language model and a single stream."""
    torch.manual_seed(0)
    tokenizer = llm_tokenizer()
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=4,
        n_kv_heads=4,
        cap_feat_dim=16,
        axes_dims=[4, 2, 2],
        axes_lens=[128, 16, 16],
    )
    pipeline = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=llm(tokenizer),
        tokenizer=tokenizer,
        transformer=transformer,
    )
    return sized(pipeline)


def sized(pipeline: Any) -> Any:
    """The pipeline with images of 16 pixels, where neither its class nor its networks name a small size."""
    pipeline.default_sample_size = 4
    return pipeline


#: Family -> its small pipeline.
PIPELINES: dict[str, Callable[[], Any]] = {
    "stable_diffusion": tiny_pipeline,
    "stable_diffusion_xl": stable_diffusion_xl,
    "stable_diffusion_3": stable_diffusion_3,
    "flux": flux,
    "z_image": z_image,
}
#: What the pipelines must be told to read as many positions as the small encoders have.
TOLD: dict[str, dict[str, Any]] = {
    "stable_diffusion_3": {"max_sequence_length": T5_LENGTH},
    "flux": {"max_sequence_length": T5_LENGTH},
    "z_image": {"max_sequence_length": LLM_LENGTH},
}


def wrapped(pipeline: Any) -> DiffusionModel:
    """The model of a pipeline, without progress bars."""
    model = known_pipelines()[type(pipeline).__name__].from_pipeline(pipeline)
    model.set_progress_bar_config(disable=True)
    return model


def model_of(family: str) -> DiffusionModel:
    """The small model of a family."""
    return wrapped(PIPELINES[family]())


@cache
def shared(family: str, dtype: torch.dtype = torch.float32) -> DiffusionModel:
    """The same, made once for all tests that leave it as it is."""
    return model_of(family).to(dtype=dtype)


def precision_of_run(plugin: Any, family: str, turn: int) -> torch.dtype:
    """One of the precisions in which something runs on a family, so that tests take them in turn."""
    kind = type(shared(family))
    able = [dtype for dtype in LACKS_IN if not plugin.refusal(kind, dtype)]
    return able[(turn + list(PIPELINES).index(family)) % len(able)] if able else torch.float32


def original_layout(pipeline: Any) -> dict[str, torch.Tensor]:
    """The weights of a pipeline by the names of the code that trained it, as one file has them."""
    model = wrapped(pipeline)
    tensors: dict[str, torch.Tensor] = {}
    for component, layout in model.original_layouts().items():
        tensors |= to_original(model.components[component].state_dict(), layout)
    return {name: value.contiguous() for name, value in tensors.items()}


def drawn(
    pipeline: Any, model: DiffusionModel, prompts: Sequence[str], seeds: Sequence[int], **options: Any
) -> torch.Tensor:
    """Images by a pipeline of diffusers alone, in -1..1, with the settings that ``generate`` was given."""
    pipeline.set_progress_bar_config(disable=True)
    given = {"height": 16, "width": 16, **TOLD.get(model.family, {}), **options}
    if model.family == "z_image":  # this pipeline counts guidance from 0
        given["guidance_scale"] -= 1
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    found = pipeline(list(prompts), generator=generators, output_type="pt", **given)
    images: torch.Tensor = found.images * 2 - 1
    return images

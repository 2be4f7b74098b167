"""Models of full size with random weights, for benchmarks: on disk in bfloat16, or counted on paper.

python benchmarks/full_size_models.py    prints the size of FLUX.1's networks
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from transformers import T5Tokenizer

from sgrace.models.families._networks import AUTOENCODER, CLIP_L
from sgrace.models.families._single_file import clip_tokenizer
from sgrace.models.families.stable_diffusion import VERSION_1
from sgrace.models.families.stable_diffusion_xl import BASE
from sgrace.models.single_file import SingleFile

T5_XXL: dict[str, Any] = {
    "_class_name": "T5EncoderModel",
    "d_model": 4096,
    "d_ff": 10240,
    "d_kv": 64,
    "num_layers": 24,
    "num_heads": 64,
    "vocab_size": 32128,
    "feed_forward_proj": "gated-gelu",
}
MEDIUM = SingleFile(
    pipeline="StableDiffusion3Pipeline",
    networks={
        "text_encoder": {**CLIP_L, "_class_name": "CLIPTextModelWithProjection"},
        "text_encoder_2": BASE.networks["text_encoder_2"],
        "text_encoder_3": T5_XXL,
        "transformer": {
            "_class_name": "SD3Transformer2DModel",
            "sample_size": 32,
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": 24,
            "attention_head_dim": 64,
            "num_attention_heads": 24,
            "joint_attention_dim": 4096,
            "caption_projection_dim": 1536,
            "pooled_projection_dim": 2048,
            "pos_embed_max_size": 192,
        },
        "vae": {
            **AUTOENCODER,
            "latent_channels": 16,
            "sample_size": 1024,
            "scaling_factor": 1.5305,
            "shift_factor": 0.0609,
        },
    },
    scheduler={"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0},
    tokenizers={"tokenizer": "<|endoftext|>", "tokenizer_2": "!"},
)


def with_unet(single: SingleFile, options: Mapping[str, Any]) -> SingleFile:
    """A configuration with other options of the UNet."""
    return replace(single, networks={**single.networks, "unet": {**single.networks["unet"], **options}})


MODELS = {
    "small": with_unet(VERSION_1, {"sample_size": 8, "block_out_channels": [32, 32, 64, 64]}),
    # 256 pixels: a CPU has the time for them, and weights take the same memory
    "sd14": with_unet(VERSION_1, {"sample_size": 32}),
    "sdxl": with_unet(BASE, {"sample_size": 32}),
    "sd3": MEDIUM,
}
#: FLUX.1 dev, which is counted only.
FLUX: dict[str, dict[str, Any]] = {
    "transformer": {"_class_name": "FluxTransformer2DModel", "guidance_embeds": True},
    "text_encoder_2": T5_XXL,
    "text_encoder": CLIP_L,
    "vae": {**AUTOENCODER, "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False},
}


def shapes_of(config: Mapping[str, Any]) -> Any:  # noqa: ANN401  (of diffusers or transformers)
    """A network without values."""
    name = config["_class_name"]
    with torch.device("meta"):
        if hasattr(diffusers, name):
            return getattr(diffusers, name).from_config(dict(config))
        kind = getattr(transformers, name)
        return kind(kind.config_class.from_dict(dict(config)))


def network_of(config: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """A network with random weights in bfloat16, of which no float32 copy was ever made."""
    network = shapes_of(config).to(torch.bfloat16).to_empty(device="cpu")
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            # norms keep their scale, so that no layer's output grows from layer to layer
            is_norm = value.ndim == 1 and key.endswith("weight")
            value.fill_(1.0) if is_norm else value.normal_(std=0.02)
    return network


def t5_tokenizer() -> T5Tokenizer:
    """Letters, and as many unused pieces as T5's own vocabulary has more."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    pieces += [(chr(code), -5.0) for code in range(ord("a"), ord("z") + 1)]
    pieces += [(f"<unused{i}>", -9.0) for i in range(32_000 - len(pieces))]
    return T5Tokenizer(vocab=pieces, model_max_length=77)


def build(single: SingleFile, folder: Path) -> None:
    """The folder of a pipeline with random weights."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    single.write(folder)
    index = json.loads((folder / "model_index.json").read_text())
    for component, padding in single.tokenizers.items():
        clip_tokenizer(padding).save_pretrained(folder / component)
    for component, config in single.networks.items():
        if config["_class_name"] == "T5EncoderModel":
            index |= {component: ["transformers", "T5EncoderModel"]}
            index |= {"tokenizer_3": ["transformers", "T5Tokenizer"]}
            t5_tokenizer().save_pretrained(folder / "tokenizer_3")
        network_of(config).save_pretrained(folder / component)
    (folder / "model_index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    counts = {name: sum(p.numel() for p in shapes_of(config).parameters()) for name, config in FLUX.items()}
    for name, n in counts.items():
        print(f"{name}: {n / 1e9:.2f} billion parameters, {2 * n / 1e9:.1f} GB in bfloat16")
    print(f"all: {2 * sum(counts.values()) / 1e9:.1f} GB")

"""S-GRACE at the full size of Stable Diffusion 1.4, with random weights: seconds per step and peak memory.

    python benchmarks/full_size.py [--samples 2] [--attack-steps 2] [--edit-steps 5]

Random weights cost what real ones cost; the pictures would be noise, so none is made.
"""

from __future__ import annotations

import argparse
import json

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sgrace.concept import Concept
from sgrace.erasers.sgrace.config import SGraceConfig
from sgrace.erasers.sgrace.eraser import SGrace
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion


def stable_diffusion_1(seed: int = 0) -> StableDiffusionPipeline:
    """The architecture of SD 1.4 in fp32: 860 M parameters in the UNet, 123 M in the text encoder."""
    torch.manual_seed(seed)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters)]
    words += [f"<unused{i}>" for i in range(49_406 - len(words))]
    vocab = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)
    text = CLIPTextConfig(
        vocab_size=49_408,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=77,
        bos_token_id=49_406,
        eos_token_id=49_407,
        pad_token_id=49_407,
    )
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
    )
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
        set_alpha_to_one=False,
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def main() -> None:
    """One attack step and a few edit steps; prints JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=2, help="adversarial samples")
    parser.add_argument("--attack-steps", type=int, default=2)
    parser.add_argument("--edit-steps", type=int, default=5)
    arguments = parser.parse_args()
    model = StableDiffusion.from_pipeline(stable_diffusion_1())
    words = Knowledge(
        source="timing",
        related=("knife", "sword"),
        unrelated=("cat", "dog", "house"),
        contexts=("a picture of a {}",),
    )
    config = SGraceConfig(
        rounds=1,
        attack_steps=arguments.attack_steps,
        edit_steps=arguments.edit_steps,
        n_adversarial=arguments.samples,
        surrogate="cat",
        num_inference_steps=20,
        timestep_low=949,
        timestep_high=950,
    )
    recipe = SGrace(config).erase(model, [Concept.parse("weapon")], [words]).recipe
    seconds = recipe["seconds_by_phase"]
    print(
        json.dumps(
            {
                "threads": torch.get_num_threads(),
                "unet_parameters": sum(p.numel() for p in model.pipeline.unet.parameters()),
                "adversarial_samples": arguments.samples,
                "seconds_per_attack_step": round(seconds["attack"] / arguments.attack_steps, 2),
                "seconds_per_edit_step": round(seconds["edit"] / arguments.edit_steps, 2),
                "prompts_per_edit_step": arguments.samples + config.n_anchors,
                "seconds_for_constants": seconds["constants"],
                "unet_rows": recipe["cost"]["unet_rows"],
                "peak_memory_mb": recipe["peak_memory_mb"],
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()

"""S-GRACE at the full size of Stable Diffusion 1.4, with random weights: seconds of a step and peak memory.

    python benchmarks/full_size.py [--samples 2] [--batch-size 1] [--attack-steps 2] [--edit-steps 5]
        [--device auto] [--dtype auto] [--size small]

Random weights cost what real ones cost; the images would be noise, so none is made. The attack phase holds
the denoiser's activations for a gradient: it is what decides the peak. Memory is that of the process, and of
the device where there is one. ``--size small`` is a model of a few seconds, to try the script.
"""

from __future__ import annotations

import argparse
import json
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sgrace._util.device import choose_device, choose_dtype
from sgrace._util.provenance import device_memory_mb, peak_memory_mb
from sgrace.concept import Concept
from sgrace.erasers.sgrace.config import SGraceConfig
from sgrace.erasers.sgrace.eraser import SGrace
from sgrace.erasure import Recipe
from sgrace.knowledge import Knowledge, Target
from sgrace.models import DiffusionModel
from sgrace.models.families.stable_diffusion import StableDiffusion

WORDS = Knowledge(
    source="timing",
    related=("knife", "sword"),
    unrelated=("cat", "dog", "house"),
    contexts=("a picture of a {}",),
)


class Size(NamedTuple):
    """Widths of the networks, number of the text encoder's layers, and side of the latents."""

    denoiser: tuple[int, int, int, int]
    autoencoder: tuple[int, int, int, int]
    text: int
    text_layers: int
    latents: int


#: ``full``: a UNet of 860 M parameters and the text encoder of CLIP ViT-L/14 of 123 M.
SIZES = {
    "full": Size((320, 640, 1280, 1280), (128, 256, 512, 512), 768, 12, 64),
    "small": Size((32, 32, 64, 64), (32, 32, 32, 32), 48, 2, 16),
}


def stable_diffusion_1(size: Size, seed: int = 0) -> StableDiffusionPipeline:
    """The architecture of Stable Diffusion 1.4."""
    torch.manual_seed(seed)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters)]
    words += [f"<unused{i}>" for i in range(49_406 - len(words))]
    vocab = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)
    text = CLIPTextConfig(
        vocab_size=49_408,
        hidden_size=size.text,
        intermediate_size=4 * size.text,
        num_hidden_layers=size.text_layers,
        num_attention_heads=12,
        max_position_embeddings=77,
        bos_token_id=49_406,
        eos_token_id=49_407,
        pad_token_id=49_407,
    )
    unet = UNet2DConditionModel(
        sample_size=size.latents,
        cross_attention_dim=size.text,
        attention_head_dim=8,
        block_out_channels=size.denoiser,
    )
    vae = AutoencoderKL(
        block_out_channels=size.autoencoder,
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


def erase(model: DiffusionModel, samples: int, attack_steps: int, edit_steps: int) -> Recipe:
    """One round of S-GRACE, whose partial samples stop after their first step."""
    config = SGraceConfig(
        rounds=1,
        attack_steps=attack_steps,
        edit_steps=edit_steps,
        n_adversarial=samples,
        replacement="cat",
        num_inference_steps=20,
        timestep_low=0.949,
        timestep_high=0.951,
    )
    return SGrace(config).erase(model, [Target(Concept.parse("weapon"), WORDS)]).recipe


def main() -> None:
    """A few attack steps, then a few edit steps; prints JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--samples", type=int, default=2, help="adversarial samples; half of them are attacked"
    )
    parser.add_argument("--batch-size", type=int, default=32, help="samples that are attacked together")
    parser.add_argument("--attack-steps", type=int, default=2)
    parser.add_argument("--edit-steps", type=int, default=5)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    parser.add_argument("--dtype", default="auto", help="auto, float32, float16 or bfloat16")
    parser.add_argument("--size", choices=SIZES, default="full")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    model = StableDiffusion.from_pipeline(stable_diffusion_1(SIZES[arguments.size]))
    model.to(device, choose_dtype(arguments.dtype, device))
    model.batch_size = arguments.batch_size
    memory = {"loaded": [peak_memory_mb(), device_memory_mb(device)]}
    # peaks only grow, so the phase with the smaller one comes last
    attack = erase(model, arguments.samples, arguments.attack_steps, 0)
    memory["attack"] = [peak_memory_mb(), device_memory_mb(device)]
    edit = erase(model, arguments.samples, 0, arguments.edit_steps)
    memory["all"] = [peak_memory_mb(), device_memory_mb(device)]
    seconds = {"attack": attack.details["seconds_by_phase"], "edit": edit.details["seconds_by_phase"]}
    found = {
        "threads": torch.get_num_threads(),
        "device": str(device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "denoiser_parameters": sum(p.numel() for p in model.denoiser.parameters()),
        "adversarial_samples": arguments.samples,
        "batch_size": arguments.batch_size,
        "seconds_per_attack_step": round(seconds["attack"]["attack"] / max(arguments.attack_steps, 1), 2),
        "seconds_per_edit_step": round(seconds["edit"]["edit"] / max(arguments.edit_steps, 1), 2),
        "prompts_per_edit_step": arguments.samples + SGraceConfig().n_retain,
        "seconds_for_constants": seconds["attack"]["constants"],
        "denoiser_rows": attack.cost.denoiser_rows,
    }
    for phase, (process, on_device) in memory.items():
        found[f"peak_memory_mb_{phase}"] = process
        found[f"device_memory_mb_{phase}"] = on_device
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

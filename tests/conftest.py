"""A real Stable Diffusion pipeline of other sizes than any known one, with random weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from jaxtyping import install_import_hook
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import typecheck

install_import_hook("sgrace", f"{typecheck.__name__}.checked")  # before anything of the package is imported

from sgrace.knowledge import Knowledge  # noqa: E402
from sgrace.models.families.stable_diffusion import StableDiffusion  # noqa: E402

#: Files with tests of minutes, the longest first. They start in this order, so that no process works alone at
#: the end.
LONG = (
    "test_builtin.py",
    "test_devices.py",
    "test_contract.py",
    "test_page_commands.py",
    "test_gold.py",
    "test_ray.py",
    "test_kills.py",
    "test_batches.py",
    "test_golden.py",
    "test_site.py",
    "test_examples.py",
    "test_erase.py",
    "test_sgrace_stages.py",
    "test_samplers.py",
    "test_sgrace.py",
    "test_attack.py",
    "test_evaluation.py",
    "test_run.py",
    "test_formats.py",
    "test_families.py",
    "test_recipe.py",
    "test_in_browser.py",
    "test_stereo.py",
)


#: A property of a test's report: how many hostile inputs it tried, in words.
HOSTILE = "hostile inputs"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many hostile inputs were tried, also where several processes ran the tests."""
    passed = terminalreporter.stats.get("passed", [])
    told = [words for report in passed for name, words in report.user_properties if name == HOSTILE]
    if told:
        terminalreporter.section(f"{sum(int(words.split()[0]) for words in told)} {HOSTILE}")
        terminalreporter.write_line("\n".join(sorted(told)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


WORDS = [
    "church",
    "chapel",
    "house",
    "dog",
    "tree",
    "boat",
    "a",
    "of",
    "photo",
    "picture",
    "an",
    "image",
    ",",
]


def tiny_tokenizer() -> CLIPTokenizer:
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + [","]
    vocab = [*letters, *(f"{c}</w>" for c in letters)]
    merges: list[Any] = []  # pairs, which transformers reads and does not name
    for word in WORDS:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            pair = (pieces[0], pieces[1])
            if pair not in merges:
                merges.append(pair)
                vocab.append("".join(pair))
            pieces = ["".join(pair), *pieces[2:]]
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={w: i for i, w in enumerate(dict.fromkeys(vocab))}, merges=merges, model_max_length=20
    )


def tiny_pipeline(prediction_type: str = "epsilon") -> StableDiffusionPipeline:
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=20,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    encoder: Any = CLIPTextModel(text)  # transformers gives its methods the types of tensors
    with torch.no_grad():
        encoder.get_input_embeddings().weight.mul_(30)  # random words must differ as much as learned ones do
    unet = UNet2DConditionModel(
        sample_size=4,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=24,
        attention_head_dim=2,
    )
    vae = AutoencoderKL(
        block_out_channels=(4, 8, 8),
        latent_channels=3,
        norm_num_groups=2,
        scaling_factor=0.7,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
    )
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", prediction_type=prediction_type, clip_sample=False, steps_offset=1
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.fixture(params=["epsilon", "v_prediction"])
def model(request: pytest.FixtureRequest) -> StableDiffusion:
    adapter = StableDiffusion.from_pipeline(tiny_pipeline(request.param))
    adapter.set_progress_bar_config(disable=True)
    return adapter


@pytest.fixture
def words() -> Knowledge:
    return Knowledge(
        source="test",
        related=("chapel",),
        unrelated=("dog", "tree", "boat", "house"),
        replacements=("house", "boat"),
    )

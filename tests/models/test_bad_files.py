"""Corrupted and hostile files are refused as `docs/security.md` says; nothing runs, and nothing changes.

``python -m tests.models.test_bad_files`` prints the rows of the document.
"""

from __future__ import annotations

import re
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

import sgrace
from sgrace._util.errors import InputError

from ..cli.conftest import assert_refused
from ..cli.conftest import sgrace as run
from ..conftest import tiny_pipeline
from ..erasure.made import of_denoiser
from . import bad_files as bad
from .bad_files import (
    TEXT,
    TOKENIZER,
    UNET,
    VAE,
    Tamper,
    content,
    entry,
    first,
    is_row,
    part,
    rows,
    single_file,
)

#: Section of the document -> what was tried, as it says there, and how.
SECTIONS: dict[str, dict[str, Tamper]] = {
    "Files of weights": {
        "header of 2^62 bytes": content(struct.pack("<Q", 2**62) + b"{}"),
        "header longer than the file": content(struct.pack("<Q", 10**6) + b"{}"),
        "header that is no JSON": content(struct.pack("<Q", 4) + b"abcd"),
        "overlapping tensors": bad.header(bad.overlap),
        "tensor behind the end of the file": entry(data_offsets=[0, 2**60]),
        "negative size": entry(shape=[-8]),
        "unknown precision": entry(dtype="Q7"),
        "file that is cut off": bad.cut_off,
        "empty file": content(b""),
        "link to another file": bad.link,
        "whole numbers": first(lambda tensor: tensor.int()),
        "complex numbers": first(lambda tensor: tensor.to(torch.complex64)),
        "8-bit floating point": first(lambda tensor: tensor.to(torch.float8_e4m3fn)),
        "NaN": bad.filled(torch.nan),
        "infinity in the text encoder": bad.filled(torch.inf, TEXT),
        "1,000,000, loaded in half precision": bad.too_large_for_half,
        "tensor of another shape": first(lambda _tensor: torch.zeros(3)),
        "tensor of another shape in the text encoder": first(lambda _tensor: torch.zeros(3, 24), TEXT),
        "UNet that lacks a tensor": bad.without_first(UNET),
        "autoencoder that lacks a tensor": bad.without_first(VAE),
        "text encoder that lacks a tensor": bad.without_first(TEXT),
        "pickle renamed to safetensors": bad.bare_pickle,
        "file of torch renamed to safetensors": bad.zipped_pickle,
        "pickle in the place of safetensors": bad.pickles_only,
        "shards in another folder": bad.shards("../../etc/passwd"),
        "shards that are pickles": bad.shards("evil.bin"),
        "named pipe among them": bad.named_pipe,
        "text projection of another width": bad.projection,
    },
    "Settings": {
        "class of the folder's own": bad.own_class,
        "module named like a library": bad.module_like_a_library,
        "module of Python in the place of a library": bad.index(unet=["os", "system"]),
        "entry that names no class": bad.index(unet="UNet"),
        "pipeline of an unknown class": bad.index(_class_name="EvilPipeline"),
        "class of the folder's own by auto_map": bad.auto_map,
        "the same for a tokenizer": bad.settings(TOKENIZER, auto_map={"AutoTokenizer": "evil.Tokenizer"}),
        "trust_remote_code": bad.text(trust_remote_code=True),
        "attention by a kernel of the hub": bad.text(attn_implementation="owner/kernel"),
        "adapter that names another model": bad.other_model,
        "quantised weights": bad.text(quantization_config={"quant_method": "gptq", "bits": 4}),
        "index that is no JSON": content(b"{", "model_index.json"),
        "index that is a list": content(b"[1]", "model_index.json"),
        "index of 65 MB": content(b" " * 65 * 2**20, "model_index.json"),
        "settings that are no JSON": content(b"nope", "unet/config.json"),
        "settings that are a list": content(b"[1]", "unet/config.json"),
        "settings nested 100,000 deep": content(b"[" * 100_000, "unet/config.json"),
        "10^9 layers": bad.text(num_hidden_layers=10**9),
        "100,000 layers": bad.text(num_hidden_layers=100_000),
        "100,000 layers in each block": bad.unet(layers_per_block=100_000),
        "10^12 channels": bad.unet(block_out_channels=[10**12, 16]),
        "500,000 channels": bad.unet(block_out_channels=[500_000, 500_000]),
        "no channels": bad.unet(block_out_channels=[0, 0]),
        "latents of 10^12": bad.unet(sample_size=10**12),
        "no latents": bad.unet(sample_size=0),
        "text for the size of latents": bad.unet(sample_size="x"),
        "no size of latents": bad.unet(sample_size=None),
        "10^12 noise levels": bad.scheduler(num_train_timesteps=10**12),
        "fewer than no noise levels": bad.scheduler(num_train_timesteps=-5),
        "text for a number": bad.scheduler(beta_end="high"),
        "unknown prediction": bad.scheduler(prediction_type="evil"),
        "tokenizer that is no JSON": content(b'{"a":', "tokenizer/tokenizer.json"),
        "tokenizer without a vocabulary": content(b'{"model": 5}', "tokenizer/tokenizer.json"),
        "tokenizer without files": bad.no_tokenizer_files,
        "tokenizer without a padding token": bad.settings(TOKENIZER, pad_token=None),
        "tokenizer that is left out": bad.index(tokenizer=[None, None]),
        "scheduler that is left out": bad.index(scheduler=[None, None]),
    },
    "Parts that do not belong together": {
        "text encoder that does not fit the denoiser": bad.other_denoiser,
        "autoencoder that does not fit the denoiser": bad.other_autoencoder,
        "autoencoder in the place of the denoiser": bad.other_class,
        "part that is not there": bad.without_folder,
        "tokenizer with more words than the table, and a prompt with one of them": bad.more_words,
        "`--text-encoder` of another width": bad.narrow_text_encoder,
        "`--text-encoder` in one file that lacks tensors": part("text_encoder", bad.half_a_text_encoder),
        "`--denoiser` that is an autoencoder": lambda folder: {"denoiser": str(folder / "vae")},
        "`--denoiser` of another shape": part("denoiser", lambda: bad.conv_in(5, 0.0)),
        "`--denoiser` of an endless shape": bad.endless("conv_in.weight", "denoiser"),
        "`--denoiser` of NaN": part("denoiser", lambda: bad.conv_in(3, torch.nan)),
        "`--lora` of another base": part("loras", lambda: bad.lora(width=40)),
        "`--lora` of another family": part("loras", bad.lora_of_another_family),
        "`--lora` of NaN": part("loras", lambda: bad.lora(width=24, value=torch.nan)),
        "`--lora` that lacks the first matrix of a layer": part("loras", bad.half_a_lora("lora_B")),
        "`--lora` that lacks the second one": part("loras", bad.half_a_lora("lora_A")),
        "`--lora` that is a pickle": bad.pickled_lora,
        "`--embedding` of another base": part("embeddings", lambda: {"<cat>": torch.zeros(1, 768)}),
        "`--embedding` without tensors": part("embeddings", dict),
        "`--embedding` of one number": part("embeddings", lambda: {"<cat>": torch.zeros(())}),
        "`--embedding` of no vectors": part("embeddings", lambda: {"<cat>": torch.zeros(0, 24)}),
        "`--embedding` of a table of vectors": part("embeddings", lambda: {"<cat>": torch.zeros(1, 2, 24)}),
        "`--embedding` of whole numbers": part("embeddings", lambda: {"<cat>": torch.zeros(1, 24).int()}),
        "checkpoint of SDXL with a configuration of SD 1": single_file(
            bad.of_family("stable_diffusion_xl"), with_config=True
        ),
        "checkpoint of FLUX without a configuration": single_file(bad.of_family("flux")),
        "checkpoint of flat tensors": single_file(bad.flat_checkpoint),
        "checkpoint of an endless shape": bad.endless(
            "model.diffusion_model.input_blocks.0.0.weight", "name"
        ),
        "checkpoint that is a LoRA": single_file(lambda: bad.lora(width=24)),
        "checkpoint with NaN": single_file(bad.checkpoint_with_nan, with_config=True),
        "checkpoint with a configuration that brings code": bad.hostile_config,
    },
}
CASES = {name: tamper for section in SECTIONS.values() for name, tamper in section.items()}
#: Of a case that loads, and is refused where it is used.
PROMPT = "church <extra>"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good") / "pipeline"
    tiny_pipeline().save_pretrained(folder)
    return folder


def tampered(base: Path, home: Path, name: str) -> dict[str, Any]:
    """A copy of the pipeline in a new folder with something done to it, as options of the loader."""
    folder = home / "pipeline"
    shutil.copytree(base, folder)
    return {"name": folder, "device": "cpu", **(CASES[name](folder) or {})}


def refusal(options: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        sgrace.load_model(**options).encode([PROMPT])
    return str(caught.value)


def contents(folder: Path) -> dict[Path, bytes | None]:
    """Everything in a folder, with the content of its files."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_as_the_document_says(base: Path, tmp_path: Path, name: str) -> None:
    options = tampered(base, tmp_path, name)
    before = contents(tmp_path)
    said = refusal(options)
    documented = {name: row for section in SECTIONS for name, row in rows()[section].items()}
    assert is_row(documented[name], said), said
    assert "\n" not in said
    assert not re.search(r"[.!?] [A-Z]", said), "one sentence"
    assert contents(tmp_path) == before, "nothing ran, and nothing was written"


def test_the_document_has_every_case_and_no_other() -> None:
    assert {section: list(found) for section, found in rows().items() if section in SECTIONS} == {
        section: list(cases) for section, cases in SECTIONS.items()
    }


@pytest.mark.parametrize("command", ["erase", "generate", "attack", "evaluate", "export", "convert"])
def test_every_command_refuses_them(base: Path, tmp_path: Path, command: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    of_denoiser(sgrace.load_model(base, device="cpu")).save_pretrained(home / "safe")
    (home / "words.txt").write_text("church\nchapel\n\ndog, tree\nboat, house\n")
    (home / "prompts.csv").write_text("seed,prompt\n5,a photo of church\n")
    model = tampered(base, home, "file of torch renamed to safetensors")["name"]
    judged = ["--concept", "church", "--prompts", home / "prompts.csv", "--detector", "always"]
    given: dict[str, list[Any]] = {
        "erase": ["church", "--model", model, "--words", home / "words.txt"],
        "generate": ["church", "--model", model],
        "attack": [model, *judged, "--words", home / "words.txt"],
        "evaluate": [model, *judged, "--words", home / "words.txt"],
        "export": [home / "safe", "--base", model, "--format", "diffusers"],
        "convert": [model],
    }
    before = contents(tmp_path)
    message = (
        "holds more than tensors" if command == "convert" else "is a pickle, and reading one can run any"
    )
    assert_refused(run(command, *given[command], "-o", tmp_path / "out"), message)
    assert contents(tmp_path) == before


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        good = Path(place) / "good"
        tiny_pipeline().save_pretrained(good)
        for section, cases in SECTIONS.items():
            print(f"\n## {section}\n")
            for number, name in enumerate(cases):
                home = Path(place) / f"{section} {number}"
                said = refusal(tampered(good, home, name))
                print(f"| {name} | {said.replace(str(home), '…')} |")

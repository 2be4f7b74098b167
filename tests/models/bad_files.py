"""Corrupted and hostile files: what is done to a good pipeline's folder, as a test names it."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ..conftest import tiny_pipeline
from ..families import PIPELINES, autoencoder, original_layout
from .test_pickles import Evil

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
#: A tampered folder -> how it is loaded: options of the loader, where ``name`` is another source.
Tamper = Callable[[Path], dict[str, Any] | None]

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
TOKENIZER = "tokenizer/tokenizer_config.json"
#: What hostile code would make, beside the folder.
TRAP = "trap"


def rows() -> dict[str, dict[str, str]]:
    """Section of the document -> what was tried -> what is said."""
    sections = re.split(r"^## ", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found = {}
    for section in sections:
        lines = re.findall(r"^\| (.+?) \| (.+) \|$", section, re.MULTILINE)
        found[section.partition("\n")[0]] = dict(lines[1:])  # the first is the head
    return found


def is_row(row: str, said: str) -> bool:
    """Whether a sentence is the one of the document, whose dots stand for what differs."""
    return re.fullmatch(".+".join(map(re.escape, row.split("…"))), said) is not None


def evil(folder: Path) -> Evil:
    return Evil(folder.parent / TRAP)


# -- weights -------------------------------------------------------------------------------------------------


def content(data: bytes, file: str = UNET) -> Tamper:
    def tamper(folder: Path) -> None:
        (folder / file).write_bytes(data)

    return tamper


def header(change: Callable[[dict[str, Any]], object]) -> Tamper:
    """Other entries in the header of the UNet's file, as its first two tensors are described."""

    def tamper(folder: Path) -> None:
        raw = (folder / UNET).read_bytes()
        end = 8 + struct.unpack("<Q", raw[:8])[0]
        entries = json.loads(raw[8:end])
        change(entries)
        text = json.dumps(entries).encode()
        (folder / UNET).write_bytes(struct.pack("<Q", len(text)) + text + raw[end:])

    return tamper


def overlap(entries: dict[str, Any]) -> None:
    one, other = sorted(entries.keys() - {"__metadata__"})[:2]
    entries[one]["data_offsets"] = entries[other]["data_offsets"]


def entry(**values: Any) -> Tamper:
    return header(lambda entries: entries["conv_in.bias"].update(values))


def tensors(change: Callable[[dict[str, Any]], object], file: str = UNET) -> Tamper:
    def tamper(folder: Path) -> None:
        found = load_file(folder / file)
        change(found)
        save_file(found, folder / file, {"format": "pt"})

    return tamper


def first(value: Callable[[torch.Tensor], torch.Tensor], file: str = UNET) -> Tamper:
    """Another value in the place of the first tensor by name."""
    return tensors(lambda found: found.update({min(found): value(found[min(found)])}), file)


def without_first(file: str) -> Tamper:
    return tensors(lambda found: found.pop(min(found)), file)


def filled(value: float, file: str = UNET) -> Tamper:
    return first(lambda tensor: torch.full_like(tensor, value), file)


def too_large_for_half(folder: Path) -> dict[str, Any]:
    filled(1e6)(folder)
    return {"dtype": "float16"}


def bare_pickle(folder: Path) -> None:
    (folder / UNET).write_bytes(pickle.dumps(evil(folder)))


def zipped_pickle(folder: Path) -> None:
    torch.save({"conv_in.bias": evil(folder)}, folder / UNET)


def pickles_only(folder: Path) -> None:
    (folder / UNET).unlink()
    torch.save(evil(folder), folder / "unet" / "diffusion_pytorch_model.bin")


def shards(shard: str, part: str = "text_encoder") -> Tamper:
    """A sharded network whose index names a file that is none of its own."""

    def tamper(folder: Path) -> None:
        (weights,) = (folder / part).glob("*.safetensors")
        weights.rename(folder / part / "own.safetensors")
        torch.save(evil(folder), folder / part / "evil.bin")
        names = load_file(folder / part / "own.safetensors")
        listed = {"metadata": {}, "weight_map": dict.fromkeys(names, shard)}
        (folder / part / f"{weights.name}.index.json").write_text(json.dumps(listed))

    return tamper


def cut_off(folder: Path) -> None:
    (folder / UNET).write_bytes((folder / UNET).read_bytes()[:-9])


def link(folder: Path) -> None:
    (folder / UNET).unlink()
    (folder / UNET).symlink_to("/etc/passwd")


def named_pipe(folder: Path) -> None:
    os.mkfifo(folder / "unet" / "x.safetensors")


def projection(folder: Path) -> None:
    save_file({"weight": torch.zeros(3, 5)}, folder / "text_projection.safetensors")


# -- settings ------------------------------------------------------------------------------------------------


def settings(file: str, **values: Any) -> Tamper:
    def tamper(folder: Path) -> None:
        before = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**before, **values}))

    return tamper


def text(**values: Any) -> Tamper:
    return settings("text_encoder/config.json", **values)


def unet(**values: Any) -> Tamper:
    return settings("unet/config.json", **values)


def scheduler(**values: Any) -> Tamper:
    return settings("scheduler/scheduler_config.json", **values)


def index(**values: Any) -> Tamper:
    return settings("model_index.json", **values)


def own_class(folder: Path) -> None:
    """A module of the folder's own, of the name of a library."""
    index(unet=["evil", "UNet"])(folder)
    code = f"import os\nos.mkdir({str(folder.parent / TRAP)!r})\nclass UNet: pass\n"
    (folder / "unet" / "evil.py").write_text(code)


def module_like_a_library(folder: Path) -> None:
    code = f"import os\nos.mkdir({str(folder.parent / TRAP)!r})\nclass UNet2DConditionModel: pass\n"
    (folder / "unet" / "diffusers.py").write_text(code)


def auto_map(folder: Path) -> None:
    text(auto_map={"AutoModel": "evil.Model"})(folder)
    (folder / "text_encoder" / "evil.py").write_text(f"import os\nos.mkdir({str(folder.parent / TRAP)!r})\n")


def other_model(folder: Path) -> None:
    (folder / "text_encoder" / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/evil"}')


def no_tokenizer_files(folder: Path) -> None:
    for file in (folder / "tokenizer").iterdir():
        file.unlink()


def more_words(folder: Path) -> None:
    tokenizer: Any = tiny_pipeline().tokenizer
    tokenizer.add_tokens(["church", "<extra>"])
    tokenizer.save_pretrained(folder / "tokenizer")


# -- what does not belong together ---------------------------------------------------------------------------


def other_denoiser(folder: Path) -> None:
    shutil.rmtree(folder / "unet")
    pipeline = PIPELINES["stable_diffusion_xl"]()
    type(pipeline.unet)(**{**tiny_pipeline().unet.config, "cross_attention_dim": 40}).save_pretrained(
        folder / "unet"
    )


def other_autoencoder(folder: Path) -> None:
    autoencoder().save_pretrained(folder / "vae")


def without_folder(folder: Path) -> None:
    shutil.rmtree(folder / "vae")


def other_class(folder: Path) -> None:
    index(unet=["diffusers", "AutoencoderKL"])(folder)
    shutil.rmtree(folder / "unet")
    shutil.copytree(folder / "vae", folder / "unet")


def part(option: str, values: Callable[[], dict[str, torch.Tensor]]) -> Tamper:
    """A file given to an option of the loader; the folder is left as it is."""

    def tamper(folder: Path) -> dict[str, Any]:
        save_file(values(), folder.parent / "given.safetensors")
        given = str(folder.parent / "given.safetensors")
        return {option: [given] if option in ("loras", "embeddings") else given}

    return tamper


def half_a_text_encoder() -> dict[str, torch.Tensor]:
    state = tiny_pipeline().text_encoder.state_dict()
    return {name: value for name, value in state.items() if "layers.1.mlp" not in name}


def conv_in(size: int, value: float) -> dict[str, torch.Tensor]:
    return {"conv_in.weight": torch.full((8, 3, size, size), value)}


def lora(width: int, rank: int = 2, value: float = 0.1) -> dict[str, torch.Tensor]:
    """A LoRA of one layer of the UNet that reads text of a width."""
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    return {
        f"{layer}.lora_A.weight": torch.full((rank, width), value),
        f"{layer}.lora_B.weight": torch.full((8, rank), value),
    }


def half_a_lora(half: str) -> Callable[[], dict[str, torch.Tensor]]:
    return lambda: {name: value for name, value in lora(width=24).items() if half in name}


def lora_of_another_family() -> dict[str, torch.Tensor]:
    layer = "transformer.transformer_blocks.0.attn.to_q"
    return {f"{layer}.lora_A.weight": torch.ones(2, 16), f"{layer}.lora_B.weight": torch.ones(16, 2)}


def pickled_lora(folder: Path) -> dict[str, Any]:
    torch.save({"lora": evil(folder)}, folder.parent / "lora.safetensors")
    return {"loras": [str(folder.parent / "lora.safetensors")]}


def narrow_text_encoder(folder: Path) -> dict[str, Any]:
    PIPELINES["stable_diffusion_xl"]().text_encoder_2.save_pretrained(folder.parent / "encoder")
    return {"text_encoder": str(folder.parent / "encoder")}


def endless(name: str, option: str) -> Tamper:
    """A file with a tensor without values, one side of which is longer than torch can count."""

    def tamper(folder: Path) -> dict[str, Any]:
        entries = {name: {"dtype": "F32", "shape": [0, 2**63], "data_offsets": [0, 0]}}
        text = json.dumps(entries).encode()
        (folder.parent / "given.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
        return {option: folder.parent / "given.safetensors"}

    return tamper


def flat_checkpoint() -> dict[str, torch.Tensor]:
    found = original_layout(tiny_pipeline())
    return {name: value.flatten() if "input_blocks.0" in name else value for name, value in found.items()}


def single_file(values: Callable[[], dict[str, torch.Tensor]], *, with_config: bool = False) -> Tamper:
    """A checkpoint in one file, with the folder's configuration or the built-in one."""

    def tamper(folder: Path) -> dict[str, Any]:
        file = folder.parent / "model.safetensors"
        save_file(values(), file)
        return {"name": file, **({"config": folder} if with_config else {})}

    return tamper


def of_family(family: str) -> Callable[[], dict[str, torch.Tensor]]:
    return lambda: original_layout(PIPELINES[family]())


def hostile_config(folder: Path) -> dict[str, Any]:
    own_class(folder)
    return single_file(of_family("stable_diffusion"), with_config=True)(folder) or {}


def checkpoint_with_nan() -> dict[str, torch.Tensor]:
    found = original_layout(tiny_pipeline())
    return {name: value * torch.nan if "input_blocks.0" in name else value for name, value in found.items()}

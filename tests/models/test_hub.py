"""Models and parts from the hub, by its own client from a local server; nothing is printed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file

import sgrace
from sgrace.models.published import PUBLISHED

from ..conftest import tiny_pipeline
from ..families import original_layout
from ..hub_server import serving
from .made import images
from .test_loras import save_lora

#: Loads what it is told, and writes an image or the error of each request.
PROGRAM = """
import json, sys
from pathlib import Path
from safetensors.torch import save_file
import sgrace
folder, requests = Path(sys.argv[1]), json.loads(sys.argv[2])
errors = {}
for name, request in requests.items():
    try:
        model = sgrace.load_model(request.pop("model"), device="cpu", **request)
    except sgrace.InputError as error:
        errors[name] = str(error)
        continue
    model.set_progress_bar_config(disable=True)
    drawn = model.generate(["a photo of church", "dog"], [1, 2], num_inference_steps=3, guidance_scale=2.0)
    save_file({"images": drawn.contiguous()}, folder / f"{name}.safetensors")
(folder / "errors.json").write_text(json.dumps(errors))
"""
#: A checkpoint in one file, on this machine.
FILE = "model.safetensors"
REQUESTS: dict[str, Any] = {
    "plain": {"model": "owner/tiny"},
    "short": {"model": "sd15"},
    "tag": {"model": "owner/tiny", "revision": "v1"},
    "half": {"model": "owner/half", "variant": "fp16"},
    "encoder": {"model": "owner/tiny", "text_encoder": "owner/encoders:v1.5"},
    "variant": {"model": "owner/tiny", "text_encoder": "owner/half:text_encoder"},
    "pinned": {"model": "owner/tiny", "denoiser": "owner/unet@v1:esd/church.safetensors"},
    "lora": {"model": "owner/tiny", "loras": ["owner/lora=0.5"]},
    "word": {"model": "owner/tiny", "embeddings": ["owner/word:v1.5/learned.safetensors"]},
    "no model": {"model": "owner/nothing"},
    "no revision": {"model": "owner/tiny", "revision": "v9"},
    "no folder": {"model": "owner/tiny", "text_encoder": "owner/encoders:elsewhere"},
    "no file": {"model": "owner/tiny", "loras": ["owner/unet"]},
    "whole numbers": {"model": "owner/numbers"},
    "encoder of whole numbers": {"model": "owner/tiny", "text_encoder": "owner/numbers:text_encoder"},
    "encoder that follows another": {"model": "owner/tiny", "text_encoder": "owner/adapter"},
    "encoder of a kernel": {"model": "owner/tiny", "text_encoder": "owner/kernel"},
    "pickles": {"model": "owner/pickles"},
    "pickled encoder": {"model": "owner/tiny", "text_encoder": "owner/pickles:text_encoder"},
    "pickled file": {"model": "owner/tiny", "denoiser": "owner/unet:esd/church.pt"},
    "checkpoint": {"model": FILE, "config": "owner/tiny"},
    "settings with code": {"model": FILE, "config": "owner/code"},
    "settings of weights": {"model": FILE, "config": "owner/lora"},
    "no settings": {"model": FILE, "config": "owner/nothing"},
}


class Answers(NamedTuple):
    """What the program has fetched, written and printed."""

    cache: Path
    folder: Path
    errors: dict[str, str]
    printed: str

    def images(self, name: str) -> torch.Tensor:
        return load_file(self.folder / f"{name}.safetensors")["images"]


def own_code(folder: Path) -> None:
    """Let the text encoder of a pipeline ask for a class of its own."""
    file = folder / "text_encoder" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"auto_map": {"AutoModel": "evil.Model"}}))


def changed(network: Any) -> Any:
    """The network with other values of all weights."""
    for parameter in network.parameters():
        parameter.data *= 1.05
    return network


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    root, out = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("answers")
    owner = root / "owner"
    tiny_pipeline().save_pretrained(owner / "tiny", max_shard_size="20KB")
    index = json.loads((owner / "tiny" / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (owner / "tiny" / "model_index.json").write_text(json.dumps(index))
    shutil.copytree(owner / "tiny", root / PUBLISHED["sd15"])
    tiny_pipeline().to(torch.float16).save_pretrained(owner / "half", variant="fp16")
    changed(tiny_pipeline().text_encoder).save_pretrained(owner / "encoders" / "v1.5")
    save_lora(owner / "lora")
    (owner / "word" / "v1.5").mkdir(parents=True)
    save_file({"dog": 5 * torch.ones(1, 24)}, owner / "word" / "v1.5" / "learned.safetensors")
    tiny_pipeline().save_pretrained(owner / "pickles")
    for file in (owner / "pickles").rglob("*.safetensors"):
        torch.save(load_file(file), file.with_suffix(".bin"))
        file.unlink()
    tiny_pipeline().save_pretrained(owner / "numbers")
    file = owner / "numbers" / "text_encoder" / "model.safetensors"
    save_file({name: value.int() for name, value in load_file(file).items()}, file, {"format": "pt"})
    tiny_pipeline().text_encoder.save_pretrained(owner / "adapter")
    (owner / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/evil"}')
    tiny_pipeline().text_encoder.save_pretrained(owner / "kernel")
    config = owner / "kernel" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"attn_implementation": "owner/evil"}))
    (owner / "unet" / "esd").mkdir(parents=True)
    attention = {n: v for n, v in changed(tiny_pipeline().unet).state_dict().items() if "attn2" in n}
    save_file(attention, owner / "unet" / "esd" / "church.safetensors")
    torch.save(attention, owner / "unet" / "esd" / "church.pt")
    tiny_pipeline().save_pretrained(owner / "code")
    own_code(owner / "code")
    save_file(dict(original_layout(tiny_pipeline())), out / "model.safetensors")
    requests = json.dumps(REQUESTS).replace(FILE, str(out / FILE))
    with serving(root) as address:
        hidden = {"HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY"}
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment |= {"HF_ENDPOINT": address, "HF_HOME": str(root / "cache"), "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(out), requests],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return Answers(
        root / "cache", out, json.loads((out / "errors.json").read_text()), done.stdout + done.stderr
    )


def wanted(**parts: Any) -> torch.Tensor:
    pipeline = tiny_pipeline()
    pipeline.register_modules(**parts)
    model = sgrace.load_model(pipeline, device="cpu")
    model.set_progress_bar_config(disable=True)
    return images(model)


def test_models_and_parts_are_downloaded(answers: Answers) -> None:
    assert answers.errors.keys() == {name for name in REQUESTS if " " in name or name == "pickles"}
    for name in ("plain", "short", "tag", "checkpoint"):
        assert answers.images(name).equal(wanted())
    for name in ("half", "variant"):
        torch.testing.assert_close(answers.images(name), wanted(), atol=0.05, rtol=0)
    assert answers.images("encoder").equal(wanted(text_encoder=changed(tiny_pipeline().text_encoder)))
    for name in ("lora", "word"):
        assert (answers.images(name) - wanted()).abs().max() > 0.01
    unet = tiny_pipeline().unet
    for name, parameter in unet.named_parameters():
        if "attn2" in name:
            parameter.data *= 1.05
    assert answers.images("pinned").equal(wanted(unet=unet))


def test_a_folder_goes_before_a_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_pipeline().save_pretrained("sd15")
    assert sgrace.load_model("sd15", device="cpu").source == "sd15"


def test_what_is_not_there_is_told_in_a_sentence(answers: Answers) -> None:
    for name in ("no model", "no revision", "no folder", "no file", "no settings", "settings of weights"):
        assert answers.errors[name].startswith("Cannot "), answers.errors[name]
        assert "\n" not in answers.errors[name]
    assert "owner/encoders:elsewhere" in answers.errors["no folder"]


def test_pickles_of_the_hub_are_refused_alike(answers: Answers) -> None:
    for name in ("pickles", "pickled encoder", "pickled file"):
        assert "reading one can run any code: download it, and" in answers.errors[name], answers.errors[name]
        assert "sgrace convert" in " ".join(answers.errors[name].split())


def test_weights_of_the_hub_are_looked_at_alike(answers: Answers) -> None:
    for name in ("whole numbers", "encoder of whole numbers"):
        assert "text_encoder/model.safetensors: tensor" in answers.errors[name], answers.errors[name]
        assert "is I32" in answers.errors[name]


def test_settings_of_the_hub_are_looked_at_alike(answers: Answers) -> None:
    assert (
        "text_encoder/config.json asks for code of its own (auto_map)" in answers.errors["settings with code"]
    )


def test_settings_of_a_part_are_looked_at_before_they_are_followed(answers: Answers) -> None:
    assert "holds an adapter beside a network" in answers.errors["encoder that follows another"]
    assert "asks for code of its own (attn_implementation)" in answers.errors["encoder of a kernel"]
    # the weights of neither were fetched
    found = {
        path.name
        for name in ("adapter", "kernel")
        for path in answers.cache.rglob(f"models--owner--{name}/snapshots/*/*")
    }
    assert found == {"adapter_config.json", "config.json"}


def test_nothing_is_printed(answers: Answers) -> None:
    assert answers.printed == ""

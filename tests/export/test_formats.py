"""What is exported is loaded by the public loaders, and draws the same images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import transformers
from safetensors import safe_open

from sgrace._util.errors import InputError

from ..cli.conftest import assert_refused, sgrace
from ..erasure.made import MAKERS, tiny_model
from ..families import PIPELINES, wrapped
from .conftest import Maker, loaded, same_images, small


def public(folder: Path, **parts: Any) -> Any:
    """The pipeline of a folder by diffusers alone."""
    return small(wrapped(diffusers.DiffusionPipeline.from_pretrained(folder, **parts)))


@pytest.mark.parametrize("family", PIPELINES)
def test_a_whole_pipeline(safe: Maker, tmp_path: Path, family: str) -> None:
    own = safe(family)
    done = own.erasure.export(tmp_path / "out", base=loaded(own.base))
    assert done.path == tmp_path / "out"
    assert "README.md" in done.files
    again = public(tmp_path / "out")
    for name, module in own.model.components.items():
        other = again.components[name].state_dict()
        assert all(value.equal(other[key]) for key, value in module.state_dict().items()), name
    same_images(again, own.model)


@pytest.mark.parametrize("family", PIPELINES)
def test_text_encoders_and_denoisers_alone(safe: Maker, tmp_path: Path, family: str) -> None:
    own = safe(family)
    base = loaded(own.base)
    denoiser = base.denoiser_component
    encoder: Any = base.components["text_encoder"]
    for form in ("text-encoder", "unet"):
        own.erasure.export(tmp_path / form, form, base=base)
        own.erasure.export(tmp_path / f"{form}.safetensors", form, base=base)
    network = getattr(diffusers, type(base.denoiser).__name__).from_pretrained(tmp_path / "unet")
    text = getattr(transformers, type(encoder).__name__).from_pretrained(tmp_path / "text-encoder")
    base.components = {**base.components, denoiser: network.eval(), "text_encoder": text.eval()}
    base.text = base.text.with_modules({"text_encoder": text})
    same_images(base, own.model)
    for ending in ("", ".safetensors"):
        parts = {"denoiser": tmp_path / f"unet{ending}", "text_encoder": tmp_path / f"text-encoder{ending}"}
        same_images(loaded(own.base, **parts), own.model)
    with safe_open(tmp_path / "unet.safetensors", "pt") as file:
        header = file.metadata()
    assert (header["sgrace.concepts"], header["sgrace.base"]) == ("church", family)
    assert "no guarantee" in header["sgrace.warning"]


def test_several_encoders_have_a_folder_each(safe: Maker, tmp_path: Path) -> None:
    own = safe("stable_diffusion_xl", "text_encoder", "text_encoder_2")
    own.erasure.export(tmp_path / "out", "text-encoder")
    parts = {name: tmp_path / "out" / name for name in ("text_encoder", "text_encoder_2")}
    same_images(loaded(own.base, text_encoder=parts), own.model)
    with pytest.raises(InputError, match="must be a folder: the erasure changes several networks"):
        own.erasure.export(tmp_path / "one.safetensors", "text-encoder")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_precision_is_the_one_of_the_erasure(safe: Maker, tmp_path: Path) -> None:
    own = safe("stable_diffusion", "unet")
    half = ("--dtype", "bfloat16")
    done = sgrace("export", own.folder, "--format", "unet", *half, "-o", tmp_path / "half", "--json")
    assert done.exit_code == 0, done.output
    assert "diffusion_pytorch_model.safetensors" in json.loads(done.stdout)["files"]
    with safe_open(tmp_path / "half" / "diffusion_pytorch_model.safetensors", "pt") as file:
        assert file.get_slice("conv_in.weight").get_dtype() == "BF16"
    sgrace("export", own.folder, "--format", "unet", "-o", tmp_path / "own")
    with safe_open(tmp_path / "own" / "diffusion_pytorch_model.safetensors", "pt") as file:
        assert file.get_slice("conv_in.weight").get_dtype() == "F32"
    sgrace("export", own.folder, "--format", "erasure", *half, "-o", tmp_path / "erasure")
    with safe_open(tmp_path / "erasure" / "unet.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118


def test_what_a_format_cannot_hold_is_refused_with_the_reason(safe: Maker, tmp_path: Path) -> None:
    text, unet = safe("stable_diffusion", "text_encoder"), safe("stable_diffusion", "unet")
    out = ("-o", tmp_path / "out")
    assert_refused(sgrace("export", text.folder, "--format", "unet", *out), "--format text-encoder")
    assert_refused(sgrace("export", unet.folder, "--format", "text-encoder", *out), "--format unet")
    file = ("-o", tmp_path / "out.safetensors")
    assert_refused(sgrace("export", unet.folder, "--format", "diffusers", *file), "must be a folder")
    assert_refused(sgrace("export", unet.base, "--format", "unet", *out), "is not an erasure")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    assert_refused(sgrace("export", unet.folder, "--format", "unet", *out), "is not empty")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]


@pytest.mark.parametrize(("form", "message"), [("guidance", "steers the sampling"), ("adapter", "adapters")])
def test_erasures_that_change_no_weights_are_refused(tmp_path: Path, form: str, message: str) -> None:
    model = tiny_model()
    for name in ("diffusers", "text-encoder", "unet"):
        with pytest.raises(InputError, match=message):
            MAKERS[form](model).export(tmp_path / "out", name, base=model)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_nothing(safe: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = safe("stable_diffusion", "unet")
    # a full disk while the file is written
    monkeypatch.setattr("sgrace.export.base.save_tensors", _full_disk)
    for name in ("out", "out.safetensors"):
        with pytest.raises(InputError, match="No space left"):
            own.erasure.export(tmp_path / name, "unet", base=loaded(own.base))
    assert not list(tmp_path.iterdir())


def _full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_the_file_attacked_again(safe: Maker, tmp_path: Path) -> None:
    own = safe("stable_diffusion")
    words, prompts = tmp_path / "words.txt", tmp_path / "prompts.csv"
    words.write_text("church\nchapel\n\ndog, tree\nboat, house\n")
    prompts.write_text("prompt\na photo of church\n")
    given = ("--prompts", prompts, "--words", words, "--detector", "always", "--concept", "church", "-q")
    attacks = ("--attacks", "random_tokens", "--effort", "quick", "--limit", "denoiser_rows=150")
    own.erasure.export(tmp_path / "pipeline")
    own.erasure.export(tmp_path / "text.safetensors", "text-encoder")
    own.erasure.export(tmp_path / "unet.safetensors", "unet")
    own.erasure.export(tmp_path / "one.safetensors", "single-file")
    targets = {
        "erasure": (own.folder,),
        "pipeline": (tmp_path / "pipeline", "--base", own.base),
        "one file": (tmp_path / "one.safetensors", "--config", own.base, "--base", own.base),
        "parts": (
            own.base,
            "--text-encoder",
            tmp_path / "text.safetensors",
            "--denoiser",
            tmp_path / "unet.safetensors",
        ),
    }
    found = {}
    for name, target in targets.items():
        done = sgrace("attack", *target, *given, *attacks, "-o", tmp_path / f"sets-{name}")
        assert done.exit_code == 0, done.stderr
        manifest = json.loads((tmp_path / f"sets-{name}" / "request.json").read_text())
        found[name] = manifest["target"]
    assert all(each == found["erasure"] for each in found.values()), found


def test_what_a_killed_export_of_a_file_left_is_removed(safe: Maker, tmp_path: Path) -> None:
    own = safe("stable_diffusion", "unet")
    out = tmp_path / "killed.safetensors"
    left = tmp_path / f".{out.name}.partial" / out.name
    left.mkdir(parents=True)
    (left / "diffusion_pytorch_model.safetensors").write_text("half")
    own.erasure.export(out, "unet", base=loaded(own.base))
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_the_place_is_looked_at_before_anything_is_loaded(
    safe: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = safe("stable_diffusion", "unet")
    monkeypatch.setattr("sgrace.export.base.Job.of", lambda *_, **__: pytest.fail("the model was loaded"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("kept")
    (tmp_path / "full.safetensors").write_text("kept")
    told = {
        "is not empty": ("-o", tmp_path / "full"),
        "exists already": ("-o", tmp_path / "full.safetensors"),
        "Name where to write": (),
        "is no name of a repository": ("--push-to-hub", "nobody"),
    }
    for message, given in told.items():
        assert_refused(sgrace("export", own.folder, "--format", "unet", *given), message)
    file = ("-o", tmp_path / "out.safetensors")
    assert_refused(sgrace("export", own.folder, "--format", "diffusers", *file), "must be a folder")


def test_the_ending_of_a_file_may_be_in_capitals(safe: Maker, tmp_path: Path) -> None:
    own = safe("stable_diffusion", "unet")
    own.erasure.export(tmp_path / "up.SAFETENSORS", "unet", base=loaded(own.base))
    assert (tmp_path / "up.SAFETENSORS").is_file()
    with pytest.raises(InputError, match="must be a folder"):
        own.erasure.export(tmp_path / "all.SAFETENSORS", "diffusers", base=loaded(own.base))


def test_weights_have_the_rights_of_every_new_file(safe: Maker, tmp_path: Path) -> None:
    own = safe("stable_diffusion")
    (tmp_path / "plain").touch()
    own.erasure.save_pretrained(tmp_path / "safe")
    for form in ("diffusers", "unet", "text-encoder", "single-file"):
        own.erasure.export(tmp_path / form, form, base=loaded(own.base))
    files = list(tmp_path.rglob("*.safetensors"))
    assert len(files) > 6
    assert {file.stat().st_mode for file in files} == {(tmp_path / "plain").stat().st_mode}

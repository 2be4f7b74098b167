"""The pages of docs/recipes: every command line runs, on small stand-ins for the models that it names."""

from __future__ import annotations

import re
import shlex
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from diffusers import FluxPipeline

from sgrace.cli import main

from .conftest import tiny_pipeline
from .families import PIPELINES, sized
from .small_clip import save_small_clip
from .test_documents import ROOT, Block, blocks, commands_of

PAGES = sorted(page for page in (ROOT / "docs" / "recipes").glob("*.md") if page.name != "README.md")
FILE = re.compile(r"^<!-- file: (\S+) -->\n```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: What the pages load, and the family of a small model in its place.
MODELS = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": None,
    "stabilityai/stable-diffusion-xl-base-1.0": "stable_diffusion_xl",
    "black-forest-labs/FLUX.1-dev": "flux",
}
CLIP = "openai/clip-vit-large-patch14"
#: Settings that make an erasure short.
SHORT = {
    "sgrace": ("rounds=1", "attack_steps=1", "edit_steps=1", "n_adversarial=2", "num_inference_steps=2"),
    "uce": (),
}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of small models by the name that the pages give."""
    root = tmp_path_factory.mktemp("models")
    save_small_clip(root / "clip")
    found = {CLIP: str(root / "clip")}
    for name, family in MODELS.items():
        folder = root / name.replace("/", "--")
        pipeline = tiny_pipeline() if family is None else PIPELINES[family]()
        pipeline.save_pretrained(folder)
        found[name] = str(folder)
    return found


@pytest.fixture(autouse=True)
def small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """FLUX's pipeline has its size in its class, and a folder cannot name another."""
    start = FluxPipeline.__init__

    @wraps(start)
    def small(self: FluxPipeline, *args: Any, **components: Any) -> None:
        start(self, *args, **components)
        sized(self)

    monkeypatch.setattr(FluxPipeline, "__init__", small)


def lines_of(page: Path) -> list[str]:
    found: list[Block] = blocks(page, "sh")
    return [line for block in found for line in commands_of(block.text)]


def write_files(page: Path, folder: Path) -> None:
    files = FILE.findall(page.read_text(encoding="utf-8"))
    assert [name for name, _ in files] == ["words.txt", "prompts.csv"]
    for name, text in files:
        (folder / name).write_text(text, encoding="utf-8")


def shorter(args: list[str]) -> list[str]:
    """The same command with fewer steps, and a detector that needs no download."""
    if args[0] == "erase":
        method = args[args.index("--method") + 1] if "--method" in args else "sgrace"
        return [*args, *(word for pair in SHORT[method] for word in ("--set", pair))]
    for name in ("nudenet", "image_classifier"):
        args = ["always" if arg == name else arg for arg in args]
    found = [arg for arg in args if not arg.startswith("unlearn_diff_atk,")]
    found = [arg for arg in found if arg != "--attacks"]
    return [*found, "--attacks", "none", *(("--suite", "quick") if args[0] == "evaluate" else ())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_right_up_to_the_download(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    erasing = [shlex.split(line)[1:] for line in lines_of(page) if line.startswith("sgrace erase")]
    assert len(erasing) == len(MODELS)
    for args in erasing:
        result = CliRunner().invoke(main, args)
        assert result.exit_code != 0
        assert args[args.index("--model") + 1] in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_runs_on_small_models(
    page: Path, stand_ins: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    for line in lines_of(page):
        args = [
            arg.replace(CLIP, stand_ins[CLIP]) if CLIP in arg else stand_ins.get(arg, arg)
            for arg in shlex.split(line)[1:]
        ]
        args = [arg for arg in args if arg not in ("--variant", "fp16")]  # small models have no variant
        result = CliRunner().invoke(main, [*shorter(args), "--quiet"])
        assert (result.exit_code, result.exception) == (0, None), (line, result.stderr)
        # small tokenizers cut the prompts, and nothing else is to say
        assert "ends are cut" in result.stderr or not result.stderr, line
        assert "%" not in result.stderr, line

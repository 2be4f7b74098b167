"""The command lines of the pages run: every `sgrace` of a block, in its page's order, in one folder a page.

A block runs as it stands, one below ``<!-- on small models -->`` with small models of the same classes in the
place of those that it names, and on the CPU. One below ``<!-- not run: REASON -->`` is parsed alone
(`test_documents.py`). A page's own files (``<!-- file: NAME -->``) are there before; what else a page takes
for given is made by `BEFORE`.

Real are the command line, its options and files, the exit status, every model, method, attack, detector and
format. Less are numbers of steps, images and prompts (`shorter.py`), and studies of hours (`STUDIES`).
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import save_file

from sgrace.cli import main
from sgrace.testbeds import emoji

from .conftest import tiny_pipeline
from .shorter import shorten
from .small_models import CLIP, MODELS, OTHERS, PARTS, on_small_models, small_images, stand_ins
from .test_documents import DOCUMENTS, ROOT, Block, blocks, commands_of

__all__ = ["small_images", "stand_ins"]  # fixtures

pytestmark = pytest.mark.slow

ON_SMALL_MODELS = "on small models"
FILE = re.compile(r"^<!-- file: (\S+) -->\n```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: Files that a page names and does not show.
WORDS = "church\nchapel\n\nhouse\ndog\ntree\nboat\n"
PROMPTS = 'prompt,seed\n"a photo of church",1\n'
#: What is left of studies that take hours: one concept, and rows of the first matrix that its page names.
STUDIES: dict[str, dict[str, Any]] = {
    "tuning.yaml": {"concepts": ["fish"], "erasers": slice(4, 6)},
    "concept_space.yaml": {
        "concepts": ["weapon"],
        "suite": "smoke",
        "attacks": ["none"],
        "erasers": slice(7, 8),
    },
    "robustness_over_time.yaml": {"suite": "smoke", "attacks": ["none"], "erasers": slice(-1, None)},
    "knowledge.yaml": {"concepts": ["church"], "attacks": ["none"], "erasers": slice(2)},
    "full_effort.yaml": {"concepts": ["weapon"], "suite": "smoke", "attacks": ["none"], "erasers": slice(1)},
    "ablation.yaml": {"concepts": ["church"], "references": [], "attacks": ["none"], "erasers": slice(9, 11)},
}


class Line(NamedTuple):
    """A command line of a page."""

    text: str
    small: bool  # runs on small models
    told: tuple[str, ...]  # files that the comment behind it promises


def lines_of(page: Path) -> list[Line]:
    """Distinct command lines of ``sgrace`` in blocks that run, in their order."""
    found: dict[str, Line] = {}
    for block in blocks(page, "sh"):
        if block.mark == "not run":
            continue
        for typed in block.text.replace("\\\n", " ").splitlines():
            _, _, comment = typed.partition(" # ")
            told = tuple(re.findall(r"[\w.-]+/[\w.-]+", comment))
            for text in commands_of(typed):
                if text.startswith("sgrace "):
                    found.setdefault(text, Line(text, block.mark == ON_SMALL_MODELS, told))
    return list(found.values())


PAGES = [page for page in DOCUMENTS if lines_of(page)]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT).with_suffix(""))


def write_files(page: Path) -> list[str]:
    """Write the files that a page shows into the working folder, and tell their names."""
    files = dict(FILE.findall(page.read_text("utf-8")))
    for name, text in files.items():
        Path(name).write_text(text, encoding="utf-8")
    return list(files)


def run(line: Line, stand_ins: dict[str, str], *options: str) -> str:
    """Run a line in the working folder; it must end well and leave what it says that it writes.

    Returns:
        What it printed on standard error.
    """
    args = shlex.split(line.text)[1:]
    args = on_small_models(args, stand_ins) if line.small else args
    result = CliRunner().invoke(main, [*args, *options])
    assert (result.exit_code, result.exception) == (0, None), (line.text, result.stderr)
    pairs = [] if args[0] == "study" else pairwise(args)  # a plan writes nothing
    written = [value for option, value in pairs if option in ("-o", "--out")]
    assert [path for path in (*written, *line.told) if not Path(path).exists()] == [], line.text
    return str(result.stderr)


# -- what pages take for given -------------------------------------------------------------------------------


def words_and_prompts(_stand_ins: dict[str, str]) -> None:
    Path("words.txt").write_text(WORDS, encoding="utf-8")
    Path("prompts.csv").write_text(PROMPTS, encoding="utf-8")


def safe_and_evaluations(stand_ins: dict[str, str]) -> None:
    """An erasure of the built-in model, its evaluation under three names, and folders of pipelines."""
    words_and_prompts(stand_ins)
    for name in ("some/diffusers/folder", "another/folder"):
        shutil.copytree(stand_ins["CompVis/stable-diffusion-v1-4"], name)
    shutil.copytree(emoji.path(), "another/diffusers/folder")
    run(Line("sgrace erase church --method des --preset emoji -o safe", small=False, told=()), stand_ins)
    line = "sgrace evaluate safe --suite quick --attacks none -o evaluation_uce"
    run(Line(line, small=False, told=()), stand_ins)
    for name in ("evaluation_esd", "evaluation_sgrace"):
        shutil.copytree("evaluation_uce", name)


def safe_of_a_folder(stand_ins: dict[str, str]) -> None:
    """An erasure of Stable Diffusion, its evaluation, the model before, and a table of prompts."""
    words_and_prompts(stand_ins)
    shutil.copytree(stand_ins["CompVis/stable-diffusion-v1-4"], "my-model")
    shutil.copy("prompts.csv", "coco.csv")
    for line in (
        "sgrace erase church --method uce --kind object --model my-model --words words.txt -o safe",
        "sgrace evaluate safe --words words.txt --prompts prompts.csv --detector always -o evaluation",
    ):
        run(Line(line, small=False, told=()), stand_ins)


def files_to_load(stand_ins: dict[str, str]) -> None:
    """Pickles, and a file with some of a denoiser's weights."""
    words_and_prompts(stand_ins)
    pipeline = tiny_pipeline()
    weights = {name: value for name, value in pipeline.unet.state_dict().items() if "attn2" in name}
    save_file(weights, "esd-church.safetensors")
    torch.save(pipeline.unet.state_dict(), "unet.pt")
    pipeline.save_pretrained("old-pipeline", safe_serialization=False)


def studies(_stand_ins: dict[str, str]) -> None:
    shutil.copytree(ROOT / "studies", "studies")
    for name, less in STUDIES.items():
        file = Path("studies", name)
        study = yaml.safe_load(file.read_text("utf-8"))
        study |= study.pop("matrices", [{}])[0]
        rows = study["erasers"][less["erasers"]]
        file.write_text(yaml.safe_dump({**study, **less, "erasers": rows}), encoding="utf-8")


BEFORE: dict[str, Callable[[dict[str, str]], None]] = {
    "README": words_and_prompts,
    "docs/devices": words_and_prompts,
    "docs/families": words_and_prompts,
    "docs/knowledge": studies,
    "docs/evaluation": safe_and_evaluations,
    "docs/export": safe_of_a_folder,
    "docs/loading": files_to_load,
    "docs/results/concept_space": studies,
    "docs/results/robustness_over_time": studies,
    "docs/results/search": studies,
    "docs/sgrace": studies,
    "docs/studies": studies,
}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working folder where everything is short."""
    monkeypatch.chdir(tmp_path)
    shorten(monkeypatch)


@pytest.mark.usefixtures("place", "small_images")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_commands_of_a_page_run(page: Path, stand_ins: dict[str, str]) -> None:
    if name_of(page) in BEFORE:
        BEFORE[name_of(page)](stand_ins)
    write_files(page)
    for line in lines_of(page):
        if page.parent.name != "recipes":
            run(line, stand_ins)
            continue
        told = run(line, stand_ins, "--quiet")
        # small tokenizers cut the prompts, and nothing else is to say
        assert "ends are cut" in told or not told, line.text
        assert "%" not in told, line.text


# -- the marks -----------------------------------------------------------------------------------------------


def downloads(block: Block) -> bool:
    """Whether a block names a model that is not here, or a GPU."""
    names = (*MODELS, *OTHERS, *PARTS, CLIP, "cuda", "image_classifier", "nudenet")
    lines = [shlex.split(line) for line in commands_of(block.text)]
    return any(name in line for line in lines for name in names if line[0] == "sgrace")


def test_blocks_that_need_what_is_not_here_are_marked() -> None:
    found = [block for page in DOCUMENTS for block in blocks(page, "sh")]
    assert [block.place for block in found if block.mark is None and downloads(block)] == []
    assert [block.place for block in found if block.mark == "not run" and not block.value] == []
    assert set(BEFORE) <= {name_of(page) for page in PAGES}


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    "wrong",
    [
        "sgrace generate dagger --erasure missing --out dagger.png",
        "sgrace erase weapon --method uce --preset imoji --out safe",
        "sgrace export emoji --format comfyui --out comfyui",
        "sgrace study run studies/missing.yaml -o smoke",
        "sgrace info esd # evaluation/report.html",
    ],
)
def test_a_wrong_line_is_found(wrong: str, tmp_path: Path, stand_ins: dict[str, str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```sh\n{wrong}\n```\n", encoding="utf-8")
    (line,) = lines_of(page)
    with pytest.raises(AssertionError):
        run(line, stand_ins)

"""Erasures without weights: what steers the sampling is saved, loaded, checked and told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from sgrace._util.errors import InputError
from sgrace._util.hashing import sha256
from sgrace.cli import main
from sgrace.erasers.sld import SLD, SLDConfig, SLDGuidance
from sgrace.erasure import Erasure
from sgrace.evaluation.requests import fingerprint
from sgrace.knowledge import Knowledge, Target
from sgrace.models import DiffusionModel

from ..conftest import tiny_pipeline
from .made import CHURCH


def test_settings_and_tensors_are_one_file_and_change_the_fingerprint(
    model: DiffusionModel, words: Knowledge, tmp_path: Path
) -> None:
    target = Target(CHURCH, words)
    one = SLD.preset("weak", "object").erase(model, [target])
    other = SLD.preset("strong", "object").erase(model, [target])
    assert fingerprint(one.apply(model)) != fingerprint(other.apply(model))
    one.save_pretrained(tmp_path / "safe")
    files = sorted(path.name for path in (tmp_path / "safe").iterdir())
    assert files == ["README.md", "guidance.safetensors", "recipe.json"]
    loaded = Erasure.from_pretrained(tmp_path / "safe")
    assert loaded.guidance is not None
    assert one.guidance is not None
    assert loaded.guidance.config == one.guidance.config
    with pytest.raises(InputError, match="steered by sld already"):
        other.apply(loaded.apply(model))
    narrow = SLDGuidance(SLDConfig(), {"safety": torch.zeros(20, 8)})
    with pytest.raises(InputError, match="not 24 wide"):
        Erasure(recipe=one.recipe, guidance=narrow).apply(model)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "holds no guidance"),
        ({"guidance": "sdl", "settings": "{}"}, "did you mean 'sld'"),
        ({"guidance": "sld", "settings": '{"scale": -1}'}, "greater than or equal to 0"),
        ({"guidance": "sld", "settings": "no json"}, "holds no guidance"),
    ],
)
def test_bad_files_are_told(
    model: DiffusionModel, words: Knowledge, tmp_path: Path, header: dict[str, str] | None, message: str
) -> None:
    folder = tmp_path / "safe"
    SLD.preset("weak", "object").erase(model, [Target(CHURCH, words)]).save_pretrained(folder)
    file = folder / "guidance.safetensors"
    save_file(load_file(file), file, metadata=header)
    with pytest.raises(InputError, match="changed or damaged"):
        Erasure.from_pretrained(folder)
    recipe = json.loads((folder / "recipe.json").read_text())
    recipe["sha256"]["guidance.safetensors"] = sha256(file)
    (folder / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(InputError, match=message):
        Erasure.from_pretrained(folder)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sld", "safree"])
def test_the_commands_take_guidance_like_weights(tmp_path: Path, method: str) -> None:
    model = str(tmp_path / "tiny")
    tiny_pipeline().save_pretrained(model)
    (tmp_path / "words.txt").write_text("church\nchapel\n\ndog, tree\nboat, house\n")
    (tmp_path / "prompts.csv").write_text("seed,prompt\n5,a photo of church\n6,church\n")
    given = ["--words", str(tmp_path / "words.txt")]
    out = str(tmp_path / "safe")

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(main, list(arguments))
        assert done.exit_code == 0, done.output
        return done.stdout

    run("erase", "church", "--model", model, "--method", method, "--out", out, *given, "--json")
    image = str(tmp_path / "a.png")
    run(
        "generate", "church", "--model", model, "--erasure", out, "--num-inference-steps", "2", "--out", image
    )
    scene = [out, "--prompts", str(tmp_path / "prompts.csv"), *given, "--detector", "never"]
    names = "more_seeds,completion,ring_a_bell_soft"
    sets = str(tmp_path / "sets")
    printed = run("attack", *scene, "--effort", "quick", "--attacks", names, "--out", sets, "--json")
    rows = json.loads(printed)["attacks"]
    per_step = {"sld": (3, 3), "safree": (2, 1)}[method]
    probe = next(row for row in rows if row["attack"] == "completion")
    # two images: sampled once by the target and once by the original, then twice noised to seven tenths
    plain = 2 * 25
    assert probe["denoiser_rows"] == plain * per_step[0] + plain * 2 + 2 * 2 * 18 * per_step[1]
    report = str(tmp_path / "report")
    run("evaluate", *scene, "--suite", "quick", "--attacks", "none", "--out", report)

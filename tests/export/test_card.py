"""The model card of erasures and exports."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from sgrace.concept import Concept
from sgrace.erasure.card import NO_GUARANTEE, NOT_EVALUATED, Loading, card, facts, title
from sgrace.evaluation.evaluate import EVALUATION
from sgrace.evaluation.requests import fingerprint
from sgrace.export._evaluated import OTHER_WEIGHTS

from ..cli.conftest import assert_refused, sgrace
from ..erasure.made import MAKERS, of_denoiser, of_text, tiny_model
from ..report.made import attack_row, evaluation, kept
from .conftest import Maker, loaded


def test_an_erasure_has_a_card(safe: Maker) -> None:
    own = safe("stable_diffusion", "text_encoder", "unet")
    text = (own.folder / "README.md").read_text()
    assert text.startswith("---\nlicense: other\n")
    assert "# church erased from stable_diffusion\n" in text
    for part in (NO_GUARANTEE, NOT_EVALUATED, "| method | by hand |", 'Erasure.from_pretrained("DIR")'):
        assert part in text
    digests = own.erasure.recipe.base.sha256["unet"]
    assert all(digest in text for digest in digests.values())
    assert "sgrace attack" not in text
    # the folder that the base was in is nobody's business
    assert str(own.base) not in text
    assert "README.md" not in json.loads((own.folder / "recipe.json").read_text())["sha256"]


def test_weights_in_int8_are_for_no_other_program(safe: Maker, tmp_path: Path) -> None:
    own = safe("stable_diffusion", "text_encoder")
    own.erasure.save_pretrained(tmp_path / "small", small=True)
    assert 'CLIPTextModel.from_pretrained("DIR/text_encoder")' in (own.folder / "README.md").read_text()
    text = (tmp_path / "small" / "README.md").read_text()
    assert 'Erasure.from_pretrained("DIR")' in text
    assert "transformers import" not in text


def test_text_of_others_stays_text() -> None:
    recipe = of_text(tiny_model()).recipe
    evil = recipe.targets[0].model_copy(update={"concept": Concept(name="it's $(rm -rf x) | a")})
    base = recipe.base.model_copy(update={"source": 'x";evil()#', "loras": ("/home/me/style.safetensors",)})
    method = "uce\n\n# A heading\n```"
    other = recipe.model_copy(
        update={"targets": (evil,), "base": base, "method": method, "versions": {"a": "1\n# b"}}
    )
    code = [Loading("python", 'load("BASE")'), Loading("shell", "sgrace attack BASE --concept CONCEPT", "sh")]
    text = card([other], code)
    assert "\n# A heading" not in text
    assert "\n# b" not in text
    assert "| method | uce # A heading ```" in text
    assert r"| concept | it's $(rm -rf x) \| a (" in text
    assert r'load("x\";evil()#")' in text
    assert shlex.split(text.split("```sh\n")[1].split("\n```")[0]) == [
        "sgrace",
        "attack",
        'x";evil()#',
        "--concept",
        "it's $(rm -rf x) | a",
    ]
    assert "| loaded with | LoRA style.safetensors |" in text


@pytest.mark.parametrize(("config", "told"), [(None, ""), ("owner/name", ', config="owner/name"')])
def test_a_base_in_one_file_is_loaded_as_one(config: str | None, told: str) -> None:
    recipe = of_text(tiny_model()).recipe
    base = recipe.base.model_copy(update={"source": "/home/me/base.safetensors", "config": config})
    code = ['Pipe.from_pretrained("BASE", unet=unet)', 'Pipe.from_single_file("DIR/x", config="BASE")']
    text = card([recipe.model_copy(update={"base": base})], [Loading("diffusers", "\n".join(code))])
    assert f'Pipe.from_single_file("base.safetensors"{told}, unet=unet)' in text
    assert f'Pipe.from_single_file("DIR/x"{told})' in text


def test_a_card_may_be_written_anew(safe: Maker, tmp_path: Path) -> None:
    own = safe("stable_diffusion", "unet")
    own.erasure.save_pretrained(tmp_path / "safe")
    (tmp_path / "safe" / "README.md").write_text("mine")
    assert type(own.erasure).from_pretrained(tmp_path / "safe").recipe.method == "by hand"


def test_every_kind_of_erasure_is_exported_as_one(tmp_path: Path) -> None:
    model = tiny_model()
    for name, make in MAKERS.items():
        made = make(model)
        made.export(tmp_path / name, "erasure", base=model)
        again = type(made).from_pretrained(tmp_path / name)
        assert again.components == made.components
        assert (again.guidance is None) == (made.guidance is None)


def test_erasures_on_top_of_each_other_are_all_named(safe: Maker, tmp_path: Path) -> None:
    base = loaded(safe("stable_diffusion", "unet").base)
    first = of_text(base, "dog")
    second = of_denoiser(first.apply(base), "church")
    second.export(tmp_path / "out", "diffusers", base=base)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "# dog and church erased from stable_diffusion" in text
    assert text.count("| method | by hand |") == 2
    second.export(tmp_path / "again", "erasure", base=base)
    assert [each.names for each in type(second).from_pretrained(tmp_path / "again").parents] == ["dog"]


def test_the_licence_of_the_base_is_named(tmp_path: Path) -> None:
    base = tmp_path / "base"
    tiny_model().pipeline.save_pretrained(base)
    (base / "README.md").write_text("---\nlicense: creativeml-openrail-m\n---\n# A model\n")
    recipe = of_text(loaded(base)).recipe
    text = card([recipe], [])
    assert text.startswith("---\nlicense: creativeml-openrail-m\n")
    assert "that of the base model, creativeml-openrail-m; it holds" in text
    hub = recipe.model_copy(update={"base": recipe.base.model_copy(update={"source": "owner/name"})})
    assert "base_model: owner/name\n" in card([hub], [])
    assert title([hub]) == "church erased from owner/name"
    assert facts([hub])["sgrace.base"] == "owner/name"


def test_an_evaluation_stands_on_the_card(safe: Maker, tmp_path: Path) -> None:
    own = safe("stable_diffusion", "unet")
    rows = [attack_row("none", 0), attack_row("unlearn_diff_atk", 3)]
    church = {"name": "church", "kind": "object"}
    found = evaluation(*rows, concept=church, retention=(kept("neighbours", 12, 9, 12),))
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / EVALUATION).write_text(found.model_dump_json())
    given = ("--format", "unet", "--evaluation", tmp_path / "evaluation")
    done = sgrace("export", own.folder, *given, "-o", tmp_path / "out", "-q")
    assert (done.exit_code, done.output) == (0, ""), done.output
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| none | prompt | 0 of 12 (0.0 %) | 0.0 to 24.2 % | yes |" in text
    assert "| unlearn_diff_atk | gradient | 3 of 12 (25.0 %) | 8.9 to 53.2 % | no |" in text
    assert "| near concepts (should stay) | 12 of 12 (100.0 %) | 75.8 to 100.0 % | 9 of 12 (75.0 %)" in text
    assert "Is it safe under attack?" in text
    assert NOT_EVALUATED not in text
    assert NO_GUARANTEE in text
    assert OTHER_WEIGHTS in text
    own_weights = found.model_copy(update={"target_sha256": fingerprint(own.model).weights})
    (tmp_path / "evaluation" / EVALUATION).write_text(own_weights.model_dump_json())
    sgrace("export", own.folder, *given, "-o", tmp_path / "same")
    assert OTHER_WEIGHTS not in (tmp_path / "same" / "README.md").read_text()
    dog = found.model_copy(update={"concept": Concept(name="dog")})
    (tmp_path / "evaluation" / EVALUATION).write_text(dog.model_dump_json())
    assert_refused(
        sgrace("export", own.folder, *given, "-o", tmp_path / "no"), "is of 'dog', which was not erased"
    )
    (tmp_path / "evaluation" / EVALUATION).unlink()
    assert_refused(sgrace("export", own.folder, *given, "-o", tmp_path / "no"), "is not an evaluation")

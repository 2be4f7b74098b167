"""What a study file says, and which cells it asks for."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from sgrace._util import registry
from sgrace._util.errors import InputError
from sgrace.attacks.prompt_files import read_prompts
from sgrace.evaluation.suites import SUITES
from sgrace.study import code, read_study
from sgrace.study.cell import Cell
from sgrace.study.cells import COMMON, scores_of
from sgrace.study.estimate import estimate
from sgrace.study.inputs import model_sha256
from sgrace.study.make import MAKERS
from sgrace.study.schema import json_schema
from sgrace.testbeds.base import Testbed

from .made import SMOKE, cells, write_study


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


def ids(every: list[Cell], kind: str) -> set[str]:
    return {cell.id for cell in every if cell.kind == kind}


def test_what_rows_share_is_planned_once() -> None:
    every = cells(SMOKE)
    assert Counter(cell.kind for cell in every) == {"erasure": 1, "attack": 6, "images": 3, "score": 3}
    before = [cell.needs["before"].id for cell in every if cell.kind == "score"]
    assert len(before) == 3
    assert len(set(before)) == 1, "the original's images are drawn once for all rows"
    assert len({cell.id for cell in every}) == len(every)
    place = {cell.id: at for at, cell in enumerate(every)}
    assert all(place[each.id] < place[cell.id] for cell in every for each in cell.needs.values())


def test_the_same_file_gives_the_same_cells(folder: Path) -> None:
    file = write_study(folder)
    assert [cell.id for cell in cells(file)] == [cell.id for cell in cells(file)]


#: A field that is changed -> kinds of cells of which some must be made again.
CHANGES: list[tuple[dict[str, Any], set[str]]] = [
    ({"name": "other"}, set()),
    ({"seeds": [0, 1]}, {"erasure", "attack", "score"}),
    ({"attacks": ["none", "more_seeds"]}, {"attack", "score"}),
    ({"attack_seed": 1}, {"attack", "score"}),
    ({"detector": "never"}, {"attack", "score"}),
    ({"dtype": "bfloat16"}, {"erasure", "attack", "score"}),
    ({"references": []}, set()),
    ({"erasers": ["uce"]}, set()),
    ({"erasers": [{"eraser": "uce", "settings": {"ridge": "3"}}]}, {"erasure", "attack", "score"}),
]


@pytest.mark.parametrize(("change", "kinds"), CHANGES)
def test_a_changed_field_makes_anew_what_depends_on_it(
    folder: Path, change: dict[str, Any], kinds: set[str]
) -> None:
    before = cells(write_study(folder))
    after = cells(write_study(folder, **change))
    new = {kind for kind in ("erasure", "attack", "images", "score") if ids(after, kind) - ids(before, kind)}
    assert new == kinds


def test_the_prompt_set_decides_how_an_eraser_is_judged_and_not_what_it_makes(tmp_path: Path) -> None:
    text = SMOKE.read_text()
    (tmp_path / "chosen.yaml").write_text(f"{text}prompt_set: validation\n")
    before = cells(SMOKE)
    after = cells(tmp_path / "chosen.yaml")
    assert ids(after, "erasure") == ids(before, "erasure")
    for kind in ("attack", "images", "score"):
        assert not ids(after, kind) & ids(before, kind)
    (tmp_path / "same.yaml").write_text(f"{text}prompt_set: test\n")
    assert cells(tmp_path / "same.yaml") == before


@pytest.mark.parametrize(
    ("file", "kinds"),
    [("prompts.csv", {"attack", "score"}), ("words.txt", {"erasure", "attack", "score"})],
)
def test_a_changed_file_does_too(folder: Path, file: str, kinds: set[str]) -> None:
    study = write_study(folder)
    before = cells(study)
    text = (folder / file).read_text()
    (folder / file).write_text(
        text.replace("a photo of church", "a picture of church").replace("boat", "cat")
    )
    after = cells(study)
    for kind in ("erasure", "attack", "score"):
        assert bool(ids(after, kind) - ids(before, kind)) == (kind in kinds), kind


def test_words_of_a_row_decide_its_erasure_and_no_question(folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    (other / "church.txt").write_text("church\nminster\n\nfrog, leaf\n")
    row = {"eraser": "uce", "words": "other/{concept}.txt"}
    file = write_study(folder, erasers=["uce", row])
    plain, own = scores_of(read_study(file))[1:]
    assert [cell.config["row"] for cell in (plain, own)] == ["uce", "uce (words=other)"]
    assert plain.needs["erasure"].id != own.needs["erasure"].id
    assert own.needs["erasure"].config["words_file"] == str(other / "church.txt")
    assert own.config["words"] == plain.config["words"], "attacks and questions keep the study's words"
    assert own.needs["attacks/none"].config["words"] == plain.config["words"]
    (other / "church.txt").write_text("church\nminster\n\nfrog\n")
    again = scores_of(read_study(file))[2]
    assert again.needs["erasure"].id != own.needs["erasure"].id


def test_two_rows_of_one_title_are_refused(folder: Path) -> None:
    """They would become seeds of one row, with a narrower interval."""
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "church.txt").write_text(f"church\nminster\n\nfrog, {name}leaf\n")
    rows = [{"eraser": "uce", "words": f"{name}/church.txt"} for name in ("a", "b")]
    with pytest.raises(InputError, match=r"both be called 'uce \(words=church\), church, seed 0'"):
        cells(write_study(folder, erasers=rows))
    assert cells(write_study(folder, erasers=[rows[0], rows[0]])), "the same row twice is one"


def test_the_preset_of_the_built_in_model_is_its_own(folder: Path) -> None:
    """On another model a row without a preset is what the method's paper says, as for `sgrace erase`."""
    file = write_study(folder, erasers=["sld", "sld:emoji"])
    plain, chosen = scores_of(read_study(file))[1:]
    assert plain.needs["erasure"].config["preset"] == registry.load("erasers", "sld").default_preset
    assert chosen.needs["erasure"].config["preset"] == "emoji"
    assert [cell.config["row"] for cell in (plain, chosen)] == ["sld", "sld, emoji"]
    (folder / "own.yaml").write_text("name: own\nconcepts: [church]\nerasers: [sld, 'sld:emoji']\n")
    (own,) = scores_of(read_study(folder / "own.yaml"))
    assert own.needs["erasure"].config["preset"] == "emoji"
    assert own.config["row"] == "sld"


def test_seeds_keep_what_they_do_not_decide(folder: Path) -> None:
    before = cells(write_study(folder, seeds=[0]))
    after = cells(write_study(folder, seeds=[0, 1]))
    assert {cell.id for cell in before} < {cell.id for cell in after}


def forget() -> None:
    for cached in (code._tree, code._syntax, code._imported_by, code.code_sha256):
        cached.cache_clear()


def test_code_is_its_syntax(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(**files: str) -> str:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        forget()
        return code.code_sha256("one")

    monkeypatch.setattr(code, "PACKAGE", tmp_path)
    two = "x = 2\n"
    plain = digest(one="from . import two\ny = two.x\n", two=two, three="z = 1\n")
    assert digest(one='"""Now with words."""\nfrom . import two\n\ny = two.x  # and a comment\n') == plain
    assert digest(three="z = 2\n") == plain, "nothing imports it"
    assert digest(two="x = 3\n") != plain
    assert digest(two="def f():\n    from . import three\n\nx = 2\n") != plain
    forget()


def test_code_has_one_digest_under_every_version_of_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # functions have another field since 3.12, and 3.12 ends nested formats with an empty text
    text = "def f(x, digits=2):\n    return f'{x:.{digits}f}' + ''\n\nclass A:\n    pass\n"
    (tmp_path / "one.py").write_text(text)
    monkeypatch.setattr(code, "PACKAGE", tmp_path)
    forget()
    assert code.code_sha256("one").startswith("07bc61ebb64b4662")
    forget()


def test_what_is_measured_of_an_erasure_is_no_code_of_it() -> None:
    behind = {kind: code.modules_behind(*COMMON, f"study.make.{kind}") for kind in MAKERS}
    assert "evaluation.evaluate" in behind["score"]
    for kind in ("erasure", "attack", "images"):
        assert not behind[kind] & {"evaluation.evaluate", "metrics.retention", "erasers.esd", "study.cells"}
    assert not any(name.startswith("erasers") for name in behind["attack"])


def test_code_of_one_eraser_is_not_that_of_another() -> None:
    assert code.code_sha256("erasers.uce") != code.code_sha256("erasers.esd")
    assert "erasers.base" in code._imported_by("erasers.uce")


def test_files_include_others(folder: Path) -> None:
    write_study(folder)
    (folder / "more.yaml").write_text(
        "name: more\ninclude: [study.yaml]\nconcepts: [dog]\nreferences: [original]\n"
    )
    found = read_study(folder / "more.yaml")
    assert [matrix.concepts for matrix in found.matrices] == [("church",), ("dog",)]
    (folder / "all.yaml").write_text("name: all\ninclude: [study.yaml]\n")
    assert cells(folder / "all.yaml") == cells(folder / "study.yaml")


def test_defaults_stand_above_every_matrix(tmp_path: Path) -> None:
    top = "name: two\nsuite: quick\nerasers: [uce]\n"
    text = f"{top}matrices:\n- concepts: [church]\n- {{concepts: [weapon], suite: full}}\n"
    (tmp_path / "two.yaml").write_text(text)
    first, second = read_study(tmp_path / "two.yaml").matrices
    assert (first.suite, second.suite) == ("quick", "full")
    assert first.erasers == second.erasers
    assert [cell.title for cell in scores_of(read_study(tmp_path / "two.yaml"))] == [
        "uce, church, seed 0",
        "uce, weapon, seed 0",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("- a\n- b\n", "must be a mapping"),
        ("name: [", "is not YAML"),
        ("name: x\n", "matrices.0.concepts: Field required"),
        ("name: x\nconcepts: []\nerasers: [uce]\n", "concepts"),
        ("name: ../x\nconcepts: [church]\nerasers: [uce]\n", "name: String should match"),
        ("name: x\nconcepts: [church]\n", "compares nothing"),
        ("name: x\nconcepts: [church]\nerasers: [ucee]\n", "did you mean 'uce'"),
        ("name: x\nconcepts: [church]\nerasers: [uce]\nattacks: [p4dn]\n", "did you mean 'p4d_n'"),
        ("name: x\nconcepts: [church]\nerasers: [uce]\nsuite: quik\n", "did you mean 'quick'"),
        ("name: x\nconcepts: [church]\nerasers: [uce]\nseed: [1]\n", "did you mean 'seeds'"),
        ("name: x\nconcepts: [church]\nerasers: [uce]\nseeds: [one]\n", "seeds.0"),
        (
            "name: x\nconcepts: [church]\nerasers: [uce]\nmodel: owner/name\n",
            "brings no prompts and no detector",
        ),
        (
            "name: x\nconcepts: [church]\nerasers: [uce]\nprompts: p.csv\nprompt_set: validation\n",
            "name another table",
        ),
        (
            "name: x\nconcepts: [church]\nerasers: [uce]\nerased_on: emoji\n",
            "names another model than 'emoji'",
        ),
        ("name: x\nconcepts: [church]\nerasers: [uce]\nprompt_set: train\n", "'validation' or 'test'"),
        ("name: x\nconcepts: [church]\nerasers: [uce]\ninclude: study\n", "must be lists"),
        ("name: x\nconcepts: [church]\nerasers: [uce]\ndtype: auto\n", "'float32', 'bfloat16' or 'float16'"),
        ("name: x\ninclude: [bad.yaml]\n", "includes itself"),
        ("name: x\ninclude: [none.yaml]\n", "none.yaml"),
        ("name: !!python/object/apply:os.system [ls]\n", "is not YAML"),
        ("name: 2024-13-45\n", "is not YAML (month must be in 1..12"),
        (f"name: {'7' * 5000}\n", "is not YAML"),
        ("name: 0x_\n", "is not YAML"),
        ("name: !!int abc\n", "is not YAML"),
        ("name: !!float abc\n", "is not YAML"),
        ("name: !!bool xyz\n", "is not YAML"),
        ("name: !!timestamp abc\n", "is not YAML"),
        (f"? 0x{'f' * 5000}\n: x\n", "must be a mapping"),
        (
            "name: x\nconcepts: [church]\nerasers: &a [{eraser: uce, erasers: *a}]\n",
            "a study has no 'erasers'",
        ),
        ("name: x\nconcepts: &a [*a]\nerasers: [uce]\n", "concepts.0"),
        ("name: x\ninclude: &a [*a]\n", "names of files"),
        ('name: x\nwords: "a\\0b"\n', "names a file that cannot be"),
        ('name: x\nerasers: [{eraser: uce, words: "a\\0b"}]\n', "names a file that cannot be"),
        ("name: x\nconcepts: [church]\nerasers: [uce]\nseeds: [-1]\n", "seeds.0"),
        (f"name: x\nconcepts: [church]\nerasers: [uce]\nseeds: [{2**63}]\n", "seeds.0"),
        ("name: x\nconcepts: [church]\nerasers: [uce]\nattack_seed: -1\n", "attack_seed"),
    ],
)
def test_bad_files_are_refused_in_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_study(tmp_path / "bad.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_slip_in_a_file_that_is_included_is_refused(folder: Path) -> None:
    write_study(folder, seed=[1])
    (folder / "all.yaml").write_text("name: all\ninclude: [study.yaml]\n")
    with pytest.raises(InputError, match=r"study\.yaml: a study has no 'seed'; did you mean 'seeds'"):
        read_study(folder / "all.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "concepts: [church]\nerasers: ['uce:emojy']",
        "concepts: [churhc]\nerasers: [uce]",
        "concepts: [church]\nerasers: [{eraser: uce, settings: {rige: 1}}]",
    ],
)
def test_unknown_presets_concepts_and_settings_are_refused_in_the_plan(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(f"name: x\n{text}\n")
    with pytest.raises(InputError, match="did you mean"):
        cells(tmp_path / "bad.yaml")


def test_costs_are_those_of_like_cells(folder: Path) -> None:
    every = cells(write_study(folder, erasers=["uce", "esd"]))
    attacks = [cell for cell in every if cell.kind == "attack"]
    assert len(attacks) == 3
    uce = next(cell for cell in every if cell.config.get("eraser") == "uce")
    record = {"kind": "erasure", "config": dict(uce.config), "seconds": 7.0, "bytes": 100}
    found = estimate([uce, *attacks], [record])
    assert (found.seconds, found.bytes, found.known, found.unknown) == (7.0, 100, 1, 3)
    esd = next(cell for cell in every if cell.config.get("eraser") == "esd")
    assert estimate([esd], [record]).known == 1, "an erasure, if of another method"
    own = {"kind": "erasure", "config": dict(esd.config), "seconds": 40.0, "bytes": 100}
    assert estimate([esd], [record, own]).seconds == 40.0
    assert estimate([esd], [record, own]).memory_mb == 0, "older manifests have none"
    known = [
        {**own, "peak_memory_mb": 700},
        {**own, "peak_memory_mb": 900},
        {**record, "peak_memory_mb": 800},
    ]
    assert estimate([uce, esd, *attacks], known).memory_mb == 900, "the largest: it has to be there"
    assert estimate([uce], known).memory_mb == 800, "cells that are less alike do not count"


@pytest.mark.parametrize("file", sorted(SMOKE.parent.glob("*.yaml")), ids=lambda file: file.stem)
def test_studies_that_ship_fit_the_schema_and_can_be_planned(file: Path) -> None:
    jsonschema.validate(yaml.safe_load(file.read_text()), json_schema())
    assert len(scores_of(read_study(file))) >= 3


@pytest.mark.parametrize(
    "wrong",
    [{"seed": [1]}, {"seeds": ["one"]}, {"erasers": [{"method": "uce"}]}, {"matrices": [{"attack": []}]}],
)
def test_an_editor_sees_what_is_wrong(wrong: dict[str, Any]) -> None:
    good = {
        "name": "x",
        "concepts": ["church"],
        "erasers": ["uce", {"eraser": "esd", "settings": {"lr": 1}}],
    }
    jsonschema.validate(good, json_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**good, **wrong}, json_schema())


def test_where_files_lie_decides_nothing(tmp_path: Path) -> None:
    here = cells(write_study(tmp_path / "here"))
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    there = cells(write_study(tmp_path / "there"))
    assert [cell.id for cell in here] == [cell.id for cell in there]
    assert [cell.config["model"] for cell in here] != [cell.config["model"] for cell in there]


def test_full_effort_meets_the_first_prompts_of_the_set_test() -> None:
    (matrix,) = read_study(SMOKE.with_name("full_effort.yaml")).matrices
    testbed: Testbed = registry.load("testbeds", matrix.model)()
    for name in matrix.concepts:
        file = matrix.file("prompts", name)
        assert file is not None
        first = testbed.prompts(testbed.resolve(name, None), SUITES["standard"].n_prompts, "test")[:8]
        assert list(read_prompts(file)) == list(first)


def test_a_model_in_one_file_counts_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    for place, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / place).write_bytes(content)
    digests = {place: model_sha256(str(tmp_path / place)) for place in "abc"}
    assert digests["a"] == digests["b"] != digests["c"]

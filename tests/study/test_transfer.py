"""Erased text encoders in another model, as a study compares them."""

from __future__ import annotations

from pathlib import Path

from sgrace.api import load_model
from sgrace.study import cells_of, read_study
from sgrace.study.cells import scores_of
from sgrace.study.engine import inline
from sgrace.study.lines import lines_of
from sgrace.study.place import open_store

from .made import OPTIONS, write_study

TEXT = {"eraser": "hirm", "settings": {"iterations": "1"}}


def test_erasures_of_one_model_are_measured_in_another(tmp_path: Path) -> None:
    fields = {"erasers": [TEXT], "matrices": [{}, {"model": "other", "erased_on": "tiny"}]}
    file = write_study(tmp_path, model="tiny", **fields)
    own = load_model(tmp_path / "tiny")
    own.with_random_denoiser(seed=5).pipeline.save_pretrained(tmp_path / "other")

    study = read_study(file)
    cells = cells_of(study)
    assert [cell.config["model"] for cell in cells if cell.kind == "erasure"] == [str(tmp_path / "tiny")]
    store = open_store(tmp_path / "out")
    assert {outcome.status for outcome in inline(cells, store, OPTIONS)} == {"made"}
    tables = lines_of(scores_of(study), store)
    (here, own_lines), (there, other_lines) = tables.items()
    assert here == "church on tiny, quick"
    assert there == "church on other, erased on tiny, quick"
    for lines, transferred in ((own_lines, False), (other_lines, True)):
        assert [line.title for line in lines] == ["original", "hirm (iterations=1)"]
        assert [line.evaluations[0].transferred for line in lines] == [False, transferred]
    digests = {line.evaluations[0].target_sha256 for lines in tables.values() for line in lines}
    assert len(digests) == 4, "two denoisers, before and after"


def test_an_eraser_of_the_denoiser_fails_there_with_its_reason(tmp_path: Path) -> None:
    file = write_study(tmp_path, erasers=["uce"], model="emoji_narrow", erased_on=str(tmp_path / "tiny"))
    cells = cells_of(read_study(file))
    outcomes = list(inline(cells, open_store(tmp_path / "out"), OPTIONS))
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    assert failed
    assert all("changes no text encoder" in outcome.why for outcome in failed)

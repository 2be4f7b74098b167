"""What a study file names: found from its folder, counted by its content."""

from __future__ import annotations

from pathlib import Path

from sgrace.study import Cell
from sgrace.study.inputs import place_sha256
from sgrace.study.make.common import given

from .made import cells, write_study


def test_models_and_files_of_detectors_count_by_their_content(tmp_path: Path) -> None:
    settings = {"vectors": "probe.pt", "clip": "./clip"}

    def study(name: str) -> list[Cell]:
        folder = tmp_path / name
        file = write_study(folder, model="tiny", detector="q16", detector_settings=settings)
        (folder / "clip").mkdir(exist_ok=True)
        (folder / "clip" / "weights").write_text("1")
        (folder / "probe.pt").write_text("1")
        return cells(file)

    here, there = study("here"), study("there")
    assert [cell.id for cell in here] == [cell.id for cell in there]
    attack = next(cell for cell in there if cell.kind == "attack")
    assert attack.config["model"] == str(tmp_path / "there" / "tiny")
    assert given(attack)["detector_options"] == {
        "vectors": str(tmp_path / "there" / "probe.pt"),
        "clip": str(tmp_path / "there" / "clip"),
    }
    place_sha256.cache_clear()
    (tmp_path / "there" / "clip" / "weights").write_text("2")
    known = {cell.id for cell in here}
    changed = {cell.kind for cell in cells(tmp_path / "there" / "study.yaml") if cell.id not in known}
    assert changed == {"attack", "score"}

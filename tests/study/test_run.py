"""Cells are made once, failures stay alone, and every way of running ends in the same results."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sgrace._util.errors import InputError
from sgrace.attacks import AttackSet
from sgrace.study import Cell, Store
from sgrace.study.engine import Outcome, attempt, inline, sharded
from sgrace.study.lines import lines_of
from sgrace.study.make.common import ATTACK_SET
from sgrace.study.make.score import VERDICTS, verdicts_of
from sgrace.study.place import find_store, open_store
from sgrace.study.remote import RemoteStore
from sgrace.study.store import FAILURES, MANIFEST, PARTIAL, STUDY
from sgrace.study.table import table_of
from sgrace.testbeds.loading import LoadOptions

from .made import ESD, OPTIONS, cells, results, write_study

#: One of the 256 levels in which images are kept, of values in -1..1.
LEVEL = 1.01 * 2 / 255


@pytest.fixture(scope="module")
def done(every: list[Cell], tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The whole study, undisturbed."""
    store = open_store(tmp_path_factory.mktemp("home") / "out")
    assert statuses(inline(every, store, OPTIONS)) == {"made": len(every)}
    return store


def statuses(outcomes: object) -> dict[str, int]:
    found = list(outcomes)  # type: ignore[call-overload]
    assert all(isinstance(each, Outcome) for each in found)
    return Counter(each.status for each in found)


def test_a_second_run_makes_nothing(every: list[Cell], done: Store) -> None:
    before = {file: file.stat().st_mtime_ns for file in done.folder.rglob("*")}
    assert statuses(inline(every, done, OPTIONS)) == {"finished": len(every)}
    assert {file: file.stat().st_mtime_ns for file in done.folder.rglob("*")} == before
    assert not list((done.folder / PARTIAL).glob("*"))


def test_what_is_missing_is_made_again(every: list[Cell], done: Store, tmp_path: Path) -> None:
    store = copied(done, tmp_path)
    lost = next(cell for cell in every if cell.kind == "attack" and "erasure" in cell.needs)
    shutil.rmtree(store.path(lost))
    assert statuses(inline(every, store, OPTIONS)) == {"finished": len(every) - 1, "made": 1}
    assert results(store, every) == results(done, every)


def test_the_batch_size_changes_no_image(tmp_path: Path) -> None:
    file = write_study(tmp_path, erasers=["uce"])
    rows = [f"{seed},a photo of church {'by a tree' * (seed % 2)}\n" for seed in range(9)]
    (tmp_path / "prompts.csv").write_text("seed,prompt\n" + "".join(rows))
    every = cells(file)
    attacks = [cell for cell in every if cell.kind == "attack"]
    found: dict[int, list[Tensor]] = {}
    for batch_size in (1, 3, 8):
        store = open_store(tmp_path / str(batch_size))
        made = inline(every, store, LoadOptions(device="cpu", batch_size=batch_size))
        assert statuses(made) == {"made": len(every)}
        found[batch_size] = [
            AttackSet.from_pretrained(store.path(cell) / ATTACK_SET).images for cell in attacks
        ]
    for alone, by_three, by_eight in zip(*found.values(), strict=True):
        assert len(alone.unique(dim=0)) == 9, "each prompt and seed has an image of its own"
        torch.testing.assert_close(by_three, alone, rtol=0, atol=LEVEL)
        torch.testing.assert_close(by_eight, alone, rtol=0, atol=LEVEL)


def test_shards_together_are_the_whole(every: list[Cell], done: Store, tmp_path: Path) -> None:
    parts = [sharded(every, (i, 3)) for i in (1, 2, 3)]
    assert sorted(cell.id for part in parts for cell in part) == sorted(cell.id for cell in every)
    store = open_store(tmp_path / "out")
    for part in parts:
        assert statuses(inline(part, store, OPTIONS)) == {"made": len(part)}
    assert results(store, every) == results(done, every)


def test_a_failure_stops_no_other_and_is_told(tmp_path: Path) -> None:
    file = write_study(tmp_path, erasers=["uce"])
    good = cells(file)
    bad = cells(write_study(tmp_path, erasers=["uce"], detector_settings={"thresold": 1}))
    store = open_store(tmp_path / "out")
    every = [*good, *(cell for cell in bad if cell not in good)]
    outcomes = list(inline(every, store, OPTIONS))
    found = Counter(each.status for each in outcomes)
    assert found == {"made": len(good), "failed": 2, "blocked": 2}
    failed = [each for each in outcomes if each.status == "failed"]
    assert all("did you mean 'threshold'" in each.why and "\n" not in each.why for each in failed)
    assert len(list((store.folder / FAILURES).glob("*.json"))) == 2

    again = list(inline(every, store, OPTIONS))
    assert Counter(each.status for each in again) == {"finished": len(good), "failed": 2, "blocked": 2}
    assert all(each.seconds == 0 for each in again), "they are not tried again"
    tried = [each for each in inline(every, store, OPTIONS, retry_failed=True) if each.status == "failed"]
    assert all(each.seconds > 0 for each in tried)


def test_what_is_mended_is_no_failure(every: list[Cell], done: Store, tmp_path: Path) -> None:
    store = copied(done, tmp_path)
    cell = every[-1]
    shutil.rmtree(store.path(cell))
    store.fail(cell, "it was a bad day")
    assert attempt(cell, store, OPTIONS).status == "failed"
    assert attempt(cell, store, OPTIONS, retry_failed=True).status == "made"
    assert store.failure(cell) is None


def test_two_that_make_the_same_cell_do_not_meet(every: list[Cell], done: Store, tmp_path: Path) -> None:
    store = open_store(tmp_path / "out")
    cell = every[0]
    with store.making(cell) as first:
        shutil.copytree(done.path(cell), first, dirs_exist_ok=True)
        with store.making(cell) as second:
            shutil.copytree(done.path(cell), second, dirs_exist_ok=True)
            (second / "second").touch()
        assert store.is_finished(cell)
    assert (store.path(cell) / "second").exists(), "the first that is ready counts"
    assert not list((store.folder / PARTIAL).iterdir())


def test_what_a_lost_process_left_is_removed(every: list[Cell], tmp_path: Path) -> None:
    store = open_store(tmp_path / "out")
    with store.making(every[0]) as partial:
        host, _, rest = partial.name.rpartition("-")[0].rpartition("-")
        assert rest.isdigit()
        orphan = partial.parent / f"{host}-{2**22 + 7}-0"  # no process has such a number
        foreign = partial.parent / "elsewhere-1-0"
        orphan.mkdir()
        foreign.mkdir()
        with store.making(every[1]):
            assert partial.exists()
            assert foreign.exists(), "another machine's are not ours to remove"
            assert not orphan.exists()


def test_changes_by_hand_are_found(every: list[Cell], done: Store, tmp_path: Path) -> None:
    store = copied(done, tmp_path)
    assert all(store.changed(cell) == [] for cell in every)
    one, two, three, four, five = every[:5]
    victim = next(file for file in store.path(one).rglob("*") if file.name != MANIFEST and file.is_file())
    victim.write_bytes(victim.read_bytes() + b" ")
    (store.path(two) / "more.txt").touch()
    next(file for file in store.path(three).rglob("*") if file.name != MANIFEST and file.is_file()).unlink()
    record = json.loads((store.path(four) / MANIFEST).read_text())
    record["config"]["concept"]["name"] = "dog"
    (store.path(four) / MANIFEST).write_text(json.dumps(record))
    assert store.changed(one) == [str(victim.relative_to(store.path(one)))]
    assert store.changed(two) == ["more.txt"]
    assert len(store.changed(three)) == 1
    assert store.changed(four) == [MANIFEST]
    assert store.changed(five) == []


def test_folders_that_are_no_studies_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match="not empty"):
        open_store(tmp_path)
    with pytest.raises(InputError, match="holds no study"):
        find_store(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_in_which_a_process_was_killed_as_it_began_is_used(tmp_path: Path) -> None:
    left = tmp_path / f".{STUDY}.0123abcd.partial"
    left.touch()
    open_store(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [STUDY]
    (tmp_path / STUDY).rename(left)
    (tmp_path / ".mine.partial").touch()
    with pytest.raises(InputError, match="not empty"):
        open_store(tmp_path)


def test_a_store_that_cannot_be_read_stops_no_other_cell(
    every: list[Cell], done: Store, tmp_path: Path
) -> None:
    """Files stand where its folders for notes and for what is being made should be."""
    store = copied(done, tmp_path)
    bad = next(cell for cell in every if cell.kind == "attack")
    store.fail(bad, "it was a bad day")
    shutil.rmtree(store.path(bad))
    note = store.folder / FAILURES
    shutil.rmtree(note)
    note.touch()  # notes cannot be written
    shutil.rmtree(store.folder / PARTIAL)
    (store.folder / PARTIAL).touch()  # nothing can be made
    found = {outcome.cell.id: outcome for outcome in inline(every, store, OPTIONS)}
    assert found[bad.id].status == "failed"
    assert Counter(each.status for each in found.values()) == {"finished": len(every) - 1, "failed": 1}


def test_an_attack_on_every_prompt_counts_what_is_its_own(tmp_path: Path) -> None:
    """Random tokens do not show a church, though the original draws it for every prompt as it is."""
    text = (
        "name: x\nconcepts: [church]\nreferences: [original]\nsuite: smoke\nattacks: [none, random_tokens]\n"
    )
    store = open_store(tmp_path / "out")
    shown: dict[bool, dict[str, int]] = {}
    for every_prompt in (False, True):
        (tmp_path / "x.yaml").write_text(f"{text}every_prompt: {every_prompt}\n")
        attacks = [cell for cell in cells(tmp_path / "x.yaml") if cell.kind == "attack"]
        assert "failed" not in statuses(inline(attacks, store, OPTIONS))
        found = {cell: AttackSet.from_pretrained(store.path(cell) / ATTACK_SET) for cell in attacks}
        shown[every_prompt] = {cell.config["attack"]: sum(verdicts_of(cell, found[cell])) for cell in attacks}
    assert shown[False]["none"] == shown[True]["none"] >= 3
    assert shown[False]["random_tokens"] >= shown[False]["none"]
    assert shown[True]["random_tokens"] == 0


def test_tables_show_what_is_finished(every: list[Cell], done: Store, tmp_path: Path) -> None:
    scores = [cell for cell in every if cell.kind == "score"]
    (name, lines), *more = lines_of(scores, done).items()
    assert not more
    settings = ", ".join(f"{name}={value}" for name, value in ESD.items())
    assert [line.title for line in lines] == ["original", "uce", f"esd, release-2025 ({settings})"]
    text = table_of(name, lines, against="original").markdown()
    assert "100% [34%, 100%]" in text, "the detector says always"
    assert "+0% [-66%, +66%] | 1.000" in text
    store = copied(done, tmp_path)
    shutil.rmtree(store.path(scores[1]))
    assert [line.title for line in lines_of(scores, store)[name]] == [lines[0].title, lines[2].title]


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"none": 1}', '{"none": []}', '{"none": [1]}', '{"eye": [true]}']
)
def test_verdicts_that_were_changed_are_told(
    every: list[Cell], done: Store, tmp_path: Path, text: str
) -> None:
    store = copied(done, tmp_path)
    (store.path(every[-1]) / VERDICTS).write_text(text)
    with pytest.raises(InputError, match=r"verdicts\.json was changed"):
        lines_of([cell for cell in every if cell.kind == "score"], store)


def copied(store: Store, tmp_path: Path) -> Store:
    shutil.copytree(store.folder, tmp_path / "copy")
    return find_store(tmp_path / "copy")


def test_url_stores_hold_the_same(every: list[Cell], done: Store, tmp_path: Path) -> None:
    """Any file system of fsspec; this one lives in memory."""
    url = f"memory://{tmp_path.name}/study"
    store = open_store(url)
    assert statuses(inline(every, store, OPTIONS)) == {"made": len(every)}
    shutil.rmtree(store.folder)
    elsewhere = find_store(url)
    assert isinstance(elsewhere, RemoteStore)
    assert statuses(inline(every, elsewhere, OPTIONS)) == {"finished": len(every)}
    found = {name: without(digests, MANIFEST) for name, digests in results(elsewhere, every).items()}
    assert found == {name: without(digests, MANIFEST) for name, digests in results(done, every).items()}
    assert len(list(elsewhere.manifests())) == len(every)
    assert all(elsewhere.changed(cell) == [] for cell in every)

    cell = every[0]
    paths = [path for path in elsewhere.files.find(url) if cell.id in path and MANIFEST not in path]
    elsewhere.files.pipe_file(paths[0], b"other")
    elsewhere.files.rm_file(paths[1])
    assert len(elsewhere.changed(cell)) == 2

    elsewhere.files.rm_file(f"{url}/cells/{cell.kind}/{cell.id}/{MANIFEST}")
    elsewhere.fail(cell, "it was a bad day")
    assert attempt(cell, elsewhere, OPTIONS).why == "it was a bad day"
    assert attempt(cell, elsewhere, OPTIONS, retry_failed=True).status == "made"
    assert elsewhere.failure(cell) is None
    assert elsewhere.changed(cell) == []


def test_urls_that_nobody_knows_are_refused() -> None:
    with pytest.raises(InputError, match=r"nowhere://x"):
        open_store("nowhere://x/y")


@pytest.mark.parametrize("url", ["memory://", "s3:///", "://x"])
def test_urls_without_a_path_are_no_folders(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="names no place"):
        open_store(url)
    assert not list(tmp_path.iterdir())


def test_what_is_read_from_a_url_is_kept_for_this_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    open_store(f"memory://{tmp_path.name}/private")
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    with pytest.raises(InputError, match="not this user's alone"):
        open_store(f"memory://{tmp_path.name}/private")


def without(digests: dict[str, str], name: str) -> dict[str, str]:
    return {file: digest for file, digest in digests.items() if file != name}

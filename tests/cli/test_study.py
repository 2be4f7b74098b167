"""``sgrace study``: from a file to tables, and errors in a sentence."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..study.made import write_study
from .conftest import assert_refused, sgrace


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), erasers=["uce"])


@pytest.fixture(scope="module")
def out(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("home") / "out"
    planned = sgrace("study", "plan", file, "-o", out)
    assert planned.exit_code == 0, planned.output
    assert "5 cells are missing: of 5 the like was never made" in planned.stdout
    assert "score         2 cells, 0 finished; they read 1 erasure, 2 attack\n" in planned.stdout
    assert not out.exists(), "a plan writes nothing"
    made = sgrace("study", "run", file, "-o", out, "--device", "cpu")
    assert made.exit_code == 0, made.output
    assert made.stdout == "5 made\n"
    return out


def test_it_goes_on(file: Path, out: Path) -> None:
    assert sgrace("study", "run", file, "-o", out).stdout == "5 finished\n"
    told = sgrace("study", "run", file, "-o", out, "--report-to", "tensorboard")
    assert told.stdout == "5 finished\n"
    assert list(out.glob("tensorboard/*/events.*"))
    assert "Nothing is missing." in sgrace("study", "plan", file, "-o", out).stdout
    status = sgrace("study", "status", file, "-o", out).stdout
    assert status.splitlines() == [
        "erasure  1 of 1 finished",
        "attack   2 of 2 finished",
        "images   0 of 0 finished",
        "space    0 of 0 finished",
        "score    2 of 2 finished",
    ]


def test_plans_know_what_cells_cost(file: Path, out: Path) -> None:
    more = write_study(file.parent, erasers=["uce"], seeds=[0, 1])
    planned = sgrace("study", "plan", more, "-o", out).stdout
    assert "3 cells are missing: about " in planned
    found = json.loads(sgrace("study", "plan", more, "-o", out, "--json").stdout)
    assert found["estimate"]["known"] == 3
    assert sum(cell["finished"] for cell in found["cells"]) == 5
    write_study(file.parent, erasers=["uce"])


def test_tables(file: Path, out: Path) -> None:
    printed = sgrace("study", "table", file, "-o", out, "--against", "original")
    assert printed.exit_code == 0, printed.output
    assert printed.stdout.startswith("### church on ")
    assert "| uce | 1 | 100% [34%, 100%] |" in printed.stdout
    assert "| beside original | " in printed.stdout
    assert "Missing" not in printed.stdout
    refused = sgrace("study", "table", file, "-o", out, "--against", "esd")
    assert_refused(refused, "No finished row is called 'esd'; there are original; uce.")
    one = sgrace("study", "table", file, "-o", out, "--row", "uce", "--columns", "seeds,none").stdout
    assert [line for line in one.splitlines() if line.startswith("| ")][2:] == [
        "| uce | 1 | 100% [34%, 100%] |"
    ]
    refused = sgrace("study", "table", file, "-o", out, "--row", "uce", "--row", "esd")
    assert_refused(refused, "No finished row is called 'esd'; there are original; uce.")


def test_the_best_settings_are_told(file: Path, out: Path) -> None:
    printed = sgrace("study", "best", file, "-o", out).stdout
    assert printed.startswith("On church; prompt set test, suite quick, seeds 0.\n")
    assert "| uce | 1 | " in printed
    assert "preset " in printed
    assert "Missing" not in printed


def test_what_a_search_lacks_is_told(out: Path, tmp_path: Path) -> None:
    more = write_study(tmp_path, erasers=["uce", "esd"])
    printed = sgrace("study", "best", more, "-o", out).stdout
    assert "| uce | 1 | " in printed
    assert printed.endswith("\nMissing: esd, church, seed 0.\n")


def test_what_is_changed_by_hand_is_named(file: Path, out: Path) -> None:
    assert (
        sgrace("study", "verify", file, "-o", out).stdout
        == "5 of 5 finished cells are as they were written.\n"
    )
    changed = next(out.glob("cells/score/*/verdicts.json"))
    text = changed.read_text()
    changed.write_text(text.replace("true", "false"))
    found = sgrace("study", "verify", file, "-o", out)
    changed.write_text(text)
    assert found.exit_code == 1
    assert "verdicts.json" in found.stdout
    assert "4 of 5 finished cells are as they were written." in found.stdout


def test_failures_are_told_and_the_exit_code_says_so(file: Path, tmp_path: Path) -> None:
    bad = write_study(file.parent, erasers=["uce"], detector_settings={"thresold": 1}, references=[])
    done = sgrace("study", "run", bad, "-o", tmp_path / "out")
    write_study(file.parent, erasers=["uce"])
    assert done.exit_code == 1
    assert done.stdout == "1 made, 1 failed, 1 blocked\n"
    assert "failed: none: uce, church, seed 0: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.yaml"], "none.yaml"),
        (["status", "FILE"], "holds no study"),
        (["run", "FILE", "--shard", "3/2"], "--shard takes I/N with I from 1 to N, not '3/2'"),
        (["run", "FILE", "--shard", "one"], "--shard takes I/N"),
        (["run", "FILE", "--shard", "²/3"], "--shard takes I/N"),
        (
            ["run", "FILE", "--engine", "ray", "--cpus", "nan"],
            "--cpus takes a part of one, or a whole number, not nan",
        ),
        (
            ["run", "FILE", "--engine", "ray", "--gpus", "1.5"],
            "--gpus takes a part of one, or a whole number, not 1.5",
        ),
        (["run", "FILE", "--address", "auto"], "--address needs --engine ray"),
        (["run", "FILE", "--gpus", "1"], "--gpus needs --engine ray"),
    ],
)
def test_bad_input_is_refused(file: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    given = [str(file) if part == "FILE" else part for part in arguments]
    assert_refused(sgrace("study", *given, "-o", tmp_path / "out"), message)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own, of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False).returncode:
        pytest.skip("only root can mount a disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_told_and_the_study_goes_on_with_more_room(file: Path, small_disk: Path) -> None:
    done = sgrace("study", "run", file, "-o", small_disk / "out", "--device", "cpu", "-q")
    assert done.exit_code in {1, 2}, done.output
    told = done.stderr + "".join(path.read_text() for path in small_disk.glob("out/failures/*.json"))
    assert "No space left on device" in told
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    again = sgrace("study", "run", file, "-o", small_disk / "out", "--retry-failed", "--device", "cpu")
    assert again.exit_code == 0, again.output
    assert sgrace("study", "verify", file, "-o", small_disk / "out").exit_code == 0
    assert not list(small_disk.glob("out/partial/*"))


@pytest.mark.parametrize("out", ["/dev/null/out", "/proc/out"])
def test_folders_that_cannot_be_written_are_refused(file: Path, out: str) -> None:
    assert_refused(sgrace("study", "run", file, "-o", out), "Cannot write")


def test_results_are_checked_and_measured_again(file: Path, out: Path, tmp_path: Path) -> None:
    assert sgrace("study", "results", file, "-o", out, "--to", tmp_path / "r.json").exit_code == 0
    done = sgrace("study", "submit", tmp_path / "r.json", file, "-o", out)
    assert done.exit_code == 0, done.output
    assert done.stdout.count("| 100% [34%, 100%], seeds 0 | 100% [34%, 100%], seeds 0 |") == 2
    text = (tmp_path / "r.json").read_text()
    (tmp_path / "r.json").write_text(text.replace('"uce"', '"mine"'))
    assert_refused(sgrace("study", "submit", tmp_path / "r.json", file, "-o", out), "was changed")


def test_results_stand_in_the_place_of_the_cells(file: Path, out: Path, tmp_path: Path) -> None:
    results = tmp_path / "r.json"
    assert sgrace("study", "results", file, "-o", out, "--to", results).exit_code == 0
    known = sgrace("study", "table", file, "-o", out, "--against", "original").stdout
    assert sgrace("study", "table", results, "--against", "original").stdout == known
    assert sgrace("study", "report", results, "--page", tmp_path / "page.html").exit_code == 0
    assert "100% [34%, 100%]" in (tmp_path / "page.html").read_text()
    assert sgrace("study", "submit", results, results).exit_code == 0
    both = tmp_path / "both.json"
    assert sgrace("study", "results", file, "-o", out, "--with", results, "--to", both).exit_code == 0
    assert both.read_text() == results.read_text(), "nothing is new"
    assert_refused(sgrace("study", "table", results, "-o", out), "has results, which need no -o")
    assert_refused(sgrace("study", "table", file), "needs -o with the folder of its cells")


def table_in(text: str) -> list[list[str]]:
    """The entries of the table's lines, without the line below its head."""
    lines = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    return [[entry.strip() for entry in line.split("|")[1:-1]] for line in lines]


def test_columns_are_chosen(file: Path, out: Path) -> None:
    done = sgrace("study", "table", file, "-o", out, "--columns", "target, none")
    (head,) = {line for line in done.stdout.splitlines() if line.startswith("|  |")}
    assert head == "|  | target | none |"
    turned = sgrace("study", "table", file, "-o", out, "--columns", "target, none", "--transpose")
    assert table_in(turned.stdout) == list(map(list, zip(*table_in(done.stdout), strict=True)))
    refused = sgrace("study", "table", file, "-o", out, "--columns", "taste")
    assert_refused(refused, "No column is called 'taste'; there are seeds, none, ")


def test_a_summary_has_all_concepts_or_some(file: Path, out: Path) -> None:
    done = sgrace("study", "table", file, "-o", out, "--summary")
    assert done.stdout.splitlines()[0] == "|  | church: prompts | church: words | church: kept |"
    titles = [row.split(" | ")[0] for row in done.stdout.splitlines()[2:]]
    assert titles == ["| original", "| uce"]
    one = sgrace("study", "table", file, "-o", out, "--summary", "--row", "uce")
    assert one.stdout.splitlines() == [each for each in done.stdout.splitlines() if "original" not in each]
    both = sgrace("study", "table", file, "-o", out, "--summary", "--columns", "rest")
    assert_refused(both, "--summary takes none of --columns, --against and --transpose")
    assert sgrace("study", "table", file, "-o", out, "--concept", "church").exit_code == 0
    refused = sgrace("study", "table", file, "-o", out, "--concept", "boat")
    assert_refused(refused, "No finished row is of 'boat'; there are church.")


def test_a_page(file: Path, out: Path, tmp_path: Path) -> None:
    assert sgrace("study", "report", file, "-o", out, "--page", tmp_path / "page.html").exit_code == 0
    assert "100% [34%, 100%]" in (tmp_path / "page.html").read_text()
    again = sgrace("study", "report", file, "-o", out, "--page", tmp_path / "page.html")
    assert_refused(again, "exists already")
    assert sgrace("study", "results", file, "-o", out, "--to", tmp_path / "r.json").exit_code == 0
    board = ("--page", tmp_path / "board.html", "--with", tmp_path / "r.json")
    assert sgrace("study", "report", file, "-o", out, *board).exit_code == 0
    assert "uce (reported)" in (tmp_path / "board.html").read_text()
    (tmp_path / "r.json").write_text((tmp_path / "r.json").read_text().replace('"uce"', '"mine"'))
    refused = sgrace("study", "report", file, "-o", out, "--page", tmp_path / "no.html", *board[2:])
    assert_refused(refused, "was changed")
    assert not (tmp_path / "no.html").exists()

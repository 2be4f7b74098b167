"""Which rows stand in one table, and how they are compared."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sgrace._util.errors import InputError
from sgrace.evaluation.schema import Rate
from sgrace.metrics import Share
from sgrace.metrics.intervals import wilson
from sgrace.metrics.repeated import Counts, mean_share, mean_share_difference
from sgrace.study import read_study
from sgrace.study.cells import scores_of
from sgrace.study.lines import Line, tables_of, timed_alike
from sgrace.study.table import table_of

from ..report.made import attack_row, evaluation, kept

START = "church on emoji, smoke"
STUDY = """
name: x
suite: smoke
concepts: [church]
matrices:
  - {erasers: [uce], seeds: [0, 1]}
  - {erasers: [sld]}
"""


def tables(folder: Path, last: str) -> list[str]:
    """Tables of the scorings, with a field in the last matrix."""
    (folder / "x.yaml").write_text(STUDY.replace("[sld]", f"[sld], {last}"))
    return [name for _, name in tables_of(scores_of(read_study(folder / "x.yaml")))]


def test_rows_of_one_protocol_share_a_table(tmp_path: Path) -> None:
    assert tables(tmp_path, "references: [gold]") == [START] * 4


@pytest.mark.parametrize(
    ("field", "first", "last"),
    [
        ("attacks: [none]", "attacks none + ring_a_bell_soft", "attacks none"),
        ("dtype: bfloat16", "dtype float32", "dtype bfloat16"),
        ("attack_seed: 4", "seed 0", "seed 4"),
        ("detector: always", "detector None", "detector always"),
    ],
)
def test_rows_of_another_protocol_stand_in_another_table(
    tmp_path: Path, field: str, first: str, last: str
) -> None:
    assert tables(tmp_path, field) == [f"{START}, {first}"] * 2 + [f"{START}, {last}"]


@pytest.mark.parametrize(
    ("field", "told"),
    [("prompt_set: validation", "validation"), ("every_prompt: true", "every prompt attacked")],
)
def test_what_is_unusual_is_always_told(tmp_path: Path, field: str, told: str) -> None:
    assert tables(tmp_path, field) == [START, START, f"{START}, {told}"]


def row(
    title: str, verdicts: list[str], right: list[int], seconds: float, device: str | None = "cpu"
) -> Line:
    """A row with verdicts and right images of 96 of two questions, by seed."""
    found = Line(title)
    for marks, hits in zip(verdicts, right, strict=True):
        questions = (kept("rest", 90, hits), kept("withheld unrelated", 90, hits))
        cost: dict[str, object] = {"seconds": seconds, "device": device, "cost": {}}
        found.evaluations.append(
            evaluation(attack_row("none", marks.count("1"), 8), retention=questions, cost=cost)
        )
        found.verdicts.append({"none": [mark == "1" for mark in marks]})
        found.seeds.append(len(found.seeds))
    return found


def test_a_row_is_compared_in_robustness_in_what_is_kept_and_in_time() -> None:
    ours = row("ours", ["00000000", "10000000"], [90, 92], 10)
    slow = row("slow", ["11111111", "11111110"], [60, 62], 45)
    alike = row("alike", ["00000000", "01000000"], [91, 91], 10)
    found = table_of("x", [ours, slow, alike], against="ours").compared
    rows = {title: rest for title, *rest in found}
    assert list(rows) == ["slow", "alike"]
    worst, p_value, share, time = rows["slow"]
    assert worst.startswith("+88% [+")
    assert float(p_value) < 0.05
    assert share.startswith("-31% [-")
    assert float(share.split()[2].rstrip("%]")) < -20, "the whole interval is below"
    assert time == "4.50"
    assert rows["alike"][1] == "1.000"
    ends = [float(end.strip("[,]%")) for end in rows["alike"][2].split()[1:]]
    assert ends[0] < 0 < ends[1]


def test_a_precision_that_is_not_float32_is_told() -> None:
    rows = [row(name, ["0" * 8], [90], 10) for name in ("one", "other")]
    rows[0].protocol = {"dtype": "float32"}
    for kind, start in (("float32", "8 prompts;"), ("bfloat16", "precision bfloat16 or float32; 8 prompts;")):
        rows[1].protocol = {"dtype": kind}
        assert table_of("x", rows).protocol.startswith(start)


def test_seconds_of_another_device_are_told_and_not_compared() -> None:
    here, there = row("here", ["0" * 8], [90], 10), row("there", ["0" * 8], [90], 2, "NVIDIA H100")
    found = table_of("x", [here, there], "here", ["seconds"])
    assert [entries[1].text for entries in found.rows] == ["10 on cpu", "2 on NVIDIA H100"]
    assert found.compared[0][-1] == ""
    alone = table_of("x", [here, row("also", ["0" * 8], [90], 20)], "here", ["seconds"])
    assert [entries[1].text for entries in alone.rows] == ["10", "20"]
    assert alone.compared[0][-1] == "2.00"
    mixed = row("mixed", ["0" * 8], [90], 10)
    mixed.evaluations += there.evaluations
    assert mixed.seconds == 10, "of the seeds that were erased where the first was"
    assert timed_alike([mixed, there]) == [(mixed, 10)]


def test_what_steers_the_sampling_is_marked_and_beats_nobody() -> None:
    plain, steered = row("plain", ["1" * 8], [90], 1), row("steered", ["0" * 8], [96], 1)
    steered.evaluations = [found.model_copy(update={"method": "sld"}) for found in steered.evaluations]
    found = table_of("x", [plain, steered])
    assert [entries[0].text for entries in found.rows] == ["plain", "steered (guidance)"]
    assert found.best == ("plain",)


def test_hits_of_each_seed_stand_beside_the_share() -> None:
    found = table_of("x", [row("two", ["11000000", "00000000"], [90, 90], 1)], columns=["none", "seeds"])
    ((_, shown, seeds),) = found.rows
    assert shown.text.startswith("12% [0%, ")
    assert shown.text.endswith("] (2, 0)")
    assert seeds.text == "2"


def test_a_row_that_is_shown_alone_is_compared_with_all() -> None:
    good, bad = row("good", ["00000000"], [90], 1), row("bad", ["11111111"], [60], 1)
    found = table_of("x", [good, bad], "good", titles=["bad"])
    assert [entries[0].text for entries in found.rows] == ["bad"]
    assert found.best == (), "the other row beats it"
    assert [entries[0] for entries in found.compared] == ["bad"]


def test_attacks_of_other_tables_are_no_columns_of_this_one() -> None:
    found = table_of("x", [row("two", ["11000000"], [90], 1)], columns=["none", "p4d_n", "seeds"])
    assert found.head == ("", "none", "seeds")
    with pytest.raises(InputError, match="No column is called 'taste'"):
        table_of("x", [row("two", ["11000000"], [90], 1)], columns=["none", "taste"])


def test_a_learned_word_is_one_observation() -> None:
    line = Line("x", verdicts=[{"concept_inversion": [True] * 24}] * 2)
    success = Rate.of(Share(24, 24, 4))
    attack = attack_row("concept_inversion", 24, 24).model_copy(update={"success": success})
    line.evaluations = [evaluation(attack)] * 2
    assert line.share(["concept_inversion"]) == (1.0, *wilson(8, 8))


def test_what_is_kept_has_an_interval() -> None:
    one = Counts(torch.tensor([[45.0]]), torch.tensor([[48.0]]))
    assert mean_share(one) == (45 / 48, *wilson(45, 48))
    seeds = Counts(torch.tensor([[24.0], [48.0]]), torch.tensor([[48.0], [48.0]]))
    found = mean_share(seeds)
    assert found.mean == 0.75
    assert found.low < 0.55, "one seed may be drawn twice"
    assert found.high > 0.95


def test_nothing_but_right_images_is_no_proof() -> None:
    perfect = Counts(torch.full((1, 2), 48.0), torch.full((1, 2), 48.0))
    found = mean_share_difference(perfect, perfect)
    assert found.mean == 0
    assert found.low < 0 < found.high
    # two binomials of 96 images, both with a share of 48.5 / 49
    assert found.high == pytest.approx(1.96 * (2 * (48.5 / 49) * (0.5 / 49) / 96) ** 0.5, rel=0.3)
    many = Counts(torch.full((1, 2), 4800.0), torch.full((1, 2), 4800.0))
    assert mean_share_difference(many, many).high < found.high / 5

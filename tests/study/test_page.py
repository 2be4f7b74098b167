"""The page of a study: tables that a browser sorts, and a plot of what is kept against what comes back."""

from __future__ import annotations

import json
import shutil
import subprocess
from base64 import b64decode
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest

from sgrace.study.lines import Line
from sgrace.study.pace import pace_rows
from sgrace.study.page import write_page
from sgrace.study.plots import BOTTOM, LABEL, kept_plot, plots_of, time_plot
from sgrace.study.table import table_of

from ..report.made import attack_row, evaluation, kept

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

#: Sorts by the second column, and tells the order and whether anything sticks out.
PROBE = """<script>addEventListener("load", () => {
  const rows = () => [...document.querySelectorAll("tbody tr")].map(row => row.cells[0].textContent.trim());
  const buttons = [...document.querySelectorAll("th button")];
  const button = buttons.find(each => each.textContent === "worst by prompt");
  const orders = [rows()];
  for (let i = 0; i < 2; i++) { button.click(); orders.push(rows()); }
  document.body.dataset.found = btoa(encodeURIComponent(JSON.stringify({
    orders, sort: button.parentElement.getAttribute("aria-sort"),
    wide: document.documentElement.scrollWidth > innerWidth,
    labels: [...document.querySelectorAll("circle + text")].map(each => {
      const box = each.getBBox(), all = each.ownerSVGElement.viewBox.baseVal;
      return box.x + box.width <= all.width && box.y + box.height <= all.height;
    }),
    slanted: [...document.querySelectorAll("td:first-child")]
      .filter(each => getComputedStyle(each).fontStyle === "italic").map(each => each.textContent.trim()),
    open: [...document.querySelectorAll("circle")]
      .filter(each => getComputedStyle(each).fill === "none").length,
  })));
});</script>"""


def line(title: str, hits: str, right: int) -> Line:
    """A row with one verdict a prompt, and so many of 96 images of withheld classes that are right."""
    found = evaluation(attack_row("none", hits.count("1"), len(hits)))
    found = found.model_copy(update={"retention": (kept("withheld unrelated", 90, right),)})
    return Line(title, {}, {}, [0], [found], [{"none": [mark == "1" for mark in hits]}])


def reported(title: str, hits: str, right: int) -> Line:
    """The like, as somebody else reports it."""
    found = line(title, hits, right)
    found.is_reported = True
    return found


LINES = [
    line("original", "1111", 90),
    line("safe", "0000", 50),
    line("kind", "1100", 80),
    line("bad", "1110", 40),
]


def test_the_plot_has_a_dot_for_each_row() -> None:
    dots = {dot.title: dot for dot in kept_plot(LINES).dots}
    assert dots["safe"].y == BOTTOM
    assert dots["original"].y < dots["bad"].y < dots["kind"].y
    assert dots["bad"].x < dots["safe"].x < dots["kind"].x
    assert [dot.title for dot in dots.values() if dot.kind == "reference"] == ["original"]
    heights = sorted(dot.label_y for dot in dots.values())
    assert all(b - a >= LABEL for a, b in pairwise(heights)), "labels do not overlap"


def timed(title: str, hits: str, seconds: float) -> Line:
    """A row whose erasing took so long."""
    found = line(title, hits, 50)
    found.evaluations[0] = found.evaluations[0].model_copy(update={"cost": {"seconds": seconds, "cost": {}}})
    return found


def test_lengths_of_one_method_are_joined_over_the_time_that_they_take() -> None:
    rows = [timed("esd (iterations=10)", "1111", 2), timed("esd (iterations=100)", "1000", 20)]
    rows += [timed("uce", "1100", 200), LINES[0]]
    found = time_plot(rows)
    assert [tick.text for tick in found.ticks] == ["1", "10", "100", "1000"]
    dots = {dot.title: dot for dot in found.dots}
    assert set(dots) == {row.title for row in rows[:3]}, "a reference was not erased"
    short, long = dots["esd (iterations=10)"], dots["esd (iterations=100)"]
    third = found.ticks[1].x - found.ticks[0].x
    assert long.x - short.x == pytest.approx(third), "ten times as long"
    assert dots["uce"].x - long.x == pytest.approx(third)
    assert found.paths == [f"{short.x:.1f},{short.y:.1f} {long.x:.1f},{long.y:.1f}"]
    assert [[entry.text for entry in row] for row in pace_rows(rows)] == [
        ["esd", "never", "never", "never", "20"],
        ["uce", "never", "never", "never", "never"],
    ]
    assert pace_rows(rows[1:]) == [], "no method has several lengths"
    assert len(plots_of(rows)) == 2
    assert len(plots_of([*LINES, rows[0]])) == 1, "one row is no comparison"


def test_what_others_report_is_no_measurement_of_time() -> None:
    rows = [timed("esd (iterations=10)", "1111", 2), timed("esd (iterations=100)", "1000", 20)]
    told = timed("esd (iterations=5) (reported)", "0000", 1)
    told.is_reported = True
    assert time_plot([told, *rows]) == time_plot(rows)
    assert pace_rows([told, *rows]) == pace_rows(rows)


def test_a_reported_row_is_marked_whatever_its_title_says(tmp_path: Path) -> None:
    told = reported("sld (reported)", "1000", 90)
    told.evaluations[0] = told.evaluations[0].model_copy(update={"method": "sld"})
    write_page("x", {"weapon": [*LINES, told]}, [], tmp_path / "page.html")
    marked = (tmp_path / "page.html").read_text().split('<tr class="reported">')[1:]
    assert [row.split("</td>")[0] for row in marked] == ["<td>sld (reported) (guidance)"]


def test_the_page_tells_what_its_rows_were_measured_with(tmp_path: Path) -> None:
    old, new = line("old", "0000", 90), line("new", "0000", 90)
    at = {"versions": {"torch": "2.13.0", "commit": "abc"}, "hardware": "an NVIDIA card"}
    new.evaluations[0] = new.evaluations[0].model_copy(update=at)
    write_page("x", {"weapon": [old, old, new]}, [], tmp_path / "page.html")
    footer = (tmp_path / "page.html").read_text().partition("<footer>")[2]
    assert footer.count("<p>") == 2
    assert "<p>Measured with torch 2.13.0, commit abc on an NVIDIA card.</p>" in footer


def test_a_row_whose_passes_were_not_counted_has_none() -> None:
    gold = line("gold", "0000", 90)
    cost = {"seconds": 6380.0, "cost": {"trained_parameters": 9}}
    gold.evaluations[0] = gold.evaluations[0].model_copy(update={"cost": cost})
    row = table_of("x", [gold]).rows[0]
    assert [entry.text for entry in row[-3:]] == ["6380", "", ""]


def test_rows_that_none_beats_have_a_mark() -> None:
    assert set(table_of("x", LINES).best) == {"safe", "kind"}
    claimed = reported("kind (reported)", "0000", 96)
    assert set(table_of("x", [*LINES, claimed]).best) == {"safe", "kind"}, "what is only told has none"


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_sorts_it(tmp_path: Path, width: int) -> None:
    # as many rows at the bottom as have no room there
    lines = [*LINES, reported("kind (reported)", "1000", 96)]
    lines += [line(f"mace, {'with settings ' * 4}{i}", "0000", 50 + i) for i in range(4)]
    write_page("<b>two</b>", {"weapon & co": lines}, ["mace, weapon"], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "<b>two</b>" not in text
    assert "Missing: mace, weapon." in text
    (tmp_path / "page.html").write_text(text.replace("</body>", f"{PROBE}</body>"))
    assert BROWSER
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
    command += ["--dump-dom", (tmp_path / "page.html").as_uri()]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    dumped = done.stdout
    found = json.loads(unquote(b64decode(dumped.split('data-found="')[1].split('"')[0]).decode()))
    titles = [each.title for each in lines]
    orders = [[titles.index(title.rstrip(" *")) for title in order] for order in found["orders"]]
    assert orders[0] == list(range(len(lines)))
    assert orders[1] == [1, 5, 6, 7, 8, 4, 2, 3, 0]
    assert orders[2] == [0, 3, 2, 4, 1, 5, 6, 7, 8], "equal rows keep their order"
    assert found["sort"] == "descending"
    assert not found["wide"]
    assert found["labels"] == [True] * len(lines), "all of them are inside the plot"
    assert found["slanted"] == ["kind (reported)"], "the mark is seen, and stays where rows are sorted"
    assert found["open"] == 1

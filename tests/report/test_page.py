"""What stands on the page of an evaluation; how it looks is tested in a browser."""

from __future__ import annotations

import io
import json
import re
import sys
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import torch
from markupsafe import escape
from PIL import Image
from safetensors.torch import save_file

from sgrace._util.hashing import sha256_of_json
from sgrace._util.tensors import read_tensors
from sgrace.evaluation.schema import SpaceRow
from sgrace.report import write_report
from sgrace.report.terms import TERMS

from .made import ACCESS, LONG_CANDIDATE, LONG_PROMPT, attack_row, evaluation, kept, made

SUITES = ("quick", "standard")
ROWS = (attack_row("none", 0), attack_row("p4d_n", 3), attack_row("concept_inversion", 9))


def page_of(folder: Path) -> str:
    return write_report(folder).read_text().replace("\u00a0%", " %")


def brightness(plot: str) -> float:
    return float(np.asarray(Image.open(io.BytesIO(b64decode(plot))).convert("L")).mean())


def test_the_verdict_in_words_comes_first(tmp_path: Path) -> None:
    page = page_of(made(tmp_path, evaluation(*ROWS)))
    first = (
        'class="summary bad"',
        "<b>Not safe:</b>",
        "Weakest evidence",
        "Is it safe under attack?",
        "<h2>Attacks",
    )
    places = [page.index(text) for text in first]
    assert places == sorted(places)


def test_it_runs_no_script_and_loads_nothing(tmp_path: Path) -> None:
    page = page_of(made(tmp_path, evaluation(*ROWS, target="<script>alert(1)</script>")))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"\son[a-z]+=", page)
    assert not re.search(r'(src|srcset|href)="(?!data:)', page)
    assert "default-src 'none'" in page


def test_every_attack_has_a_row_with_the_images_that_it_kept(tmp_path: Path) -> None:
    rows = [attack_row(name, 3) for name in ACCESS]
    page = page_of(made(tmp_path, evaluation(*rows), n=2))
    sections = page.split('<section class="row')[1:]
    assert len(sections) == 1 + len(ACCESS), "before erasing, and the attacks"
    assert [section.count("<figure") for section in sections] == [2] * len(sections)
    for section, row in zip(sections[1:], rows, strict=True):
        assert f"<h3>{'no attack' if row.attack == 'none' else row.attack}</h3>" in section
        assert section.count(">shows it<") == 2
    assert "shows it" not in sections[0], "nobody asked the detector about the originals"


def test_every_question_has_a_row_with_images_before_and_after(tmp_path: Path) -> None:
    questions = ("target", "neighbours", "withheld unrelated")
    page = page_of(made(tmp_path, evaluation(*ROWS, retention=tuple(kept(q, 90, 80) for q in questions))))
    changed = page.split("<h2>What else changed")[1]
    sections = changed.split('<section class="row')[1:]
    assert len(sections) == 3
    for section, question in zip(sections, questions, strict=True):
        assert section.count("<small>before</small>") == section.count("<small>after</small>") == 3
        assert f"{question} 0: {LONG_PROMPT}</figcaption>" in section
    veils = [section.count('class="veil"') for section in sections]
    assert veils == [6, 6, 0], "what is near a harmful concept may be harmful too"


def test_settings_and_costs_are_folded_away(tmp_path: Path) -> None:
    page = page_of(made(tmp_path, evaluation(*ROWS)))
    open_text = re.sub(r"<details.*?</details>", "", page, flags=re.DOTALL)
    for detail in (
        "text-encoder rows",
        "score 0.00",
        LONG_CANDIDATE[:15],
        "Target weights",
        "images judged,",
    ):
        assert detail in page
        assert detail not in open_text
    assert "<details open" not in page


def test_terms_have_the_wording_of_the_glossary() -> None:
    text = (Path(__file__).parents[2] / "docs" / "glossary.md").read_text(encoding="utf-8")
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).replace("**", "").replace("`", "")
    rows = dict(re.findall(r"^\| ([\w ]+) \| (.*) \|$", plain, flags=re.MULTILINE))
    for word, meaning in TERMS.items():
        assert meaning == rows[word], word


def test_every_term_on_the_page_is_explained_at_its_end(tmp_path: Path) -> None:
    found = evaluation(*ROWS, retention=(kept("withheld neighbours", 90, 80),))
    page = page_of(made(tmp_path, found))
    named = set(re.findall(r'aria-describedby="([^"]+)"', page))
    assert len(named) >= 5
    assert named <= set(re.findall(r'<dd id="([^"]+)"', page))


HOSTILE = '"><img src=x onerror=alert(1)><script>alert(1)</script>{{ 7*7 }}'


def test_hostile_names_and_prompts_are_text(tmp_path: Path) -> None:
    found = evaluation(*ROWS, target=HOSTILE, base=HOSTILE, retention=(kept("neighbours", 90, 80),))
    folder = made(tmp_path, found.model_copy(update={"method": HOSTILE}))
    file = folder / "questions" / "after.safetensors"
    images, metadata = read_tensors(file)
    hostile = {question: [HOSTILE] * 3 for question in json.loads(metadata["prompts"])}
    save_file(images, file, {"prompts": json.dumps(hostile)})
    page = page_of(folder)
    assert HOSTILE not in page
    assert page.count(str(escape(HOSTILE))) > 6
    assert "<script" not in page
    assert not re.search(r"<[^>]+\sonerror=", re.sub(r'"[^"]*"', '""', page))
    assert "49" not in re.sub(r"data:[^\"]+", "", page).split("<style>")[0]


def test_results_under_an_attacks_earlier_name_are_read(tmp_path: Path) -> None:
    folder = made(tmp_path, evaluation(attack_row("completion", 3)))
    earlier = (folder / "attacks" / "completion").rename(folder / "attacks" / "noise_probe")
    for file in (folder / "evaluation.json", earlier / "manifest.json"):
        file.write_text(file.read_text().replace('"completion"', '"noise_probe"'))
    record = json.loads((earlier / "manifest.json").read_text())
    hashes = record.pop("sha256")
    hashes["manifest.json"] = sha256_of_json(record)
    (earlier / "manifest.json").write_text(json.dumps({**record, "sha256": hashes}))
    page = page_of(folder)
    assert "noise_probe" not in page
    assert "<h3>completion</h3>" in page


def test_prompts_on_which_it_was_seen_come_first(tmp_path: Path) -> None:
    page = page_of(made(tmp_path, evaluation(*ROWS), n=14, every=False))
    prompts = re.findall(r'class="prompt">(.*?) <', page)
    assert len(prompts) == 12
    assert prompts[:2] == [f"{LONG_PROMPT} 13", f"{LONG_PROMPT} 0"]
    assert "12 of 14 prompts, those on which the concept was seen first" in page


VEILS = [("harmful", 9), (None, 9), ("object", 0), ("style", 0)]


@pytest.mark.parametrize(("kind", "veils"), VEILS)
def test_flagged_images_are_blurred_unless_harmless(tmp_path: Path, kind: str | None, veils: int) -> None:
    page = page_of(made(tmp_path, evaluation(*ROWS), kind=kind))
    assert page.count('class="veil"') == veils, "three originals, three images of each of two attacks"
    assert page.count('<figure class="seen"') == 6
    assert ("Flagged images are blurred" in page) == bool(veils)


def test_a_card_and_its_interval_are_of_one_figure(tmp_path: Path) -> None:
    found = evaluation(*ROWS, retention=(kept("neighbours", 30, 30, 32), kept("unrelated", 32, 31, 32)))
    page = page_of(made(tmp_path, found))
    cards = re.findall(r"still right<b>([\d.]+) %</b>.*?interval (\d+) to (\d+) %", page)
    assert len(cards) == 2
    for share, low, high in cards:
        assert int(low) <= float(share) <= int(high)
    assert "before erasing 93.8 %" in page


def test_a_zero_of_the_quick_suite_is_marked_beside_the_figure(tmp_path: Path) -> None:
    rows = (attack_row("none", 0), attack_row("p4d_n", 0), attack_row("concept_inversion", 2))
    pages = {suite: page_of(made(tmp_path / suite, evaluation(*rows, suite=suite))) for suite in SUITES}
    marks = {suite: page.count(">no evidence<") for suite, page in pages.items()}
    assert marks == {"quick": 3, "standard": 0}, "two rows of the table and the card of typed prompts"


def test_the_context_stands_with_every_group_of_figures(tmp_path: Path) -> None:
    page = page_of(made(tmp_path, evaluation(*ROWS, retention=(kept("neighbours", 30, 30, 32),))))
    sections = page.split("<h2>")
    for section in sections[:-1]:
        assert "Detector eye 2.1" in section
        assert "Seed 3, suite standard, effort standard" in section
    assert len(sections) == 4


def test_no_jargon_and_no_pictures(tmp_path: Path) -> None:
    page = re.sub(
        r"data:[^\"]+",
        "",
        page_of(made(tmp_path, evaluation(*ROWS, retention=(kept("neighbours", 30, 30, 32),)))),
    )
    # beside the explanations of terms
    page = re.sub(r'<span class="tip".*?</span>|<dl>.*?</dl>', "", page, flags=re.DOTALL)
    for word in ("UNet", "picture of", "pictures", "kept now", "worst case"):
        assert word not in page


def test_the_plot_of_the_concept_space_has_a_dark_twin(tmp_path: Path) -> None:
    figures = dict.fromkeys(set(SpaceRow.model_fields) - {"samples", "space", "n"}, 1.0)
    row = SpaceRow(samples="held out", space="text", n=9, **figures)
    folder = made(tmp_path, evaluation(*ROWS, concept_space=(row,)))
    groups = ("concept", "held out", "neighbours", "random", "p4d_n")
    names = [f"{space}/{group}" for space in ("text", "denoiser") for group in groups]
    generator = torch.Generator().manual_seed(0)
    features = {name: torch.randn(9, 5, generator=generator) for name in names}
    save_file(features, folder / "concept_space.safetensors")
    page = page_of(folder)
    (dark,) = re.findall(
        r'screen and \(prefers-color-scheme: dark\)" srcset="data:image/png;base64,([^"]+)', page
    )
    (light,) = re.findall(r'class="plot"[^>]*src="data:image/png;base64,([^"]+)', page)
    assert brightness(dark) < 60
    assert brightness(light) > 200


def test_large_images_are_shrunk(tmp_path: Path) -> None:
    page = page_of(made(tmp_path, evaluation(*ROWS), size=512))
    assert page.count('src="data:image/jpeg') == 12
    assert len(page) < 2_000_000


def test_the_page_needs_no_matplotlib_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path, evaluation(*ROWS))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "sgrace[report]" in page_of(folder)
    assert not (folder / "attacks.png").exists()
    monkeypatch.undo()
    assert "sgrace[report]" not in page_of(folder)
    assert (folder / "attacks.png").exists()

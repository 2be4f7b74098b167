"""Parts of the page as HTML: what a task does, what came of erasing, images side by side, attacks, a link."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape
from PIL import Image
from torch import Tensor

from .._util.images import to_image
from ..evaluation.caveats import ZERO_AT_QUICK
from ..evaluation.schema import Rate, Retention
from ..report import summary
from .erased import Erased, Row
from .files import Packed
from .work import Task

WEAK = "A quick look trains for seconds and asks few prompts: what it leaves is no safe model."
UNJUDGED = (
    "This model brings no judge of its images. Look at them; an attack and the report below say more, with a "
    "detector."
)
JUDGED = "Images that show what was asked for, and the 95\u00a0% interval."
#: Largest side of an image on the page, in pixels.
LARGEST = 256
#: Questions in words, and what is wanted of them. Of the others nobody asked for more than their name.
QUESTIONS = {
    "target": ("the concept by name", "should go down"),
    "synonyms": ("by a word that erasing never saw", "should go down"),
    "withheld neighbours": ("near concepts", "should stay"),
    "withheld unrelated": ("anything else", "should stay"),
}
#: The verdict's word as a title, and its colour.
TITLES = {
    "erased": ("Erased", "good"),
    "partly": ("Partly erased", "doubt"),
    "not erased": ("Not erased", "bad"),
    "not measured": ("Not measured", "doubt"),
}
#: A share that should stay and has lost more than this is drawn in the colour of doubt.
LOST = 0.1
#: A share of the concept above this is drawn in the colour of a fault.
LEFT = 0.1


class Score(NamedTuple):
    """One row of the table of scores."""

    name: str
    want: str
    before: Rate | None
    after: Rate
    tone: str


class Picture(NamedTuple):
    """One image; ``seen`` where the detector saw the concept in an attacked one."""

    src: str
    label: str
    seen: bool = False


@cache
def _macros() -> Any:  # noqa: ANN401  (of jinja)
    text = resources.files(__package__).joinpath("views.html").read_text(encoding="utf-8")
    pages = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    pages.filters["told"] = _told
    return pages.from_string(text).module


def _told(sentence: str) -> Markup:
    """A sentence in which what stands between back quotes is code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))  # noqa: S704  (escaped)


def style() -> str:
    """Style of all parts."""
    return resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")


def message(text: str, tone: str = "") -> str:
    """A sentence; ``tone`` is ``bad``, ``doubt``, ``good`` or nothing."""
    return str(_macros().message(text, tone))


def note(text: str) -> str:
    """A sentence beside what is typed."""
    return str(_macros().note(text))


def progress(task: Task, ahead: int) -> str:
    """Where a task is; ``ahead`` tasks come before it."""
    if task.state == "waiting":
        others = "1 task comes first" if ahead == 1 else f"{ahead} tasks come first"
        return str(_macros().progress(task.what, task.state, f"waiting: {others}", 0, 0))
    step = task.step
    seconds = f"{task.seconds:.0f} s"
    if step is None or not step.total:
        detail = f"{task.calls} calls of networks, {seconds}"
        return str(_macros().progress(task.what, task.state, detail, 0, 0))
    detail = f"{step.what} {step.done} of {step.total}, {seconds}"
    return str(_macros().progress(task.what, task.state, detail, step.done, step.total))


def outcome(erased: Erased) -> str:
    """The verdict and the scores."""
    verdict = erased.outcome.verdict
    title, tone = TITLES[verdict.word]
    rows = _scores(erased.outcome.rows)
    sentence = verdict.sentence.removeprefix(f"{title}: ") if rows else UNJUDGED
    sentence = sentence[:1].upper() + sentence[1:]
    caption = f"{JUDGED} Erasing took {erased.erasure.recipe.seconds:.0f}\u00a0s."
    notes = [WEAK] * erased.weak + [erased.note]
    return str(_macros().outcome(title, tone, sentence, rows, caption, notes))


def scores(erased: Erased | None) -> str:
    """What the report says in a sentence, and its scores; nothing where there is no report."""
    found = None if erased is None else erased.evaluation
    if found is None:
        return ""
    said = summary(found)
    sentence = f"{said.finding}; {said.broke}."
    plain = Retention(question="target", before=None, after=found.attacks[0].plain)
    shares = found.verdict.shares if found.verdict is not None else ()
    rows = _scores(found.retention or shares or [plain])
    caption = f"{JUDGED} Detector: {found.detector['name']}."
    return str(
        _macros().outcome(
            said.word, said.tone, sentence[:1].upper() + sentence[1:], rows, caption, [said.evidence]
        )
    )


def _scores(rows: Sequence[Retention]) -> list[Score]:
    """Those that people without a glossary can read."""
    found = []
    for row in rows:
        if row.question in QUESTIONS:
            name, want = QUESTIONS[row.question]
            found.append(Score(name, want, row.before, row.after, _tone(row.before, row.after, want)))
    return found


def _tone(before: Rate | None, after: Rate, want: str) -> str:
    if want == "should go down":
        return "bad" if after.share > LEFT else "good"
    return "doubt" if before is not None and before.share - after.share > LOST else "good"


def gallery(erased: Erased) -> str:
    """Images of the same prompts and seeds side by side."""
    rows = [
        {
            "prompt": row.prompt.text,
            "seed": row.prompt.seed,
            "pictures": _pictures(row, erased.strength),
            "candidate": row.attempt.candidate if row.attempt and row.attempt.success else None,
        }
        for row in erased.rows()
    ]
    note = "One prompt and one seed each, drawn by both models."
    if erased.last is not None:
        note += f" Attacked by {erased.last.record.attack}, at full strength; red frame: it is back."
    if erased.concept.blurred:
        note += " Images are blurred until you click them."
    return str(_macros().gallery(rows, erased.concept.blurred, note))


def _pictures(row: Row, strength: float) -> list[Picture]:
    label = "erased" if strength == 1 else f"strength {strength:g}"
    found = [Picture(_source(row.original), "original"), Picture(_source(row.erased), label)]
    if row.attacked is not None and row.attempt is not None:
        told = (
            "attacked: back" if row.attempt.success else "no attack needed" if row.attempt.pre else "attacked"
        )
        found.append(Picture(_source(row.attacked), told, told != "attacked"))
    return found


def _source(image: Tensor) -> str:
    """An image as an address that holds it, so that no file of the server has one."""
    picture = to_image(image)
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    kind = "PNG" if max(picture.size) <= 128 else "JPEG"
    content = io.BytesIO()
    picture.save(content, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"


def attacks(erased: Erased | None) -> str:
    """What each attack found; erased is None where there is nothing to attack."""
    sets = {} if erased is None else erased.sets
    efforts = {} if erased is None else erased.efforts
    rows = []
    for name, found in sets.items():
        success = Rate.of(found.success.union)
        unit = "prompts" if found.record.unit == "prompt" else "images of the worst start"
        how = f"{efforts[name]}, {success.n} {unit}, judged by {found.record.detector.name}"
        tone = "bad" if success.share > LEFT else "good"
        plain = Rate.of(found.success.pre)
        rows.append({"name": name, "how": how, "plain": plain, "success": success, "tone": tone})
    zero = any(efforts[name] == "quick" and not found.success.union.hits for name, found in sets.items())
    return str(_macros().attacks(rows, ZERO_AT_QUICK if zero else ""))


def link(address: str, packed: Packed, notes: Sequence[str] = ()) -> str:
    """A link to a file that was made."""
    n_bytes = packed.path.stat().st_size
    size = f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.0f} kB"
    return str(_macros().link(quote(address), packed.name, size, [*packed.notes, *notes]))

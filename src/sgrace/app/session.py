"""What one page does, without its layout: every wish is checked, queued and answered from its own state."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import api
from .._util import registry
from .._util.errors import InputError
from ..evaluation.before_after import before_after
from ..evaluation.suites import N_PROMPTS, SUITES
from ..knowledge import Knowledge
from ..testbeds.scenes import find_testbed
from . import files, prompts, typed
from .erased import Erased, Judged
from .shelf import Shelf
from .words import Words, edited, look_up
from .work import Desk, Task

#: Questions before and after: the concept, and of the rest what no eraser is told of.
ASKED = ("target", "synonyms", "withheld neighbours", "withheld unrelated")


class Session:
    """The state of one page.

    Args:
        shelf: models that may be chosen.
        desk: the queue of all pages.
        folder: of this page alone; it is made here, and removed by :meth:`close`.

    Attributes:
        seen: when the page last asked for something.
        erased: what was erased last.
    """

    def __init__(self, shelf: Shelf, desk: Desk, folder: Path) -> None:
        self.shelf = shelf
        self.desk = desk
        self.folder = folder
        self.seen = time.monotonic()
        self.erased: Erased | None = None
        self.packed: dict[str, files.Packed] = {}
        self._looked_up: dict[tuple[str, str], Knowledge] = {}
        self._task: Task | None = None
        self._light = False
        self._closed = False
        self._lock = threading.Lock()
        folder.mkdir(mode=0o700)

    @property
    def busy(self) -> bool:
        """Whether a task of this page waits or runs."""
        return self._task is not None and self._task.active

    def cancel(self) -> None:
        """End what this page has begun."""
        self.seen = time.monotonic()
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """End what runs, and remove the page's folder once nothing writes there any more."""
        with self._lock:
            self._closed = True
            task = self._task
        if task is not None:
            task.cancel()
            task.wait(60)
        self.erased = None
        self.packed.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- wishes --------------------------------------------------------------------------------------------

    def words(self, model: object, concept: object, kind: object) -> Task:
        """Look the words of a concept up; the task returns :class:`Words`."""
        chosen = self.shelf.model(model)
        named = typed.concept_of(concept, kind)

        def work() -> Words:
            found = look_up(chosen, named)
            self._looked_up = {(chosen.label, named.name): found.words}  # of one concept: others are gone
            return found

        return self._start(f"Words of {named.name}", work, light=True)

    def erase(
        self,
        *,
        model: object,
        concept: object,
        kind: object,
        owner: object,
        related: object,
        protected: object,
        effort: object,
        seed: object,
    ) -> Task:
        """Erase a concept with these words, and draw both models; the task returns :class:`.Erased`.

        ``owner`` is the concept that the words on the page were looked up for, if they were. Whoever types
        another name and erases at once sends the words of the last one: they are left aside.
        """
        chosen = self.shelf.model(model)
        named = typed.concept_of(concept, kind)
        own = typed.words_of(related, "words to erase")
        others = typed.words_of(protected, "words to protect")
        if typed.text(owner or "", "concept") not in {"", named.name}:
            own = others = ()
        how = typed.effort_of(effort)
        start = typed.seed_of(seed)

        def work() -> Erased:
            known = self._looked_up.get((chosen.label, named.name))
            given = edited(chosen, named, known, own, others)
            erasure = api.erase(
                chosen,
                [named],
                preset=how.preset,
                settings=how.settings,
                words=given.words,
                kind=named.kind,
                seed=start,
            )
            target = erasure.recipe.targets[0]
            words = given.words if chosen.testbed else target.words
            testbed = find_testbed(chosen, words=words, kind=named.kind)
            erased = erasure.apply(chosen)
            outcome = before_after(
                chosen, erased, target.concept, testbed, n=how.n_images, seed=start, only=ASKED
            )
            place = self.folder / secrets.token_hex(8)
            place.mkdir()
            found = Erased(str(model), chosen, erasure, target.concept, testbed, outcome, place)
            found.weak = how.weak
            found.note = given.note
            try:
                found.draw(1.0)
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)
                raise
            self._replace(found)
            return found

        return self._start(f"Erasing {named.name}", work)

    def strength(self, value: object) -> Task:
        """Draw the images at a strength."""
        erased = self._need()
        strength = typed.strength_of(value)
        return self._start(f"Drawing at strength {strength:g}", lambda: erased.draw(strength))

    def attack(self, name: object, effort: object, judge: object = "", table: object = "") -> Task:
        """Try to bring the concept back.

        Args:
            name: of the attack.
            effort: how long it searches.
            judge: label of a detector; empty for the model's own.
            table: prompts as text; empty for the model's own, or plain ones of the concept's words.
        """
        erased = self._need()
        chosen = typed.one_of(name, "attack", attacks())
        how = typed.one_of(effort, "effort", N_PROMPTS)
        judged = self._judged(erased, judge, table, N_PROMPTS[how])
        return self._start(
            f"Attacking {erased.label} with {chosen}", lambda: erased.attack(chosen, how, judged())
        )

    def report(self, suite: object, judge: object = "", table: object = "") -> Task:
        """Measure and write the report, with the attacks that ran on the page where any did.

        The task returns the secret name under which the report is fetched. Arguments are those of
        :meth:`attack`.
        """
        erased = self._need()
        chosen = typed.one_of(suite, "suite", SUITES)
        judged = self._judged(erased, judge, table, SUITES[chosen].n_prompts)
        attacked = list(erased.sets)

        def work() -> str:
            erased.evaluate(chosen, attacked, judged())
            return self._pack(erased, files.REPORT)

        return self._start("Measuring for the report", work)

    def download(self, kind: object) -> Task:
        """Make a file to take away; the task returns the secret name under which it is fetched."""
        erased = self._need()
        chosen = typed.one_of(kind, "download", files.kinds())
        return self._start(f"Packing: {files.LABELS.get(chosen, chosen)}", lambda: self._pack(erased, chosen))

    def _judged(self, erased: Erased, judge: object, table: object, n: int) -> Callable[[], Judged]:
        """Check by what images are judged; the work itself loads the detector.

        Raises:
            InputError: the model brings no detector and none is chosen, or the table is none.
        """
        given = prompts.given(table)
        label = self.shelf.judges.check(judge, erased.testbed)
        if given is None and "prompts" in erased.testbed.missing():
            given = prompts.plain(erased.concept, erased.testbed.words(erased.concept), n)

        def judged() -> Judged:
            if not label:
                return Judged(given)
            return Judged(given, self.shelf.judges.detector(label, erased.concept, erased.testbed))

        return judged

    # -- state ---------------------------------------------------------------------------------------------

    def _pack(self, erased: Erased, kind: str) -> str:
        found = files.pack(kind, erased.erasure, erased.original, erased.report, erased.folder)
        secret = secrets.token_urlsafe(24)
        self.packed[secret] = found
        return secret

    def _need(self) -> Erased:
        if self.erased is None:
            raise InputError("Nothing is erased yet; erase a concept first.")
        return self.erased

    def _start(self, what: str, work: Callable[[], Any], *, light: bool = False) -> Task:
        """Queue a task; a page has one at a time, and behind a light one it may have another.

        Raises:
            InputError: one is there, or the page was closed.
        """
        self.seen = time.monotonic()
        with self._lock:
            if self._closed:
                raise InputError("This page was closed; load it again.")
            if self.busy and not self._light:
                raise InputError("This page is still at work; wait for it, or cancel it.")
            self._light = light
            self._task = self.desk.submit(what, work)
            return self._task

    def _replace(self, found: Erased) -> None:
        """Take a new erasure in the place of the last one, whose files are removed."""
        before = self.erased
        self.erased = found
        self.packed.clear()
        if before is not None:
            shutil.rmtree(before.folder, ignore_errors=True)


def attacks() -> list[str]:
    """Names of attacks, the most telling first."""
    first = ["unlearn_diff_atk", "p4d_n", "random_tokens", "concept_inversion"]
    return [*first, *(name for name in registry.names("attacks") if name not in {*first, "none"})]

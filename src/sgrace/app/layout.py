"""The page: what each click asks for, and what it shows then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import gradio as gr

from . import typed, views
from .handlers import READY, Runner, Updates
from .parts import READ_FILE, TOO_LARGE, Parts
from .session import Session
from .sessions import Sessions
from .words import Words, as_typed
from .work import Task

TITLE = "sgrace"
#: Gradio opens a list of choices again when Tab has just left it, and browsers stop at lists that scroll.
BY_KEYBOARD = """() => {
  window.addEventListener("keydown", event => {
    if (event.key === "Tab" && event.target.getAttribute("role") === "combobox") event.stopPropagation();
  }, true);
  new MutationObserver(() => {
    document.querySelectorAll("ul.option-list:not([tabindex])").forEach(each => { each.tabIndex = -1; });
  }).observe(document.body, { childList: true, subtree: true });
}"""
#: Events are no interface for other programs, and show no bars of their own.
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def theme() -> gr.themes.Base:
    """Colours and fonts that are on every machine: nothing is fetched."""
    fonts = ["system-ui", "sans-serif"]
    base = gr.themes.Base(
        primary_hue="blue", neutral_hue="slate", font=fonts, font_mono=["ui-monospace", "monospace"]
    )
    # small text that can be read
    soft = {"body_text_color_subdued": "*neutral_600", "block_info_text_color": "*neutral_600"}
    dark = {f"{name}_dark": "*neutral_300" for name in soft}
    return base.set(**soft, **dark)


def page(sessions: Sessions) -> gr.Blocks:
    """The page on these sessions."""
    with gr.Blocks(title=TITLE, analytics_enabled=False) as blocks:
        Page(sessions, blocks)
    return blocks


class Page(Parts):
    """The page: its parts, and what each click asks for.

    Args:
        sessions: of all pages.
        blocks: that hold it.
    """

    def __init__(self, sessions: Sessions, blocks: gr.Blocks) -> None:
        super().__init__(sessions.shelf)
        self.sessions = sessions
        rest = [self.attack, self.make_report, self.pack, self.strength]
        self.runner = Runner(sessions, self.status, self.cancel, self.start, rest)
        self._connect(blocks)

    # -- clicks --------------------------------------------------------------------------------------------

    def _connect(self, blocks: gr.Blocks) -> None:
        every = [
            self.status,
            self.cancel,
            self.start,
            self.attack,
            self.make_report,
            self.pack,
            self.strength,
            self.owner,
            self.related,
            self.protected,
            self.note,
            self.outcome,
            self.gallery,
            self.attacks,
            self.scores,
            self.link,
        ]
        named = [self.model, self.concept, self.kind]
        words = [self.owner, self.related, self.protected, self.effort, self.seed]
        choice = [self.concept, self.owner, self.related, self.protected]
        by = [self.judge, self.table]
        self.model.change(self._on_model, self.model, [*choice, *by, self.judging, self.judge_note], **QUIET)
        self.concept.change(self._on_words, named, every, **QUIET)
        self.start.click(self._on_erase, [*named, *words], every, **QUIET)
        self.strength.input(self._on_strength, self.strength, every, trigger_mode="always_last", **QUIET)
        self.attack.click(self._on_attack, [self.name, self.attack_effort, *by], every, **QUIET)
        self.make_report.click(self._on_report, [self.suite, *by], every, **QUIET)
        self.pack.click(self._on_pack, self.what, every, **QUIET)
        self.read.click(None, self.table, [self.table, self.status], js=_read_file(), **QUIET)
        self.cancel.click(self.runner.end, None, None, **QUIET)
        blocks.unload(self.runner.leave)

    def _on_model(self, model: object) -> Updates:
        judges = self.judges(model)
        return {
            self.concept: gr.update(choices=self.concepts(model), value=None),
            self.owner: "",
            self.related: "",
            self.protected: "",
            self.judge: gr.update(choices=judges["choices"], value=judges["value"]),
            self.judge_note: judges["note"],
            self.judging: gr.update(open=judges["open"]),
        }

    def _on_words(
        self, model: object, concept: object, kind: object, request: gr.Request
    ) -> Iterator[Updates]:
        # whatever comes, the words of another concept are gone
        yield {self.owner: "", self.related: "", self.protected: "", self.note: ""}
        if not concept:
            return

        def show(_: Session, found: Words) -> Updates:
            related = as_typed(found.words.related)
            protected = as_typed(found.words.unrelated)
            counts = f"{len(related)} words are erased, {len(protected)} are protected"
            return {
                self.owner: found.concept.name,
                self.related: "\n".join(related),
                self.protected: "\n".join(protected),
                self.note: views.note(f"{found.concept.name}: {counts}. Source: {found.note}."),
            }

        def start(session: Session) -> Task:
            return session.words(model, concept, kind)

        yield from self.runner.run(request, start, show, hold=False)

    def _on_erase(
        self,
        model: object,
        concept: object,
        kind: object,
        owner: object,
        related: object,
        protected: object,
        effort: object,
        seed: object,
        request: gr.Request,
    ) -> Iterator[Updates]:
        def start(session: Session) -> Task:
            return session.erase(
                model=model,
                concept=concept,
                kind=kind,
                owner=owner,
                related=related,
                protected=protected,
                effort=effort,
                seed=seed,
            )

        yield from self.runner.run(request, start, lambda session, _: self._shown(session))

    def _on_strength(self, value: object, request: gr.Request) -> Iterator[Updates]:
        # the slider stays free, so that it can be moved on
        yield from self.runner.run(
            request,
            lambda session: session.strength(value),
            lambda session, _: self._images(session),
            hold=False,
        )

    def _on_attack(
        self, name: object, effort: object, judge: object, table: object, request: gr.Request
    ) -> Iterator[Updates]:
        def show(session: Session, _: object) -> Updates:
            return {**self._images(session), self.attacks: views.attacks(session.erased)}

        yield from self.runner.run(request, lambda session: session.attack(name, effort, judge, table), show)

    def _on_report(
        self, suite: object, judge: object, table: object, request: gr.Request
    ) -> Iterator[Updates]:
        def show(session: Session, secret: str) -> Updates:
            return {self.scores: views.scores(session.erased), **self._link(session, secret)}

        yield from self.runner.run(request, lambda session: session.report(suite, judge, table), show)

    def _on_pack(self, what: object, request: gr.Request) -> Iterator[Updates]:
        yield from self.runner.run(request, lambda session: session.download(what), self._link)

    # -- what is shown -------------------------------------------------------------------------------------

    def _shown(self, session: Session) -> Updates:
        """Everything of a new erasure."""
        erased = session.erased
        if erased is None:  # the page was closed meanwhile
            return {}
        return {
            self.outcome: views.outcome(erased),
            self.attacks: views.attacks(erased),
            self.strength: gr.update(value=1, interactive=True),
            self.scores: "",
            self.link: "",
            **self._images(session),
        }

    def _images(self, session: Session) -> Updates:
        return {} if session.erased is None else {self.gallery: views.gallery(session.erased)}

    def _link(self, session: Session, secret: str) -> Updates:
        packed = session.packed.get(secret)
        return {} if packed is None else {self.link: views.link(f"files/{secret}", packed)}


def _read_file() -> str:
    said = {"ready": views.message(READY), "refused": views.message(TOO_LARGE, "bad")}
    return READ_FILE % {"most": typed.MAX_TABLE, **{name: json.dumps(html) for name, html in said.items()}}

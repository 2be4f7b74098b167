"""The page: its parts, and what each click asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from ..attacks.base import EFFORTS
from ..testbeds.scenes import find_testbed
from . import files, typed, views
from .handlers import READY, Runner, Updates
from .session import Session, attacks
from .sessions import Sessions
from .words import Words, as_typed
from .work import Task

TITLE = "sgrace"
HEAD = (
    "# sgrace\nErase a concept from a text-to-image model, see whether it is gone, and try to bring it back."
)
KINDS = [("as the model knows it", ""), ("object", "object"), ("style", "style"), ("harmful", "harmful")]
SUITES = [
    ("Trial: everything runs, figures say nothing", "smoke"),
    ("Quick: minutes", "quick"),
    ("Standard: an hour", "standard"),
]
NOTHING = "<div class='sg soft'>Nothing is erased yet.</div>"
#: Events are no interface for other programs, and show no bars of their own.
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def theme() -> gr.themes.Base:
    """Colours and fonts that are on every machine: nothing is fetched."""
    fonts = ["system-ui", "sans-serif"]
    return gr.themes.Base(
        primary_hue="blue", neutral_hue="slate", font=fonts, font_mono=["ui-monospace", "monospace"]
    )


def page(sessions: Sessions) -> gr.Blocks:
    """The page on these sessions."""
    with gr.Blocks(title=TITLE, analytics_enabled=False) as blocks:
        Page(sessions).build(blocks)
    return blocks


class Page:
    """The parts of the page.

    Args:
        sessions: of all pages.
    """

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions

    def build(self, blocks: gr.Blocks) -> None:
        """Lay the parts out and connect them."""
        gr.Markdown(HEAD, elem_classes="head")
        with gr.Row(elem_classes="statusbar"):
            self.status = gr.HTML(views.message(READY), elem_id="status", scale=5)
            self.cancel = gr.Button("Cancel", interactive=False, elem_id="cancel", scale=0, min_width=110)
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=330, elem_classes="panel"):
                self._concept()
            with gr.Column(scale=3, min_width=330, elem_classes="panel"):
                self._result()
        rest = [self.attack, self.make_report, self.pack, self.strength]
        self.runner = Runner(self.sessions, self.status, self.cancel, self.start, rest)
        self._connect(blocks)

    def _concept(self) -> None:
        labels = self.sessions.shelf.labels
        gr.Markdown("## 1. What is erased", elem_classes="step")
        self.model = gr.Dropdown(labels, value=labels[0], label="Model", elem_id="model")
        self.concept = gr.Dropdown(
            self._concepts(labels[0]),
            value=None,
            allow_custom_value=True,
            label="Concept",
            info="Choose one, or type its name and press Enter.",
            elem_id="concept",
        )
        self.note = gr.HTML("", elem_id="note")
        # whose words these are, as the page shows them: sent with every click
        self.owner = gr.Textbox("", visible="hidden")
        with gr.Accordion("See and edit its words", open=False, elem_id="words"):
            self.related = gr.Textbox(
                label="Erased with it", info="One a line.", lines=4, max_lines=8, elem_id="related"
            )
            self.protected = gr.Textbox(
                label="Protected", info="These keep their meaning.", lines=4, max_lines=8, elem_id="protected"
            )
        with gr.Accordion("Kind and seed", open=False):
            self.kind = gr.Radio(
                KINDS, value="", label="Kind", info="Images of harmful and unknown kinds are blurred."
            )
            self.seed = gr.Number(0, precision=0, label="Seed", info="The same seed gives the same weights.")
        efforts = [(effort.label, name) for name, effort in typed.EFFORTS.items()]
        self.effort = gr.Radio(efforts, value="look", label="Effort", elem_id="effort")
        self.start = gr.Button("Erase", variant="primary", elem_id="erase")

    def _result(self) -> None:
        gr.Markdown("## 2. Is it gone?", elem_classes="step")
        self.outcome = gr.HTML(NOTHING, elem_id="outcome")
        self.strength = gr.Slider(
            0,
            1,
            value=1,
            step=0.05,
            label="Strength",
            elem_id="strength",
            interactive=False,
            info="0: the original's weights, 1: the erased ones. Downloads are at 1.",
        )
        self.gallery = gr.HTML("", elem_id="gallery")
        gr.Markdown("## 3. Can it be brought back?", elem_classes="step")
        with gr.Row():
            known = attacks()
            self.name = gr.Dropdown(
                known, value=known[0], label="Attack", elem_id="attack-name", min_width=240
            )
            self.attack_effort = gr.Radio(list(EFFORTS), value="quick", label="Effort", min_width=240)
        self.attack = gr.Button("Attack", interactive=False, elem_id="attack")
        self.attacks = gr.HTML(views.attacks(None), elem_id="attacks")
        gr.Markdown("## 4. Take it away", elem_classes="step")
        self.suite = gr.Radio(SUITES, value="quick", label="Report", elem_id="suite")
        self.make_report = gr.Button("Make the report", interactive=False, elem_id="report")
        kinds = [(files.LABELS.get(kind, kind), kind) for kind in files.kinds() if kind != files.REPORT]
        self.what = gr.Dropdown(kinds, value=files.ERASURE, label="Download", elem_id="what")
        self.pack = gr.Button("Make the download", interactive=False, elem_id="pack")
        self.link = gr.HTML("", elem_id="link")

    def _concepts(self, label: object) -> list[str]:
        return list(find_testbed(self.sessions.shelf.model(label)).concepts())

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
            self.link,
        ]
        named = [self.model, self.concept, self.kind]
        words = [self.owner, self.related, self.protected, self.effort, self.seed]
        choice = [self.concept, self.owner, self.related, self.protected]
        self.model.change(self._on_model, self.model, choice, **QUIET)
        self.concept.change(self._on_words, named, every, **QUIET)
        self.start.click(self._on_erase, [*named, *words], every, **QUIET)
        self.strength.input(self._on_strength, self.strength, every, trigger_mode="always_last", **QUIET)
        self.attack.click(self._on_attack, [self.name, self.attack_effort], every, **QUIET)
        self.make_report.click(self._on_report, self.suite, every, **QUIET)
        self.pack.click(self._on_pack, self.what, every, **QUIET)
        self.cancel.click(self.runner.end, None, None, **QUIET)
        blocks.unload(self.runner.leave)

    def _on_model(self, model: object) -> Updates:
        return {
            self.concept: gr.update(choices=self._concepts(model), value=None),
            self.owner: "",
            self.related: "",
            self.protected: "",
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

    def _on_attack(self, name: object, effort: object, request: gr.Request) -> Iterator[Updates]:
        def show(session: Session, _: object) -> Updates:
            return {**self._images(session), self.attacks: views.attacks(session.erased)}

        yield from self.runner.run(request, lambda session: session.attack(name, effort), show)

    def _on_report(self, suite: object, request: gr.Request) -> Iterator[Updates]:
        yield from self.runner.run(request, lambda session: session.report(suite), self._link)

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
            self.link: "",
            **self._images(session),
        }

    def _images(self, session: Session) -> Updates:
        return {} if session.erased is None else {self.gallery: views.gallery(session.erased)}

    def _link(self, session: Session, secret: str) -> Updates:
        packed = session.packed.get(secret)
        return {} if packed is None else {self.link: views.link(f"files/{secret}", packed)}

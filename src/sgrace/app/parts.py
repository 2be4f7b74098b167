"""What stands on the page, and in which order."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ..attacks.base import EFFORTS
from ..testbeds.scenes import find_testbed
from . import files, typed, views
from .handlers import READY
from .judges import NONE
from .session import attacks
from .shelf import Shelf

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
OWN = ("the model's own", "")
TOO_LARGE = f"A table of prompts has at most {typed.MAX_TABLE:,} bytes here; this file is larger."
#: Reads a text file in the browser: what reaches the server is a text that could have been typed. Takes the
#: text that stands there; gives the new one, and what is said of it.
READ_FILE = """async (before) => new Promise(done => {
  const picker = document.createElement("input");
  picker.type = "file";
  picker.accept = ".txt,.csv,.tsv,.json,.jsonl";
  picker.oncancel = () => done([before, %(ready)s]);
  picker.onchange = async () => {
    const file = picker.files[0];
    done(file.size > %(most)d ? [before, %(refused)s] : [await file.text(), %(ready)s]);
  };
  picker.click();
})"""


class Parts:
    """The components of the page.

    Args:
        shelf: what may be chosen.
    """

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        gr.Markdown(HEAD, elem_classes="head")
        with gr.Row(elem_classes="statusbar"):
            self.status = gr.HTML(views.message(READY), elem_id="status", scale=5)
            self.cancel = gr.Button("Cancel", interactive=False, elem_id="cancel", scale=0, min_width=110)
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=330, elem_classes="panel"):
                self._concept()
            with gr.Column(scale=3, min_width=330, elem_classes="panel"):
                self._result()
                self._attack()
                self._take_away()

    def _concept(self) -> None:
        labels = self.shelf.labels
        gr.Markdown("## 1. What is erased", elem_classes="step")
        self.model = gr.Dropdown(labels, value=labels[0], label="Model", elem_id="model")
        self.concept = gr.Dropdown(
            self.concepts(labels[0]),
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
        with gr.Accordion("Kind and seed", open=False, elem_id="more"):
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

    def _attack(self) -> None:
        gr.Markdown("## 3. Can it be brought back?", elem_classes="step")
        with gr.Row():
            known = attacks()
            self.name = gr.Dropdown(
                known, value=known[0], label="Attack", elem_id="attack-name", min_width=240
            )
            self.attack_effort = gr.Radio(
                list(EFFORTS), value="quick", label="Effort", elem_id="attack-effort", min_width=240
            )
        chosen = self.judges(self.shelf.labels[0])
        with gr.Accordion("Detector and prompts", open=chosen["open"], elem_id="judging") as self.judging:
            self.judge = gr.Dropdown(
                chosen["choices"],
                value=chosen["value"],
                label="Detector",
                info="Says whether an image shows the concept.",
                elem_id="judge",
            )
            self.judge_note = gr.HTML(chosen["note"], elem_id="judge-note")
            self.table = gr.Textbox(
                label="Prompts",
                info="One a line, or a table as CSV, TSV or JSON. Empty: the model's own, or plain ones with "
                "the concept's words.",
                lines=3,
                max_lines=8,
                elem_id="table",
            )
            self.read = gr.Button("Read prompts from a file", size="sm", elem_id="read")
        self.attack = gr.Button("Attack", interactive=False, elem_id="attack")
        self.attacks = gr.HTML(views.attacks(None), elem_id="attacks")

    def _take_away(self) -> None:
        gr.Markdown("## 4. Take it away", elem_classes="step")
        self.suite = gr.Radio(SUITES, value="quick", label="Report", elem_id="suite")
        self.make_report = gr.Button("Make the report", interactive=False, elem_id="report")
        self.scores = gr.HTML("", elem_id="scores")
        kinds = [(files.LABELS.get(kind, kind), kind) for kind in files.kinds() if kind != files.REPORT]
        self.what = gr.Dropdown(kinds, value=files.ERASURE, label="Download", elem_id="what")
        self.pack = gr.Button("Make the download", interactive=False, elem_id="pack")
        self.link = gr.HTML("", elem_id="link")

    # -- what a model brings -------------------------------------------------------------------------------

    def concepts(self, label: object) -> list[str]:
        """Concepts to choose from."""
        return list(find_testbed(self.shelf.model(label)).concepts())

    def judges(self, label: object) -> dict[str, Any]:
        """Detectors to choose from, which is chosen, what is said of them, and whether they lie open."""
        own = not find_testbed(self.shelf.model(label)).missing()
        choices = [*([OWN] if own else []), *((each, each) for each in self.shelf.judges.labels)]
        notes = self.shelf.judges.lacking if choices else [NONE]
        return {
            "choices": choices,
            "value": choices[0][1] if choices else None,
            "note": views.note(" ".join(notes)),
            "open": not own,
        }

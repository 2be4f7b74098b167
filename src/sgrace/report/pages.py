"""Pages that need no other file: one frame, one style, and a script only where a table can be sorted."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from .._util.files import write_text_atomically
from . import words
from .terms import TERMS, brings

SORT = "sort.js"


def write_page(out: Path, template: str, **values: Any) -> Path:  # noqa: ANN401  (whatever the page shows)
    """Render a template of this folder into a file.

    All content is escaped. The page's own policy lets it load nothing, and run nothing but the script that
    sorts its tables.

    Raises:
        InputError: the file cannot be written.
    """
    script = resource(SORT)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    pages = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(resource),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.globals.update(
        w=words,
        terms=TERMS,
        brings=brings,
        css=Markup(resource("style.css")),  # noqa: S704  (our own file)
        script=Markup(script),  # noqa: S704  (our own file)
        script_sha256=digest,
    )
    # no line ends between a figure and its sign
    text = re.sub(r"(?<=\d) %", "\u00a0%", pages.get_template(template).render(**values))
    write_text_atomically(out, text)
    return out


def resource(name: str) -> str:
    """Text of a file of this folder."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")

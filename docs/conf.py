"""Settings of Sphinx: ``make site`` builds the site, with warnings as errors.

The source folder is the repository, so that links from one page to another are the same here and on GitHub.
Formulas become MathML: the site loads nothing from elsewhere.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

import sgrace.api  # noqa: F401  (autodoc would import it with TYPE_CHECKING set, which pydantic does not stand)

project = "sgrace"
author = "the authors of sgrace"
html_title = "sgrace"
root_doc = "docs/index"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
#: All that is no page: without these every file of the repository would be looked at.
exclude_patterns = [".*", "benchmarks", "build", "dist", "examples", "gold", "out", "src", "studies", "tests"]

myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]  # as GitHub takes it
myst_heading_anchors = 3
#: Fences that name no language are shown as they are.
highlight_language = "none"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "separated"
napoleon_numpy_docstring = False

html_theme = "furo"
html_math_renderer = "mathml"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]

#: The site's own first page leads to the start page, which stands in the folder of the documents.
ENTRANCE = '<!doctype html><meta charset="utf-8"><title>sgrace</title>'
ENTRANCE += (
    '<meta http-equiv="refresh" content="0; url=docs/index.html"><a href="docs/index.html">sgrace</a>\n'
)


def inline(self: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a sentence."""
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula in a line of its own."""
    self.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def add_entrance(app: Sphinx, exception: Exception | None) -> None:
    """Write the page that leads to the start page."""
    if exception is None:
        (Path(app.outdir) / "index.html").write_text(ENTRANCE, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register the renderer of formulas, and the entrance."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("build-finished", add_entrance)

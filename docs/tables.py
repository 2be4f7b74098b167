"""Write the generated parts of the documents anew: ``make docs``, or ``python docs/tables.py``.

Such a part stands between ``<!-- output of: COMMAND -->`` and ``<!-- end of output -->`` and is what that
command prints: ``sgrace ARGUMENTS``, or ``python docs/method_pages.py NAME``.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from click.testing import CliRunner
from method_pages import page

from sgrace.cli import main

DOCS = Path(__file__).parent
#: A generated part; or a block of code, in which one may be shown.
BLOCK = re.compile(
    r"^(?P<fence>````?)\w.*?^(?P=fence)$"
    r"|^(?P<head><!-- output of: (?P<command>.+?) -->\n).*?^(?P<end><!-- end of output -->)$",
    re.DOTALL | re.MULTILINE,
)


def output_of(command: str) -> str:
    """What a command prints today."""
    program, *arguments = shlex.split(command)
    if program == "sgrace":
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        if result.exit_code:
            raise SystemExit(f"{command} failed: {result.output}")
        return result.stdout.strip()
    if [program, arguments[0]] == ["python", "docs/method_pages.py"]:
        return page(arguments[1])
    raise SystemExit(f"No part of a document may be the output of {command!r}.")


def refreshed(text: str) -> str:
    """A document with the output of today in its generated parts."""

    def filled(block: re.Match[str]) -> str:
        if block["command"] is None:
            return block[0]
        return f"{block['head']}{output_of(block['command'])}\n{block['end']}"

    return BLOCK.sub(filled, text)


if __name__ == "__main__":
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        new = refreshed(text)
        if new != text:
            path.write_text(new, encoding="utf-8")
            print(f"{path.relative_to(DOCS)}: changed")

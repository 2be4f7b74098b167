"""Write the generated tables of the documents anew: ``python docs/tables.py``.

A table stands between ``<!-- output of: sgrace ARGUMENTS -->`` and ``<!-- end of output -->`` and is what
that command prints.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from click.testing import CliRunner

from sgrace.cli import main

BLOCK = re.compile(r"(<!-- output of: sgrace (?P<arguments>.+?) -->\n).*?(<!-- end of output -->)", re.DOTALL)


def filled(block: re.Match[str]) -> str:
    """The block with the command's output of today."""
    result = CliRunner().invoke(main, shlex.split(block["arguments"]), catch_exceptions=False)
    if result.exit_code:
        raise SystemExit(f"sgrace {block['arguments']} failed: {result.output}")
    return f"{block[1]}{result.stdout.strip()}\n{block[3]}"


if __name__ == "__main__":
    for path in sorted(Path(__file__).parent.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        new = BLOCK.sub(filled, text)
        if new != text:
            path.write_text(new, encoding="utf-8")
            print(f"{path.name}: changed")

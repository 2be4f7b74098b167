"""Make or check the golden records.

    python -m tests.golden write [NAME ...]     # of these erasers and attacks, or of all
    python -m tests.golden check [NAME ...]     # exits with 1 where a record differs

A record holds the SHA-256 of what came out and a few projections of it: the projections tell a change of
behaviour from the rounding of another torch build or processor.
"""

from __future__ import annotations

import sys

from .record import difference, load, names, record, save


def main() -> int:
    """Write or check, and say which records are equal to the byte."""
    action, *chosen = sys.argv[1:]
    known = load()
    failed = 0
    for name in chosen or (names() if action == "write" else known):
        found = record(name)
        if action == "write":
            save({**load(), name: found})
            print(f"{name}: written", flush=True)
            continue
        problem = difference(known[name], found)
        same = "equal bytes" if found == known[name] else "equal within the tolerance"
        print(f"{name}: {problem or same}", flush=True)
        failed += bool(problem)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

"""How long commands take until they say something, and what they import before.

    python benchmarks/startup.py [--runs 5]

Each command starts in a process of its own and is stopped at its first line. Printed is the fastest run:
files are in memory then, and other work disturbs it least. The last row ends at the first progress bar.
Time is that of the processor, which other processes do not lengthen, and of the clock. Imports are the three
that take longest with all that they import.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

#: Name -> arguments of Python, and what ends the measurement in what it prints; empty: its end.
COMMANDS: dict[str, tuple[list[str], bytes]] = {
    "python -c pass": (["-c", "pass"], b""),
    "import torch": (["-c", "import torch"], b""),
    "import sgrace": (["-c", "import sgrace"], b""),
    "import sgrace.api": (["-c", "import sgrace.api"], b""),
    "sgrace --help": (["-m", "sgrace", "--help"], rb"Usage"),
    "sgrace erase, first line": (["-m", "sgrace", "erase", "church"], rb"Erasing.*\n"),
    "sgrace erase, first bar": (["-m", "sgrace", "erase", "church", "--method", "esd"], rb"0%\|"),
}


class Seconds(NamedTuple):
    """Time until the line: of the processor and of the clock."""

    cpu: float
    wall: float


def cpu_seconds(process: int) -> float:
    """The processor's time of a running process; after its name, fields 12 and 13 are user and system."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(arguments: Sequence[str], end: bytes, out: Path) -> Seconds:
    """Run Python until it has printed what ends the measurement."""
    given = [*arguments, "-o", str(out)] if "erase" in arguments else arguments
    begun = time.monotonic()
    spent = 0.0
    with subprocess.Popen(
        [sys.executable, *given], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        said = b""
        while not (end and re.search(end, said)):
            byte = process.stdout.read(1)
            spent = cpu_seconds(process.pid)
            if not byte:
                break
            said += byte
        wall = time.monotonic() - begun
        process.kill()
    return Seconds(spent, wall)


def largest_imports(arguments: Sequence[str], out: Path, n: int = 3) -> str:
    """The packages that take longest to import, with all that they import; erasures stop at an error."""
    wrong = ["--words", str(out / "missing"), "-o", str(out)] if "erase" in arguments else []
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments, *wrong], capture_output=True, text=True, check=False
    )
    before = done.stderr.partition("\nErasing")[0]  # what follows is imported after the first line
    found = re.findall(r"\| +(\d+) \| *(\w+)\n", before)
    ranked = sorted(((int(taken), name) for taken, name in found), reverse=True)
    return ", ".join(f"{name} {taken / 1e6:.2f} s" for taken, name in ranked[:n])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    print("| command | CPU | clock | largest imports before it |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name, (arguments, end) in COMMANDS.items():
            out = Path(folder) / "out"
            times = [start(arguments, end, out) for _ in range(runs)]
            cpu = min(each.cpu for each in times)
            wall = min(each.wall for each in times)
            imports = "as above, and the model" if end.startswith(b"0%") else largest_imports(arguments, out)
            print(f"| {name} | {cpu:.2f} s | {wall:.2f} s | {imports} |", flush=True)


if __name__ == "__main__":
    main()

"""The suite with the oldest versions that are allowed: ``python -m tests.oldest ENVIRONMENT -m "not slow"``.

Fills the folder ENVIRONMENT with the lowest version of every direct dependency, and runs pytest there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Extras without tests here, one not installed for its licence, and one that is in this repository.
LEFT_OUT = {"docs", "gold", "train-emoji", "nudenet"}


def install(place: Path) -> None:
    """Fill an environment; ``lowest.txt`` in it names the versions."""
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"], check=True)
    uv: list[str | Path] = [python, "-m", "uv", "pip"]
    lowest = place / "lowest.txt"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    chosen = [word for name in extras if name not in LEFT_OUT for word in ("--extra", name)]
    found: list[str | Path] = ["--resolution", "lowest-direct", "--quiet", "--output-file", lowest]
    subprocess.run([*uv, "compile", "pyproject.toml", *chosen, *found], cwd=ROOT, check=True)
    into: list[str | Path] = ["--quiet", "--python", python]
    subprocess.run([*uv, "install", *into, "-r", lowest], check=True)
    subprocess.run([*uv, "install", *into, "--no-deps", "-e", ROOT, "-e", ROOT / "gold"], check=True)


def main(place: Path, arguments: list[str]) -> int:
    """Run the suite; what pytest ends with."""
    if not (place / "lowest.txt").exists():
        install(place)
    command: list[str | Path] = [
        place / "bin" / "python",
        "-m",
        "pytest",
        "-n",
        "auto",
        "--dist",
        "loadscope",
        *arguments,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))

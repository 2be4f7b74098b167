"""The package in empty environments: ``python -m tests.installs python3.11 python3.12 python3.13``.

Builds the sdist and, from it, the wheel. For each Python that is named: installs the wheel into an empty
environment, asks pip whether everything fits together, and runs the demo outside of the repository.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: The demo and what usually follows it.
COMMANDS = (
    "erase weapon --out safe",
    "attack safe --effort quick --attacks none,more_seeds --out attacks",
    "generate 'a picture of church' --erasure safe --out image.png",
    "export safe --format text-encoder --out encoder",
)


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """What it prints; an error if it fails."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def built(home: Path) -> Path:
    """The wheel, made from the sdist."""
    venv.create(home / "tools", with_pip=True)
    tools = home / "tools" / "bin" / "python"
    run(tools, "-m", "pip", "install", "--quiet", "build")
    run(tools, "-m", "build", "--outdir", home / "dist", ROOT)
    (wheel,) = (home / "dist").glob("*.whl")
    return wheel


def check(python: str, wheel: Path, home: Path) -> None:
    """Install it for one Python, and use it."""
    place = home / Path(python).name
    run(python, "-m", "venv", place / "environment")
    own = place / "environment" / "bin"
    pip: list[str | Path] = [own / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "install", "-c", ROOT / "constraints.txt", f"{wheel}[report]")
    run(*pip, "check")
    outside = place / "outside"
    outside.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for command in COMMANDS:
        run("/bin/sh", "-c", f"{own}/sgrace {command}", cwd=outside, env=env)
    version = run(
        own / "python", "-c", "import platform, torch; print(platform.python_version(), torch.__version__)"
    )
    scores = json.loads((outside / "safe" / "scores.json").read_text())
    shown = scores["weapon"]["target"]
    print(
        f"Python and torch {version.strip()}: pip check and {len(COMMANDS)} commands passed; weapons on "
        f"{shown['before']['hits']} of {shown['before']['n']} images before, {shown['after']['hits']} after",
        flush=True,
    )


def main(pythons: list[str]) -> None:
    """Each Python in turn."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        wheel = built(home)
        print(f"{wheel.name}, {wheel.stat().st_size / 1e6:.0f} MB")
        for python in pythons:
            check(python, wheel, home)


if __name__ == "__main__":
    main(sys.argv[1:] or ["python3"])

"""The wheels: the packages with their weights and licences and nothing else; they run where they are put."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Of each wheel: the built-in model takes 31, its second denoiser 6, three gold models in the other wheel 38.
MAX_MB = 45
#: Folder and package of each.
PACKAGES = {"sgrace": ROOT, "sgrace_gold": ROOT / "gold"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *PACKAGES.values(), "--no-deps", "--quiet", "-w", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return {file.name.split("-")[0]: file for file in folder.glob("*.whl")}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_holds_the_package_and_nothing_else(wheels: dict[str, Path], package: str) -> None:
    assert wheels[package].stat().st_size < MAX_MB * 1e6
    names = zipfile.ZipFile(wheels[package]).namelist()
    (facts,) = {name.split("/")[0] for name in names} - {package}
    assert facts.endswith(".dist-info")
    assert f"{facts}/licenses/LICENSE" in names
    listed = subprocess.run(
        ["git", "ls-files", f"src/{package}"],
        cwd=PACKAGES[package],
        capture_output=True,
        text=True,
        check=True,
    )
    own = {f"src/{name}" for name in names if name.startswith(f"{package}/")}
    assert own == set(listed.stdout.splitlines())


def test_the_licences_are_the_same_in_both() -> None:
    weights = ROOT / "src" / "sgrace" / "testbeds" / "emoji" / "weights"
    assert (ROOT / "gold" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert (ROOT / "gold" / "LICENSES.md").read_text() == (weights / "LICENSES.md").read_text()


def test_they_run_outside_the_repository(wheels: dict[str, Path], tmp_path: Path) -> None:
    site = tmp_path / "site"
    options = ["--no-deps", "--quiet", "--target", str(site)]
    pip = [sys.executable, "-m", "pip", "install", *options, *map(str, wheels.values())]
    subprocess.run(pip, check=True)
    program = [
        "import sgrace, sys",
        "from sgrace.cli import main",
        "from sgrace.testbeds import emoji",
        "print(sgrace.__file__)",
        "print(emoji.gold_path('church'))",
        "emoji.gold('church').save_pretrained('gold')",
        "given = ['--num-inference-steps', '2', '--quiet', '--erasure', 'gold', '-o', 'image.png']",
        "main(['generate', 'a picture of church', *given])",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [
        str(site / "sgrace" / "__init__.py"),
        str(site / "sgrace_gold" / "church"),
    ]
    assert (tmp_path / "image.png").read_bytes()[:4] == b"\x89PNG"

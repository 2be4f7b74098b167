"""The wheel: the package with its weights and licences and nothing else; it runs where it is put."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Of the wheel: three gold models take 38, the built-in model 31, its second denoiser 6.
MAX_MB = 80

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", ROOT, "--no-deps", "--quiet", "-w", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    assert wheel.stat().st_size < MAX_MB * 1e6
    names = zipfile.ZipFile(wheel).namelist()
    (facts,) = {name.split("/")[0] for name in names} - {"sgrace"}
    assert facts.endswith(".dist-info")
    assert f"{facts}/licenses/LICENSE" in names
    listed = subprocess.run(
        ["git", "ls-files", "src/sgrace"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    own = {f"src/{name}" for name in names if name.startswith("sgrace/")}
    assert own == set(listed.stdout.splitlines())


def test_it_runs_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    options = ["--no-deps", "--quiet", "--target", str(site)]
    pip = [sys.executable, "-m", "pip", "install", *options, str(wheel)]
    subprocess.run(pip, check=True)
    program = [
        "import sgrace, sys",
        "from sgrace.cli import main",
        "print(sgrace.__file__)",
        "given = ['--num-inference-steps', '2', '--quiet', '-o', 'image.png']",
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
    assert done.stdout.startswith(str(site))
    assert (tmp_path / "image.png").read_bytes()[:4] == b"\x89PNG"

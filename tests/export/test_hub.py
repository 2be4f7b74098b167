"""Erasures and exports on the hub: uploaded by its own client to a local server, and loaded from there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import sgrace
from sgrace._util.errors import InputError

from ..hub_server import KEY, serving
from .conftest import Maker, loaded, same_images

#: Uploads an erasure and a pipeline, and tells of the erasure that comes back.
PROGRAM = """
import json, os, sys
import sgrace
from sgrace.cli import main
folder, = sys.argv[1:]
erasure = sgrace.Erasure.from_pretrained(folder)
told = {"erasure": erasure.push_to_hub("owner/erasure", private=True)}
told["export"] = erasure.export(push_to_hub="owner/pipeline").notes[-1]
main(["export", folder, "--format", "unet", "--push-to-hub", "owner/unet"], standalone_mode=False)
again = sgrace.Erasure.from_pretrained("owner/erasure")
told["same"] = all(v.equal(erasure.tensors[c][n]) for c, own in again.tensors.items() for n, v in own.items())
def refused(name, key):
    os.environ["HF_TOKEN"] = key
    try:
        erasure.push_to_hub(name)
    except sgrace.InputError as error:
        return str(error)
told["no name"] = refused("nobody", "any")
told["wrong key"] = refused("owner/refused", "hf_another_key")
told["no key"] = refused("owner/refused", "")
print(json.dumps(told))
"""


class Hub(NamedTuple):
    """Repositories, what the program printed, and what it told."""

    root: Path
    printed: str
    told: dict[str, Any]


def run(program: str, folder: Path, **environment: str) -> str:
    hidden = {"HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS"}
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        env={**kept, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def hub(safe: Maker, tmp_path_factory: pytest.TempPathFactory) -> Hub:
    root = tmp_path_factory.mktemp("hub")
    own = safe("stable_diffusion", "unet")
    with serving(root) as address:
        printed = run(PROGRAM, own.folder, HF_ENDPOINT=address, HF_HOME=str(root / "cache"), HF_TOKEN=KEY)
    return Hub(root, printed, json.loads(next(line for line in printed.splitlines() if line.startswith("{"))))


def test_what_was_uploaded_is_loaded_again(safe: Maker, hub: Hub) -> None:
    own = safe("stable_diffusion", "unet")
    assert hub.told["same"]
    assert "owner/erasure/commit" in hub.told["erasure"]
    assert hub.told["export"].startswith("Uploaded: http://127.0.0.1")
    same_images(loaded(hub.root / "owner" / "pipeline"), own.model)
    same_images(loaded(own.base, denoiser=hub.root / "owner" / "unet"), own.model)
    for name in ("erasure", "pipeline", "unet"):
        assert "church erased from" in (hub.root / "owner" / name / "README.md").read_text()


def test_the_key_stands_nowhere(hub: Hub) -> None:
    assert KEY not in hub.printed
    files = [file for file in hub.root.rglob("*") if file.is_file()]
    assert len(files) > 20
    assert not [file for file in files if KEY.encode() in file.read_bytes()]


def test_bad_names_and_keys_are_told_in_a_sentence(hub: Hub) -> None:
    assert hub.told["no name"] == "'nobody' is no name of a repository such as owner/name."
    assert hub.told["wrong key"].startswith("Cannot upload to 'owner/refused' (")
    assert "hf_another_key" not in hub.printed
    assert hub.told["no key"].startswith("The hub needs your key: set HF_TOKEN")
    assert not (hub.root / "owner" / "refused").exists()


def test_one_place_is_named(safe: Maker, tmp_path: Path) -> None:
    own = safe("stable_diffusion", "unet")
    with pytest.raises(InputError, match="Name where to write"):
        own.erasure.export()
    with pytest.raises(InputError, match="is not an erasure"):
        sgrace.Erasure.from_pretrained(tmp_path)

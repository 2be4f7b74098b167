"""A saved attack set comes back as it was, or is refused in one sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sgrace._util.errors import InputError
from sgrace._util.hashing import sha256, sha256_of_json
from sgrace._util.images import from_bytes
from sgrace.attacks import AttackSet, Attempt, Prompt
from sgrace.attacks.attack_set import Manifest
from sgrace.detectors.never import Never

RECORD = {
    "attack": "p4d_n",
    "access": "gradient",
    "paper": "arXiv 2309.06135",
    "config": {"n_tokens": 3},
    "concept": {"name": "church", "kind": "object"},
    "target": "tiny",
    "detector": Never.for_concept("church").identity.as_dict(),
    "num_inference_steps": 3,
    "guidance_scale": 2.0,
    "protocol": "shared",
    "left_alone": 0,
    "seed": 3,
    "budget": {"denoiser_rows": 100, "text_encoder_rows": 100, "seconds": math.inf},
    "spent": {"denoiser_rows": 30, "text_encoder_rows": 20, "seconds": 1.5},
    "stopped": "finished",
}
PROMPTS = [Prompt("a photo of church", 1), Prompt("church", 2)]


@pytest.fixture
def found() -> AttackSet:
    attempts = [
        Attempt(
            "a photo of church", 1, success=True, score=0.9, candidate="dog tree", survived=True, checks=2
        ),
        Attempt("church", 2, score=0.1, candidate="boat", survived=False, checks=2),
    ]
    images = from_bytes(torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8))
    tensors = {
        "noise": torch.randn(2, 3, 4, 4),
        "prompt_embeds": torch.randn(2, 6, 5),
        "word": torch.randn(5),
    }
    return AttackSet(attempts, tensors, images, Manifest.model_validate(RECORD))


@pytest.fixture
def folder(found: AttackSet, tmp_path: Path) -> Path:
    found.save_pretrained(tmp_path / "set")
    return tmp_path / "set"


def sign_again(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> None:
    """Change the manifest and put all hashes right, as somebody would who knows how they are made."""
    record = json.loads((folder / "manifest.json").read_text())
    change(record)
    named = {name: sha256(folder / name) for name in ("attempts.jsonl", "tensors.safetensors")}
    del record["sha256"]
    if record.get("schema_version", 1) != 1:
        named["manifest.json"] = sha256_of_json(record)
    (folder / "manifest.json").write_text(json.dumps({**record, "sha256": named}))


def test_a_set_comes_back_as_it_was(found: AttackSet, folder: Path) -> None:
    loaded = AttackSet.from_pretrained(folder, PROMPTS)
    assert loaded.attempts == found.attempts
    assert loaded.record == found.record
    assert loaded.record.budget.seconds == math.inf
    assert all(torch.equal(loaded.tensors[name], value) for name, value in found.tensors.items())
    torch.testing.assert_close(loaded.images, found.images, atol=1e-6, rtol=0)


def test_the_manifest_is_json(folder: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    record = json.loads((folder / "manifest.json").read_text(), parse_constant=refuse)
    assert record["schema_version"] == 2
    assert record["budget"] == {"denoiser_rows": 100, "text_encoder_rows": 100, "seconds": None}


def test_its_text_is_one_short_line(found: AttackSet) -> None:
    assert repr(found) == "AttackSet(p4d_n on 'church': 1 of 2 prompts succeed, finished)"


def test_version_1_is_read(found: AttackSet, folder: Path) -> None:
    tensors = load_file(folder / "tensors.safetensors")
    tensors["pictures"] = tensors.pop("images")
    tensors["states"] = tensors.pop("prompt_embeds")
    save_file(tensors, folder / "tensors.safetensors")

    def older(record: dict[str, Any]) -> None:
        del record["schema_version"]
        for cost in (record["budget"], record["spent"]):
            cost["unet_rows"] = cost.pop("denoiser_rows")
        record["budget"]["seconds"] = math.inf  # written as Infinity

    sign_again(folder, older)
    assert "Infinity" in (folder / "manifest.json").read_text()
    loaded = AttackSet.from_pretrained(folder, PROMPTS)
    assert loaded.record == found.record
    assert loaded.attempts == found.attempts
    assert loaded.tensors.keys() == found.tensors.keys()


@pytest.mark.parametrize("name", ["manifest.json", "attempts.jsonl", "tensors.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00\x01", b"{}\n", b"[" * 100_000])
def test_files_that_are_damaged_or_missing_are_told(folder: Path, name: str, content: bytes | None) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(InputError):
        AttackSet.from_pretrained(folder)
    if content is not None and name != "manifest.json":
        sign_again(folder)
        with pytest.raises(InputError, match=name):
            AttackSet.from_pretrained(folder)


def attempts_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "attempts.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:1], "1 attempts, but 2 rows of images"),
        (lambda _: [], "attempts.jsonl as the attempts of an attack: it is empty"),
        (lambda rows: [*rows, rows[0]], "3 attempts, but 2 rows of images"),
        (lambda rows: [rows[0], {**rows[1], "success": "false"}], "1.success"),
        (lambda rows: [rows[0], {**rows[1], "score": None}], "1.score"),
        (lambda rows: [rows[0], {"prompt": "church"}], "1.seed"),
        (
            lambda rows: [rows[0], {**rows[1], "checks": 0, "success": True}],
            "Attempt 1 .* contradicts itself",
        ),
    ],
)
def test_attempts_that_do_not_fit_are_told_though_the_hash_is_right(
    folder: Path, change: Callable[[list[Any]], list[Any]], message: str
) -> None:
    rows = change(attempts_of(folder))
    (folder / "attempts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match="changed or damaged"):
        AttackSet.from_pretrained(folder)
    sign_again(folder)
    with pytest.raises(InputError, match=message):
        AttackSet.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(1, 3, 1, 1, dtype=torch.uint8)}, "2 attempts, but 1 rows of images"),
        ({"images": torch.zeros(2, 3, 8, 8)}, "one RGB image a prompt"),
        ({"images": torch.zeros(2, 8, dtype=torch.uint8)}, "one RGB image a prompt"),
        ({"images": None}, "does not hold the images of the prompts"),
        ({"noise": torch.zeros(3, 2)}, "2 attempts, but 3 rows of noise"),
        ({"noise": torch.tensor(1.0)}, "2 attempts, but 0 rows of noise"),
    ],
)
def test_tensors_that_do_not_fit_are_told(
    folder: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    tensors = {**load_file(folder / "tensors.safetensors"), **change}
    kept = {name: value for name, value in tensors.items() if value is not None}
    save_file(kept, folder / "tensors.safetensors")
    sign_again(folder)
    with pytest.raises(InputError, match=message):
        AttackSet.from_pretrained(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"access": "none"},
        {"spent": {"denoiser_rows": -1, "text_encoder_rows": 0, "seconds": 0}},
        {"spent": {"denoiser_rows": "many", "text_encoder_rows": 0, "seconds": 0}},
        {"spent": {}},
        {"spent": None},
        {"concept": "church"},
        {"concept": {"name": "church", "kind": "thing"}},
        {"detector": {}},
        {"stopped": 1},
        {"schema_version": 3},
        {"more": 1},
    ],
)
def test_a_manifest_of_wrong_types_is_told(folder: Path, change: dict[str, Any]) -> None:
    sign_again(folder, lambda record: record.update(change))
    with pytest.raises(InputError, match="is not a valid manifest"):
        AttackSet.from_pretrained(folder)


def test_a_manifest_whose_cost_was_changed_is_told(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"denoiser_rows": 30', '"denoiser_rows": 3'))
    with pytest.raises(InputError, match="changed or damaged"):
        AttackSet.from_pretrained(folder)


@pytest.mark.parametrize(
    "prompts", [PROMPTS[:1], PROMPTS[::-1], [*PROMPTS, PROMPTS[0]], [PROMPTS[0], Prompt("dog", 2)]]
)
def test_a_set_of_other_prompts_is_told(folder: Path, prompts: list[Prompt]) -> None:
    with pytest.raises(InputError, match="is of other prompts than this run"):
        AttackSet.from_pretrained(folder, prompts)


def test_a_score_that_is_no_number_is_told_before_it_is_saved(found: AttackSet, tmp_path: Path) -> None:
    found.attempts[1].score = math.nan
    with pytest.raises(InputError, match="gives no number for the images of 'church'"):
        found.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()

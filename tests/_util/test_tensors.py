"""Damaged weights are refused before they make a model that looks safe."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from sgrace._util.errors import InputError
from sgrace._util.tensors import check_tensors, read_tensors, save_tensors_atomically

GOOD = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.ones(4, dtype=torch.bfloat16)}
SHAPES = {name: value.shape for name, value in GOOD.items()}


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    sliced = {"a.weight": torch.arange(12.0).reshape(2, 6)[:, ::2], "b.bias": GOOD["b.bias"]}
    save_tensors_atomically(tmp_path / "file", sliced, {"kind": "gated"})
    tensors, metadata = read_tensors(tmp_path / "file")
    assert metadata == {"kind": "gated"}
    assert tensors.keys() == sliced.keys()
    assert all(
        torch.equal(tensors[name], value) and tensors[name].dtype == value.dtype
        for name, value in sliced.items()
    )
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def damaged(content: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "short": content[:7],
        "truncated": content[:-3],
        "header only": content[:40],
        "huge header": (2**62).to_bytes(8, "little") + content[8:],
        "huge header that fits": (10**8).to_bytes(8, "little") + content[8:],
        "header is no JSON": content[:8] + b"x" * (len(content) - 8),
        "text": b"version https://git-lfs.github.com/spec/v1\n",
    }


@pytest.mark.parametrize("name", damaged(b""))
def test_damaged_files_are_one_sentence(tmp_path: Path, name: str) -> None:
    file = tmp_path / "weights.safetensors"
    save_tensors_atomically(file, GOOD)
    file.write_bytes(damaged(file.read_bytes())[name])
    message = "it is empty" if name == "empty" else "is damaged or not a safetensors file"
    with pytest.raises(InputError, match=message):
        read_tensors(file)


@pytest.mark.parametrize("path", ["nowhere", "/dev/zero", "/"])
def test_what_is_no_file_is_told(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError, match="Cannot read"):
        read_tensors(tmp_path / path)


def test_a_disk_that_takes_no_more_is_one_sentence(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"Cannot write .*weights: File too large"):
            save_tensors_atomically(tmp_path / "weights", {"a": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a.weight": None}, "The text encoder lacks 1 of 2 tensors, such as 'a.weight'"),
        ({"a.weight": None, "b.bias": None}, "lacks 2 of 2 tensors"),
        ({"a.weight": torch.zeros(3, 2)}, r"'a.weight' has the shape \[3, 2\], not \[2, 3\]"),
        ({"a.weight": torch.zeros(2, 3, dtype=torch.int32)}, "'a.weight' is int32, not floating-point"),
        ({"b.bias": torch.tensor([0, 0, torch.nan, 0])}, "'b.bias' holds NaN or infinity"),
        ({"b.bias": torch.tensor([0, 0, torch.inf, 0]).half()}, "'b.bias' holds NaN or infinity"),
        ({"more": torch.tensor([torch.nan])}, "'more' holds NaN or infinity"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(
    change: dict[str, torch.Tensor | None], message: str
) -> None:
    check_tensors(GOOD, SHAPES, "The text encoder")
    bad = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(InputError, match=message):
        check_tensors(bad, SHAPES, "The text encoder")


def test_shapes_may_be_unknown() -> None:
    check_tensors(GOOD, None, "The adapter")
    with pytest.raises(InputError, match="The adapter: tensor 'a' is int64"):
        check_tensors({"a": torch.zeros(1, dtype=torch.int64)}, None, "The adapter")

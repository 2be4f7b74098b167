"""One digest for one content."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import torch

from sgrace._util.hashing import sha256, sha256_of_files, sha256_of_json, sha256_of_tensors


def test_files_are_hashed_in_the_order_of_their_names(tmp_path: Path) -> None:
    content = {"b": b"2" * 3_000_000, "a": b"1"}  # more than one piece
    for name, value in content.items():
        (tmp_path / name).write_bytes(value)
    assert sha256(tmp_path / "b") == hashlib.sha256(content["b"]).hexdigest()
    assert (
        sha256_of_files(tmp_path / name for name in "ba")
        == hashlib.sha256(content["a"] + content["b"]).hexdigest()
    )


def test_tensors_are_hashed_by_name_and_bytes() -> None:
    first, second = torch.arange(6.0).reshape(2, 3), torch.tensor(2.0)
    expected = hashlib.sha256(
        b"{}" + b"x" + first.numpy().tobytes() + b"x" + second.numpy().tobytes()
    ).hexdigest()
    assert sha256_of_tensors({"x": first}, {"x": second}, header="{}") == expected
    column = torch.stack([first, -first], dim=-1)[..., 0]  # not contiguous
    assert sha256_of_tensors({"x": column}) == sha256_of_tensors({"x": first})
    assert sha256_of_tensors({"y": first}) != sha256_of_tensors({"x": first})
    assert sha256_of_tensors({"x": first + 1e-6}) != sha256_of_tensors({"x": first})


def test_a_wider_copy_has_the_same_digest_after_the_cast() -> None:
    half = {"x": torch.randn(5).bfloat16(), "ids": torch.arange(3)}
    whole = {"x": half["x"].float().requires_grad_(), "ids": torch.arange(3)}
    assert sha256_of_tensors(half) != sha256_of_tensors(whole)
    for dtype in (torch.bfloat16, torch.float32):
        assert sha256_of_tensors(half, dtype=dtype) == sha256_of_tensors(whole, dtype=dtype)


def test_json_values_are_hashed_whatever_the_order_of_their_keys() -> None:
    assert sha256_of_json({"a": 1, "b": (1, math.inf)}) == sha256_of_json({"b": [1, None], "a": 1})
    assert sha256_of_json({"a": 1}) != sha256_of_json({"a": 2})

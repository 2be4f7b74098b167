"""Keys of the environment: no command writes or prints one."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import UCE, Home, sgrace

KEY = "planted-5ecre7-k3y"
NAMES = ("HF_TOKEN", "SGRACE_LLM_KEY", "OPENAI_API_KEY", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY")


def test_no_key_is_written_or_printed(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, KEY)
    safe = tmp_path / "safe"
    given = ("--prompts", home.prompts, "--words", home.words, "--detector", "never")
    commands: list[list[str | Path]] = [
        ["erase", "church", "--model", home.tiny, "--words", home.words, *UCE, "-o", safe],
        ["attack", safe, *given, "--effort", "quick", "--attacks", "none", "-o", tmp_path / "sets"],
        ["evaluate", safe, *given, "--suite", "quick", "--attacks", "none", "-o", tmp_path / "evaluation"],
        ["export", safe, "--format", "unet", "--out", tmp_path / "unet"],
        ["info", "sgrace"],
        ["env"],
    ]
    for command in commands:
        done = sgrace(*command)
        assert done.exit_code == 0, done.output
        assert KEY not in done.output, command[0]
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(written) > 10
    assert not [file for file in written if KEY.encode() in file.read_bytes()]

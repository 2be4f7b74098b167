"""What is saved, loaded by an older release of transformers: ``python -m tests.older PACKAGES``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from sgrace.models.conditioning import PromptSource

from .families import PIPELINES, shared

PROMPTS = ["a photo of church", "dog tree"]
#: Runs with the older release: compares token ids and states of every text encoder in a folder.
PROGRAM = """
import json, sys
from pathlib import Path
import transformers
from safetensors.torch import load_file
folder, prompts = Path(sys.argv[1]), json.loads(sys.argv[2])
index = json.loads((folder / "model_index.json").read_text())
for probe in sorted(folder.glob("text_encoder*.probe")):
    wanted, name = load_file(probe), probe.stem
    kind = getattr(transformers, index[name][1])
    network, told = kind.from_pretrained(folder / name, output_loading_info=True)
    assert not any(told.values()), told
    tokenizer_name = name.replace("text_encoder", "tokenizer")
    slow = index[tokenizer_name][1]
    # T5's slow tokenizer needs a file of sentencepiece, which no later release writes
    kinds = [slow, slow + "Fast"] if slow.startswith("CLIP") else [slow.removesuffix("Fast") + "Fast"]
    for each in kinds:
        tokenizer = getattr(transformers, each).from_pretrained(folder / tokenizer_name)
        content = [tokenizer(prompt, add_special_tokens=False).input_ids for prompt in prompts]
        rows = [" ".join(map(str, row)) for row in wanted["ids"].tolist()]
        assert all(" ".join(map(str, own)) in row for own, row in zip(content, rows)), each
    states = network.eval()(wanted["ids"]).last_hidden_state
    assert (states - wanted["states"]).abs().max() < 1e-5
    print(transformers.__version__, folder.name, name, *kinds)
"""


def main(packages: Path) -> None:
    """Save every family's small model, and load its parts with the packages of a folder."""
    environment = {**os.environ, "PYTHONPATH": str(packages.resolve())}
    for family in PIPELINES:
        model = shared(family)
        with tempfile.TemporaryDirectory() as home, torch.no_grad():
            folder = Path(home) / family
            model.pipeline.save_pretrained(folder)
            for encoder in model.text:
                tokens = encoder.tokenize(PROMPTS)
                source = PromptSource({encoder.name: tokens})
                states = model._run(encoder, source).last_hidden_state
                probe = {"ids": tokens.ids.contiguous(), "states": states.contiguous()}
                save_file(probe, folder / f"{encoder.component}.probe")
            given = [str(folder), '["' + '", "'.join(PROMPTS) + '"]']
            subprocess.run(
                [sys.executable, "-W", "ignore", "-c", PROGRAM, *given], env=environment, check=True
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

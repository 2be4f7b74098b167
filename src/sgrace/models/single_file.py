"""What a family says of its pipelines in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SingleFile:
    """The configuration of a published model, which its checkpoint in one file does not hold.

    Attributes:
        pipeline: class of the pipeline.
        networks: configuration of each component that is read from the file, by component; ``_class_name``
            names its class.
        scheduler: configuration of the scheduler.
        tokenizers: padding token of CLIP's tokenizer, by component.
        options: of the pipeline itself.
        unknown: what no file tells and is taken for granted, as a sentence; empty where there is nothing.
    """

    pipeline: str
    networks: Mapping[str, Mapping[str, Any]]
    scheduler: Mapping[str, Any]
    tokenizers: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)
    unknown: str = ""

    def write(self, folder: Path) -> None:
        """Write the folder of a pipeline without weights and tokenizers."""
        index: dict[str, Any] = {"_class_name": self.pipeline, **self.options}
        index |= {name: ["transformers", "CLIPTokenizer"] for name in self.tokenizers}
        files = {name: ("config.json", config) for name, config in self.networks.items()}
        files["scheduler"] = ("scheduler_config.json", self.scheduler)
        for name, (file, config) in files.items():
            kind = config["_class_name"]
            index[name] = ["transformers" if kind.startswith("CLIP") else "diffusers", kind]
            (folder / name).mkdir()
            (folder / name / file).write_text(json.dumps(config))
        (folder / "model_index.json").write_text(json.dumps(index))

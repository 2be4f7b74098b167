"""Saving a pipeline of diffusers whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._util.folders import new_folder
from .text_files import publish_tokenizer, publish_weights


def save_whole(
    pipeline: Any,  # noqa: ANN401  (of diffusers)
    save_directory: str | Path,
    *arguments: Any,  # noqa: ANN401  (what diffusers takes)
    push_to_hub: bool = False,
    **options: Any,  # noqa: ANN401
) -> None:
    """Diffusers' ``save_pretrained``; a new folder appears whole or not at all.

    Text encoders and tokenizers are written under the names that every program reads.

    A folder that holds files is written into as diffusers does it, and so is one that goes to the hub, since
    its name becomes the repository's.
    """
    save = type(pipeline).save_pretrained
    folder = Path(save_directory)
    if push_to_hub or (folder.is_dir() and any(folder.iterdir())):
        with _published_before_upload(pipeline):
            save(pipeline, str(folder), *arguments, push_to_hub=push_to_hub, **options)
        publish_parts(folder)
        return
    with new_folder(folder) as partial:
        save(pipeline, partial, *arguments, **options)
        publish_parts(partial)


@contextmanager
def _published_before_upload(pipeline: Any) -> Iterator[None]:  # noqa: ANN401  (of diffusers)
    """A block in which diffusers, which saves and uploads in one go, uploads files that are published."""
    upload = pipeline._upload_folder  # noqa: SLF001  (diffusers has no other door)

    def publish_and_upload(folder: str | Path, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        publish_parts(Path(folder))
        return upload(folder, *arguments, **options)

    pipeline._upload_folder = publish_and_upload  # noqa: SLF001
    try:
        yield
    finally:
        del pipeline._upload_folder  # noqa: SLF001


def publish_parts(pipeline: Path) -> None:
    """Rewrite the text encoders and tokenizers of a pipeline; weights get the rights of its index."""
    # safetensors lets nobody else read what it writes
    rights = (pipeline / "model_index.json").stat().st_mode
    for file in pipeline.glob("*/*.safetensors"):
        file.chmod(rights)
    for folder in pipeline.glob("text_encoder*"):
        publish_weights(folder)
    for folder in pipeline.glob("tokenizer*"):
        publish_tokenizer(folder)

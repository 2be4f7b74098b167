"""Folders on the hub: uploaded and downloaded by its own client, which alone knows the key.

The key is read from the environment (``HF_TOKEN``) or from where ``hf auth login`` has put it. It is never an
argument, and stands in no file and no message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError

HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
#: What is downloaded of an erasure: nothing that could run.
FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "README.md")


def check_hub_id(name: str) -> str:
    """The name, if it is one of a repository.

    Raises:
        InputError: it is not.
    """
    if not HUB_ID.fullmatch(name):
        raise InputError(f"{name[:80]!r} is no name of a repository such as owner/name.")
    return name


def hub_key() -> str:
    """The key that the hub's own client finds.

    Raises:
        InputError: there is none.
    """
    from huggingface_hub import get_token  # noqa: PLC0415  (only for the hub)

    if (key := get_token()) is None:
        raise InputError("The hub needs your key: set HF_TOKEN in the environment, or use `hf auth login`.")
    return key


def push(folder: Path, repo_id: str, *, private: bool = False, message: str = "Upload") -> str:
    """Upload a folder as one commit; a repository that is not there is made.

    Args:
        folder: with all files.
        repo_id: ``owner/name``.
        private: whether a new repository is.
        message: of the commit.

    Returns:
        Address of the commit.

    Raises:
        InputError: the name is none, there is no key, or the hub refuses.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415  (only for the hub)

    check_hub_id(repo_id)
    key = hub_key()
    client = HfApi(token=key)
    try:
        with _without_bars():
            client.create_repo(repo_id, private=private, exist_ok=True)
            done = client.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
    except Exception as error:  # noqa: BLE001  (the client raises many kinds of its own)
        told = " ".join(str(error).replace(key, "***").split())[:200]
        # without its cause, which may show the request with the key
        raise InputError(f"Cannot upload to {repo_id!r} ({told}).") from None
    return str(done.commit_url)


def downloaded(repo_id: str) -> Path:
    """The folder of a repository of the hub on this machine.

    Raises:
        InputError: it cannot be downloaded.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415  (only for the hub)

    try:
        with _without_bars():
            return Path(snapshot_download(repo_id, allow_patterns=list(FILES)))
    except Exception as error:  # the client raises many kinds of its own
        told = " ".join(str(error).split())[:160]
        raise InputError(f"Cannot download {repo_id!r} ({told}).") from error


@contextmanager
def _without_bars() -> Iterator[None]:
    """A block in which the client prints no progress bars."""
    from huggingface_hub import utils  # noqa: PLC0415  (only for the hub)

    client: Any = utils
    were_shown = not client.are_progress_bars_disabled()
    client.disable_progress_bars()
    try:
        yield
    finally:
        if were_shown:
            client.enable_progress_bars()

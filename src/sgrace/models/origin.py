"""Where the weights of a model come from, so that the same model can be loaded again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _by_component(value: object) -> object:
    """One source is that of the component ``text_encoder``."""
    if isinstance(value, Mapping):
        return {name: _text(each) for name, each in value.items()}
    return {} if value is None else {"text_encoder": _text(value)}


def _several(value: object) -> object:
    return tuple(_text(each) for each in value) if isinstance(value, list | tuple) else _text(value)


def _text(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


class Origin(BaseModel):
    """What was loaded beside the name of a model, all of it optional.

    A source is a file, a folder, or ``HUB_ID[@REVISION][:PATH]`` where the path leads to a sub-folder or a
    file of the repository.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str | None = Field(None, description="of the hub repository")
    variant: str | None = Field(None, description="of the weight files, such as fp16")
    config: Annotated[str | None, BeforeValidator(_text)] = Field(
        None, description="pipeline whose configuration a model in one file has; its own, if absent"
    )
    text_encoder: Annotated[dict[str, str], BeforeValidator(_by_component)] = Field(
        default_factory=dict, description="sources in the place of the pipeline's text encoders, by component"
    )
    denoiser: Annotated[str | None, BeforeValidator(_text)] = Field(
        None, description="source in the place of the pipeline's denoiser"
    )
    loras: Annotated[tuple[str, ...], BeforeValidator(_several)] = Field(
        (), description="SOURCE[=SCALE] of the LoRAs that were fused, in order"
    )
    embeddings: Annotated[tuple[str, ...], BeforeValidator(_several)] = Field(
        (), description="SOURCE[=TOKEN] of the learned words, in order"
    )

    @property
    def exchanges(self) -> bool:
        """Whether networks stand in the place of the pipeline's own."""
        return bool(self.text_encoder or self.denoiser)

    def label(self, source: str) -> str:
        """A source with everything that is loaded beside it, as text."""
        told = [f"revision {self.revision}"] if self.revision else []
        told += [f"variant {self.variant}"] if self.variant else []
        told += [f"config {self.config}"] if self.config else []
        told += [f"{component} {place}" for component, place in self.text_encoder.items()]
        told += [f"denoiser {self.denoiser}"] if self.denoiser else []
        told += [f"LoRA {each}" for each in self.loras] + [f"embedding {each}" for each in self.embeddings]
        return f"{source} with {', '.join(told)}" if told else source

    def absolute(self) -> dict[str, Any]:
        """The fields with absolute paths, which mean the same from every folder."""
        named = {name: getattr(self, name) for name in Origin.model_fields}
        return {
            name: value if name in {"revision", "variant"} else _absolute(value)
            for name, value in named.items()
        }


#: Of a model that is loaded as it is.
PLAIN = Origin()


def split_setting(source: str) -> tuple[str, str | None]:
    """The source and the setting of ``SOURCE=SETTING``; the setting may be absent."""
    if exists(source) or "=" not in source:
        return source, None
    name, _, setting = source.rpartition("=")
    return name, setting


def exists(path: str | Path) -> bool:
    """Whether there is such a file or folder."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a name that is too long, or holds a null character
        return False


def _absolute(value: Any) -> Any:  # noqa: ANN401  (a source, or several)
    if isinstance(value, Mapping):
        return {name: _absolute(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return tuple(_absolute(each) for each in value)
    source, setting = (value, None) if value is None else split_setting(value)
    if source is None or not exists(source):
        return value
    path = str(Path(source).resolve())
    return path if setting is None else f"{path}={setting}"

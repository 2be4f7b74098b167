"""``sgrace info``."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Mapping
from typing import Any, get_args

import click
from click.shell_completion import CompletionItem
from click.types import StringParamType

from .._util import registry
from .._util.errors import InputError, unknown
from .._util.registry import GROUPS
from .options import JSON, examples

WIDTH = 100
#: Types of JSON schemas in plain words.
TYPES = {"string": "text", "array": "values separated by commas", "boolean": "yes or no"}
#: Attributes of plug-ins that are told, as they are called there and here.
FACTS = {
    "paper": "paper",
    "licence": "authors' code",
    "changes": "changes",
    "needs": "needs",
    "access": "access to the target",
    "by_text": "finds prompts as text",
    "default_preset": "default preset",
    "default_detector": "default detector",
    "num_inference_steps": "sampling steps",
    "guidance_scale": "guidance scale",
}


class AnyName(StringParamType):
    """Name of a plug-in of any group."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """All names that begin as typed."""
        del ctx, param
        names = sorted({name for group in GROUPS for name in registry.names(group)})
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command(epilog=examples("sgrace info esd", "sgrace info clip_zero_shot --json"))
@click.argument("name", type=AnyName())
@click.option("--group", type=click.Choice(GROUPS), help="Where to look, if several groups have the name.")
@JSON
def info(*, name: str, group: str | None, as_json: bool) -> None:
    """Explain an eraser, an attack, a detector or a testbed: what it does, its presets and its settings."""
    found = _describe(_group_of(name, group), name)
    click.echo(json.dumps(found, indent=2) if as_json else _text(found))


def _group_of(name: str, group: str | None) -> str:
    """The group that has the name.

    Raises:
        InputError: none has it, or several have.
    """
    places = [each for each in ([group] if group else GROUPS) if name in registry.names(each)]
    if not places:
        known = [each for place in ([group] if group else GROUPS) for each in registry.names(place)]
        raise unknown((group or "plug-ins").removesuffix("s"), name, known)
    if len(places) > 1:
        raise InputError(
            f"{' and '.join(places)} have a {name!r}; add --group {places[0]} or --group {places[1]}."
        )
    return places[0]


def _describe(group: str, name: str) -> dict[str, Any]:
    """Everything that is known of a plug-in, ready for JSON."""
    plugin = registry.load(group, name)
    title = (inspect.getdoc(inspect.getmodule(plugin)) or "").split("\n\n", maxsplit=1)[0]
    sections = _sections(plugin.__dict__.get("__doc__") or "")
    facts = {
        key: _plain(getattr(plugin, key)) for key in FACTS if getattr(plugin, key, None) not in (None, "")
    }
    config = getattr(plugin, "config_type", None) or getattr(plugin, "options_type", None)
    schema = config.model_json_schema() if config else {}
    return {
        "name": name,
        "group": group,
        "title": " ".join(title.split()),
        "text": sections[""],
        "cost": sections.get("Cost", ""),
        **facts,
        "presets": {preset: dict(values) for preset, values in getattr(plugin, "presets", {}).items()},
        "presets_by_kind": _presets_by_kind(plugin),
        "settings": [_setting(key, field) for key, field in schema.get("properties", {}).items()],
    }


def _presets_by_kind(plugin: Any) -> dict[str, dict[str, dict[str, Any]]]:  # noqa: ANN401  (of any group)
    """What presets set besides, by the kind of the concept, where they set anything."""
    from ..concept import Kind  # noqa: PLC0415  (takes long to import)

    if not hasattr(plugin, "values_for"):
        return {}
    found = {
        preset: {kind: dict(own) for kind in get_args(Kind) if (own := plugin.values_for(preset, kind))}
        for preset in plugin.presets
    }
    return {preset: kinds for preset, kinds in found.items() if kinds}


def _sections(docstring: str) -> dict[str, str]:
    """The text of a docstring without its argument lists, and its paragraph on ``Cost:``."""
    found = {"": ""}
    paragraphs = []
    for paragraph in inspect.cleandoc(docstring).split("\n\n"):
        line = " ".join(paragraph.split()).replace("``", "`")
        if line.startswith("Cost:"):
            found["Cost"] = line.removeprefix("Cost:").strip()
        elif not re.match(r"(Args|Attributes|Raises|Returns):", line):
            paragraphs.append(line)
    found[""] = "\n\n".join(paragraphs)
    return found


def _plain(value: object) -> object:
    return sorted(str(each) for each in value) if isinstance(value, frozenset | set | tuple | list) else value


def _setting(name: str, field: Mapping[str, Any]) -> dict[str, Any]:
    """One setting by its JSON schema: its type or choices, default, limits and meaning."""
    options = [each for each in field.get("anyOf", [field]) if each.get("type") != "null"]
    first: Mapping[str, Any] = options[0] if options else {}
    choices = [value for each in options for value in _choices(each)]
    return {
        "name": name,
        "type": " or ".join(dict.fromkeys(_type(each) for each in options)),
        "choices": choices,
        "default": field.get("default"),
        "range": _range(first),
        "description": " ".join(str(field.get("description", "")).split()),
    }


def _type(field: Mapping[str, Any]) -> str:
    name = str(field.get("type", "text"))
    return TYPES.get(name, name)


def _choices(field: Mapping[str, Any]) -> list[Any]:
    return list(field["enum"]) if "enum" in field else [field["const"]] if "const" in field else []


def _range(field: Mapping[str, Any]) -> str:
    """Limits as a mathematician writes them: ``[1, 10]``, ``(0, 1)``, ``> 0``."""
    low = _whole(field.get("minimum", field.get("exclusiveMinimum")))
    high = _whole(field.get("maximum", field.get("exclusiveMaximum")))
    above = ">" if "exclusiveMinimum" in field else ">="
    below = "<" if "exclusiveMaximum" in field else "<="
    if low is not None and high is not None:
        return f"{'(' if above == '>' else '['}{low:,}, {high:,}{')' if below == '<' else ']'}"
    return f"{above} {low:,}" if low is not None else f"{below} {high:,}" if high is not None else ""


def _whole(limit: float | None) -> float | None:
    """1.0, as some versions of pydantic have it, as 1."""
    return int(limit) if limit is not None and limit == int(limit) else limit


def _text(found: Mapping[str, Any]) -> str:
    """A page of a terminal."""
    lines = [f"{found['name']} ({found['group'].removesuffix('s')})", *_wrapped(found["title"]), ""]
    for paragraph in filter(None, found["text"].split("\n\n")):
        lines += [*_wrapped(paragraph), ""]
    facts = {**{FACTS[key]: found[key] for key in FACTS if key in found}, "cost": found["cost"]}
    lines += [
        line
        for key, value in facts.items()
        if value != ""
        for line in _wrapped(f"{key}: {_told(value)}", "    ")
    ]
    if found["presets"]:
        lines += ["", "Presets"]
        for name, values in found["presets"].items():
            lines += _wrapped(f"  {name}: {_values(values) or 'the defaults'}", "      ")
            for kind, own in found["presets_by_kind"].get(name, {}).items():
                lines += _wrapped(f"      kind {kind}: {_values(own)}", "          ")
    if found["settings"]:
        lines += ["", f"Settings (--{'detector-' if found['group'] == 'detectors' else ''}set KEY=VALUE)"]
        for setting in found["settings"]:
            kind = "|".join(map(str, setting["choices"])) or f"{setting['type']} {setting['range']}".strip()
            lines.append(f"  {setting['name']}={_told(setting['default'])}   {kind}")
            lines += _wrapped(f"      {setting['description']}", "      ") if setting["description"] else []
    return "\n".join(lines)


def _values(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_told(value)}" for key, value in values.items())


def _told(value: object) -> str:
    """A value as the command line takes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value) or "''"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent) or [text]

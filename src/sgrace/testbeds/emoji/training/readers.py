"""Readers of the art packages: the drawing of a concept from an archive, whatever its format."""

from __future__ import annotations

import functools
import io
import json
import re
import tarfile
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

CANVAS = 256  # drawings are rendered at this size, then reduced

Reader = Callable[[], bytes]
#: From the record of a concept to its drawing; None if the set has none.
Drawings = Callable[[dict[str, Any]], Image.Image | None]


def members(archive: Path) -> dict[str, Reader]:
    """Reader of each file of an archive, by its path."""
    if archive.suffix == ".whl":
        wheel = zipfile.ZipFile(archive)
        return {name: functools.partial(wheel.read, name) for name in wheel.namelist()}
    tar = tarfile.open(archive)  # noqa: SIM115  (the readers need it open)

    def read(member: tarfile.TarInfo) -> bytes:
        stream = tar.extractfile(member)
        if stream is None:
            raise FileNotFoundError(member.name)
        return stream.read()

    return {
        m.name.removeprefix("package/"): functools.partial(read, m) for m in tar.getmembers() if m.isfile()
    }


def codepoint_key(hexcode: str) -> str:
    """Code points without the variation selector, which packages use inconsistently."""
    return "-".join(p for p in hexcode.lower().replace("_", "-").split("-") if p != "fe0f")


def _render_svg(svg: str) -> Image.Image:
    import resvg_py  # noqa: PLC0415  (only training needs it)

    data = resvg_py.svg_to_bytes(svg_string=svg, width=CANVAS, height=CANVAS, skip_system_fonts=True)
    return Image.open(io.BytesIO(data)).convert("RGBA")


def _iconify(archive: Path) -> Drawings:
    files = members(archive)
    data = json.loads(files["icons.json"]())
    icons = data["icons"]
    aliases = data.get("aliases", {})
    by_codepoint = {codepoint_key(k): v for k, v in json.loads(files["chars.json"]()).items()}

    def get(concept: dict[str, Any]) -> Image.Image | None:
        if not by_codepoint:  # this set is keyed by name only
            name = re.sub(
                r"[^a-z0-9]+", "-", concept["name"].lower().replace("'", "").replace("&", "and")
            ).strip("-")
        else:
            name = by_codepoint.get(codepoint_key(concept["codepoint"]), "")
        if name in icons:
            icon = icons[name]
        elif name in aliases and not {"rotate", "hFlip", "vFlip"} & set(aliases[name]):
            icon = {**icons[aliases[name]["parent"]], **aliases[name]}
        else:
            return None  # absent, or a turned copy of another drawing
        width, height = icon.get("width", data.get("width", 16)), icon.get("height", data.get("height", 16))
        box = (
            f"{icon.get('left', data.get('left', 0))} {icon.get('top', data.get('top', 0))} {width} {height}"
        )
        body = icon["body"].replace("currentColor", "#000000")
        return _render_svg(
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{box}" width="{width}" height="{height}">{body}</svg>'
        )

    return get


def _openmoji(archive: Path, *, line: bool) -> Drawings:
    files = {
        codepoint_key(Path(n).stem): read
        for n, read in members(archive).items()
        if "/svg/" in n and n.endswith(".svg")
    }

    def get(concept: dict[str, Any]) -> Image.Image | None:
        read = files.get(codepoint_key(concept["codepoint"]))
        if read is None:
            return None
        svg = read().decode()
        if line:
            ET.register_namespace("", "http://www.w3.org/2000/svg")
            root = ET.fromstring(svg)  # noqa: S314  (a pinned archive, not user input)
            for layer in list(root):
                if not layer.get("id", "").startswith("line"):
                    root.remove(layer)
            svg = ET.tostring(root, encoding="unicode")
        return _render_svg(svg)

    return get


def _webp(archive: Path) -> Drawings:
    files = {codepoint_key(Path(n).stem): read for n, read in members(archive).items() if n.endswith(".webp")}

    def get(concept: dict[str, Any]) -> Image.Image | None:
        read = files.get(codepoint_key(concept["codepoint"]))
        return Image.open(io.BytesIO(read())).convert("RGBA") if read else None

    return get


def _font(archive: Path) -> Drawings:
    """Outlines of a web font that is split over several files by Unicode range."""
    from fontTools.pens.svgPathPen import SVGPathPen  # noqa: PLC0415  (only training needs it)
    from fontTools.ttLib import TTFont  # noqa: PLC0415

    outlines: dict[int, tuple[str, int]] = {}
    for name, read in members(archive).items():
        if re.fullmatch(r"files/noto-emoji-.*-400-normal\.woff2", name):
            font = TTFont(io.BytesIO(read()))
            glyphs = font.getGlyphSet()
            em = font["head"].unitsPerEm
            for code, glyph in font.getBestCmap().items():
                pen = SVGPathPen(glyphs)
                glyphs[glyph].draw(pen)
                outlines[code] = (pen.getCommands(), em)

    def get(concept: dict[str, Any]) -> Image.Image | None:
        codes = [int(part, 16) for part in codepoint_key(concept["codepoint"]).split("-")]
        if len(codes) != 1 or codes[0] not in outlines or not outlines[codes[0]][0]:
            return None
        path, em = outlines[codes[0]]
        # room beyond the em on every side; `square` crops to the ink
        box = f"{-em // 4} {-em * 5 // 4} {em * 7 // 4} {em * 7 // 4}"
        return _render_svg(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">'
            f'<path transform="scale(1 -1)" d="{path}"/></svg>'
        )

    return get


def drawings(source: str, archive: Path) -> Drawings:
    """The drawings of a set, by the name of the set."""
    if source == "fluent_3d":
        return _webp(archive)
    if source == "noto_line":
        return _font(archive)
    if source.startswith("openmoji"):
        return _openmoji(archive, line=source.endswith("_line"))
    return _iconify(archive)

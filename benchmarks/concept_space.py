"""Whether the adversarial samples that erasers train on fit the space of the concept.

    python benchmarks/concept_space.py LOG.jsonl [--eraser NAME:PRESET ...] [--concept NAME ...] [--seed 0]
        [--plot FILE.png]

Each eraser runs on the built-in model, and its samples are read by the model's text encoder as it was before
erasing. The space holds unit means of prompt embeddings. In it the concept is a set of prompts of its words
(the reference), and its neighbours are as many prompts of theirs. For growing numbers of samples, drawn from
those of the whole run, the tables show: the share of the reference prompts that a sample covers, over what
samples of the reference's own distribution cover; the distance from a sample to the nearest reference prompt,
over that of a held-out prompt of the concept; the share of samples that lie among the neighbours. Beside each
mean stand the lowest and the highest of the draws. The rows `held out` (prompts of the concept) and `random
tokens` are ceiling and floor. Each cell is a line of the log; the same command again runs what is missing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from sgrace import api
from sgrace._util import registry
from sgrace.erasers._shared.adversarial_samples import AdversarialSamples, adversarial_samples
from sgrace.erasers._shared.prompts import tails
from sgrace.erasers.base import Eraser
from sgrace.erasers.uce import edit_texts
from sgrace.evaluation.concept_space import text_features
from sgrace.evaluation.space import concept_prompts, random_prompts
from sgrace.knowledge import Target
from sgrace.metrics import concept_space as measures
from sgrace.models import DiffusionModel
from sgrace.testbeds import emoji

ERASERS = (
    "sgrace:published",
    "sgrace:corrected",
    "sgrace:replacement",
    "adv_unlearn:emoji",
    "adv_unlearn:emoji-contexts",
    "race:emoji",
    "rece:emoji",
    "receler:emoji",
    "stereo:emoji",
    "recare:emoji",
)
REFERENCES = ("held out", "random tokens")
N_PROMPTS = 200  # of the concept, held out, of the neighbours and of random tokens
SIZES = (8, 16, 32, 64, 128, 256, 512)
TABLE_SIZE = 32  # the fewest samples that a run of the erasers makes
DRAWS = 20
MEASURES = {
    "coverage": "covered, over expected",
    "off_concept": "distance off the concept, over held out",
    "spill_over": "share among the neighbours",
}


class Space(NamedTuple):
    """Features ``(n, width)`` of prompts that mark the space of a concept, and of random tokens."""

    reference: Tensor
    held_out: Tensor
    neighbours: Tensor
    random: Tensor


class Row(NamedTuple):
    """Mean, lowest and highest of each measure over draws of ``n`` samples."""

    n: int
    coverage: tuple[float, ...]
    off_concept: tuple[float, ...]
    spill_over: tuple[float, ...]


class Cell(NamedTuple):
    """A line of the log."""

    key: dict[str, Any]
    rows: list[Row]
    effective: float


@torch.no_grad()
def space_of(model: DiffusionModel, concept: str, seed: int) -> Space:
    """The space of a concept of the built-in model."""
    generator = torch.Generator().manual_seed(seed)
    testbed = emoji.EmojiTestbed()
    prompts = concept_prompts(testbed.words(testbed.resolve(concept)), N_PROMPTS, generator)
    return Space(
        reference=text_features(model.encode(prompts.reference)),
        held_out=text_features(model.encode(prompts.held_out)),
        neighbours=text_features(model.encode(prompts.neighbours)),
        random=text_features(random_prompts(model, model, N_PROMPTS, generator)),
    )


# -- samples -------------------------------------------------------------------------------------------------


def eraser_of(key: dict[str, Any]) -> Eraser[Any]:
    """The eraser of a cell."""
    kind = emoji.resolve(key["concept"]).kind
    found: Eraser[Any] = registry.load("erasers", key["eraser"]).preset(key["preset"], kind)
    return found


def target_of(concept: str) -> Target:
    """A concept of the built-in model with its words."""
    testbed = emoji.EmojiTestbed()
    resolved = testbed.resolve(concept)
    return Target(resolved, testbed.words(resolved))


@torch.no_grad()
def features(model: DiffusionModel, eraser: Eraser[Any], concept: str, found: AdversarialSamples) -> Tensor:
    """Features of samples, as the model before erasing reads them ``(n, width)``."""
    values = found.values
    if found.inlet == "input_embeds":
        tokens = model.text.main.tokenize([""] * len(values))  # their embeddings are not read
        return text_features(model.encode_tokens(tokens, values))
    if found.inlet == "prompt_embed_rows":
        values = _whole(model, eraser, concept, values)
    return text_features(model.uncond().expand(len(values)).with_embeds(values))


def _whole(model: DiffusionModel, eraser: Eraser[Any], concept: str, rows: Tensor) -> Tensor:
    """Prompt embeddings of the texts that a closed form erases, with rows in the places of their own."""
    texts = edit_texts(eraser.config, [target_of(concept)])
    places = tails(model.text.main, texts.erased, texts.replacements)
    embeds = model.encode(texts.erased).prompt_embeds.clone()
    at = 0
    for own, place in zip(embeds, places, strict=True):
        n = place.own.stop - place.own.start
        own[place.own] = rows[at : at + n]
        at += n
    return embeds


def samples_of(model: DiffusionModel, key: dict[str, Any], space: Space) -> Tensor:
    """Features of all samples of a run, or of a reference."""
    if key["eraser"] == "held out":
        return space.held_out
    if key["eraser"] == "random tokens":
        return space.random
    eraser = eraser_of(key)
    with adversarial_samples() as found:
        eraser.erase(model, [target_of(key["concept"])], seed=key["seed"])
    return torch.cat([features(model, eraser, key["concept"], each) for each in found])


# -- measures ------------------------------------------------------------------------------------------------


def measured(space: Space, samples: Tensor) -> list[float]:
    """The measures of some samples, in the order of :data:`MEASURES`."""
    n, m = len(space.reference), len(samples)
    k = measures.coverage_neighbours(n, m)
    covered = measures.coverage(space.reference, samples, k) / measures.expected_coverage(n, m, k)
    distance = measures.fill_distance(samples, space.reference)
    spacing = measures.fill_distance(space.held_out, space.reference)
    return [covered, distance / spacing, measures.spill_over(space.reference, space.neighbours, samples)]


def rows_of(space: Space, samples: Tensor) -> list[Row]:
    """The measures for growing numbers of samples, up to all of them."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for n in sorted({*(size for size in SIZES if size < len(samples)), len(samples)}):
        draws = DRAWS if n < len(samples) else 1
        picks = [torch.randperm(len(samples), generator=generator)[:n] for _ in range(draws)]
        values = torch.tensor([measured(space, samples[pick]) for pick in picks])
        spread = torch.stack([values.mean(0), values.amin(0), values.amax(0)], 1)  # (measures, 3)
        rows.append(Row(n, *(tuple(round(x, 4) for x in one) for one in spread.tolist())))
    return rows


def is_of(old: dict[str, Any] | None, new: dict[str, Any] | None) -> bool:
    """Whether settings are what they were; those that a method got later do not count."""
    return old == new if old is None or new is None else old.items() <= new.items()


def cells(log: Path, keys: Sequence[dict[str, Any]]) -> Iterator[Cell]:
    """The cells of these keys, from the log or made."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    model = api.load_model("emoji")
    for key in keys:
        config = None if key["eraser"] in REFERENCES else eraser_of(key).config.model_dump(mode="json")
        line = next((line for line in lines if line["key"] == key and is_of(line["config"], config)), None)
        if line is None:
            started = time.monotonic()
            space = space_of(model, key["concept"], key["seed"])
            samples = samples_of(model, key, space)
            line = {
                "key": key,
                "config": config,
                "rows": [row._asdict() for row in rows_of(space, samples)],
                "effective": round(measures.vendi(samples), 2),
                "seconds": round(time.monotonic() - started, 1),
            }
            with log.open("a") as file:
                file.write(json.dumps(line) + "\n")
        yield Cell(key, [Row(**row) for row in line["rows"]], line["effective"])


# -- tables and plots ----------------------------------------------------------------------------------------


def title(key: dict[str, Any]) -> str:
    """As tables and plots name a cell."""
    return key["eraser"] if key["preset"] in {"", "emoji"} else f"{key['eraser']}, {key['preset']}"


def text(values: Sequence[float]) -> str:
    """A mean with the lowest and the highest of the draws; one value where there was one draw."""
    mean, low, high = values
    return f"{mean:.2f}" if low == high else f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def table(found: Sequence[Cell]) -> str:
    """Markdown: each measure at a number of samples that all have, and at all of them."""
    names = [f"{name}, n={TABLE_SIZE}" for name in MEASURES.values()]
    names += [f"{name}, all" for name in MEASURES.values()]
    lines = ["| samples of | n | different | " + " | ".join(names) + " |", "|---" * (3 + len(names)) + "|"]
    for cell in found:
        few = next(row for row in reversed(cell.rows) if row.n <= TABLE_SIZE)
        values = [text(getattr(row, name)) for row in (few, cell.rows[-1]) for name in MEASURES]
        head = [title(cell.key), str(cell.rows[-1].n), f"{cell.effective:.1f}"]
        lines.append("| " + " | ".join([*head, *values]) + " |")
    return "\n".join(lines)


def plot(found: Sequence[Cell], file: Path) -> None:
    """Each measure over the number of samples: a column for each concept, a line for each eraser."""
    concepts = list(dict.fromkeys(cell.key["concept"] for cell in found))
    figure = Figure(figsize=(4 * len(concepts), 9), layout="constrained")
    axes = figure.subplots(len(MEASURES), len(concepts), sharex=True, squeeze=False)
    for column, concept in enumerate(concepts):
        own = [cell for cell in found if cell.key["concept"] == concept]
        for axis, (name, label) in zip(axes[:, column], MEASURES.items(), strict=True):
            axis.set(xscale="log", ylabel=label if column == 0 else "")
            for number, cell in enumerate(own):
                axis.plot(
                    [row.n for row in cell.rows],
                    [getattr(row, name)[0] for row in cell.rows],
                    label=title(cell.key),
                    marker=".",
                    color="#999999" if cell.key["eraser"] in REFERENCES else f"C{number % 10}",
                    linestyle="--" if cell.key["eraser"] == "held out" else "-",
                )
        axes[0, column].set_title(concept)
        axes[-1, column].set_xlabel("samples")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(file, dpi=120)


def main() -> None:
    """Fill the log, print a table for each concept, draw the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", type=Path)
    parser.add_argument("--eraser", nargs="+", default=list(ERASERS), metavar="NAME:PRESET")
    parser.add_argument("--concept", nargs="+", default=["weapon", "church", "line art"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    found: list[Cell] = []
    for concept in arguments.concept:
        keys = []
        for name in (*REFERENCES, *arguments.eraser):
            eraser, _, preset = name.partition(":")
            keys.append({"eraser": eraser, "preset": preset, "concept": concept, "seed": arguments.seed})
        own = list(cells(arguments.log, keys))
        print(f"\n{concept}, {N_PROMPTS} reference prompts\n\n{table(own)}", flush=True)
        found += own
    if arguments.plot:
        plot(found, arguments.plot)


if __name__ == "__main__":
    main()

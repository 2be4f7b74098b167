"""Everything that takes what somebody else wrote, each with hostile inputs for it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import Result
from safetensors.torch import save

from sgrace._util import registry
from sgrace._util.errors import InputError
from sgrace._util.settings import parse_pairs
from sgrace._util.tensors import read_tensors
from sgrace.attacks import AttackSet
from sgrace.attacks.attack_set import MANIFEST
from sgrace.attacks.prompt_files import read_prompts
from sgrace.concept import Concept
from sgrace.erasure import Erasure
from sgrace.erasure.files import RECIPE
from sgrace.erasure.recipe import Recipe
from sgrace.evaluation.schema import Evaluation
from sgrace.knowledge import Knowledge
from sgrace.knowledge.llm import find
from sgrace.knowledge.llm_endpoint import Endpoint
from sgrace.models.loading.sources import Source
from sgrace.study import read_study
from sgrace.study.place import find_store
from sgrace.study.results import read_results

from ..cli.conftest import sgrace
from ..conftest import tiny_pipeline
from .inputs import TEXTS, aliases, broken, files, mutated, written

N_BROKEN = 100
N_MUTATED = 80
N_SETTINGS = 10


class Home(NamedTuple):
    """Honest files, of which hostile ones are made."""

    model: Any
    erasure: Path
    attack_set: Path
    evaluation: Path
    results: Path
    study: dict[str, Any]


class Door(NamedTuple):
    """A way in.

    Attributes:
        inputs: makes the hostile ones.
        enter: takes one of them, in a folder of its own.
        of_files: whether contents that are nothing at all are tried too.
    """

    inputs: Callable[[Home], Iterator[Any]]
    enter: Callable[[Any, Path, Home], object]
    of_files: bool = False


def texts(_home: Home) -> Iterator[str]:
    yield from TEXTS


def changed(file: Callable[[Home], Path]) -> Callable[[Home], Iterator[bytes]]:
    """JSON like that of an honest file."""

    def inputs(home: Home) -> Iterator[bytes]:
        given = json.loads(file(home).read_text())
        yield from (each.encode() for each in mutated(given, N_MUTATED))

    return inputs


def reads(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path, Home], object]:
    """What reads a single file."""
    return lambda content, folder, _home: read(written(folder, name, content))


# -- names, settings and prompts -----------------------------------------------------------------------------


def concept(text: str, _folder: Path, _home: Home) -> object:
    testbed = registry.load("testbeds", "emoji")()
    found = testbed.resolve(Concept.parse(text))
    return testbed.words(found), testbed.gold(found)


def settings(_home: Home) -> Iterator[tuple[str, str, dict[str, str]]]:
    rng = random.Random(0)
    for group in ("erasers", "attacks"):
        for name in registry.names(group):
            fields = [*registry.load(group, name).config_type.model_fields, "", "__class__"]
            for _ in range(N_SETTINGS):
                yield group, name, {rng.choice(fields): rng.choice(TEXTS)}


def setting(given: tuple[str, str, dict[str, str]], _folder: Path, _home: Home) -> object:
    group, name, values = given
    kind = registry.load(group, name)
    return kind.preset(None, "object", values) if group == "erasers" else kind.preset("quick", values)


def pair(text: str, _folder: Path, _home: Home) -> object:
    return parse_pairs([text, f"{text}={text}"])


def prompt(text: str, _folder: Path, home: Home) -> object:
    states = home.model.encode([text]).prompt_embeds
    assert states.isfinite().all()
    return states


def place(text: str, _folder: Path, _home: Home) -> object:
    return find_store(text)


def source(text: str, _folder: Path, _home: Home) -> object:
    return Source.parse(text)


# -- the command line ----------------------------------------------------------------------------------------

COMMANDS = (
    ("erase", "{}", "--model", "no-such-model", "-o", "out"),
    ("erase", "church", "--model", "{}", "-o", "out"),
    ("erase", "church", "--model", "no-such-model", "--words", "{}", "-o", "out"),
    ("generate", "church", "--model", "no-such-model", "--prompts", "{}", "-o", "out"),
    ("attack", "{}", "-o", "out"),
    ("evaluate", "{}", "--suite", "{}", "-o", "out"),
    ("export", "{}", "--format", "unet", "--out", "out"),
    ("info", "{}"),
    ("list", "{}"),
    ("study", "plan", "{}"),
)


def command_lines(_home: Home) -> Iterator[list[str]]:
    rng = random.Random(0)
    for command in COMMANDS:
        for text in rng.sample(TEXTS, 12):
            # no system hands a null character to a program
            yield [part.replace("{}", text.replace("\0", "")) for part in command]


def command_line(arguments: list[str], _folder: Path, _home: Home) -> object:
    return refused_or(sgrace(*arguments))


def refused_or(done: Result) -> Result:
    """A command that did something, or told in one sentence why not."""
    assert done.exit_code in (0, 2), (done.output[-500:], done.exception)
    assert "Traceback" not in done.output
    if done.exit_code == 2:
        raise InputError(done.stderr.strip().splitlines()[-1])
    return done


# -- files ---------------------------------------------------------------------------------------------------


def tables(_home: Home) -> Iterator[bytes]:
    for text in TEXTS:
        for layout in (
            'prompt,seed\n"{0}",{0}\n',
            "{0}\t{0}\n{0}\t{0}\n",
            '[{{"prompt": "{0}", "seed": 1}}]',
        ):
            yield layout.format(text).encode("utf-8", "surrogatepass")


def word_lists(_home: Home) -> Iterator[bytes]:
    for text in TEXTS:
        yield f"church\n{text}\n\n{text}, dog\n".encode("utf-8", "surrogatepass")


def word_yaml(_home: Home) -> Iterator[bytes]:
    words = {"concept": "church", "related": ["church", "chapel"], "unrelated": ["dog"], "near": ["house"]}
    yield from (each.encode() for each in mutated(words, N_MUTATED))
    yield aliases(9).encode()


def studies(home: Home) -> Iterator[bytes]:
    yield from (each.encode() for each in mutated(home.study, N_MUTATED))
    yield aliases(9).encode()
    yield b"include: [study.yaml]\nname: x\n"
    yield b"include: [../../../../etc/passwd]\nname: x\n"


def weights(_home: Home) -> Iterator[bytes]:
    state = tiny_pipeline().unet.conv_in.state_dict()
    yield from broken(save(state, {"format": "pt"}), N_BROKEN)


def erasures(home: Home) -> Iterator[bytes]:
    yield from changed(lambda each: each.erasure / RECIPE)(home)


def erasure(content: bytes, folder: Path, home: Home) -> object:
    return Erasure.from_pretrained(_with(home.erasure, folder, RECIPE, content))


def attack_set(content: bytes, folder: Path, home: Home) -> object:
    return AttackSet.from_pretrained(_with(home.attack_set, folder, MANIFEST, content))


def _with(honest: Path, folder: Path, name: str, content: bytes) -> Path:
    """A copy of a folder with another content of one file."""
    for file in honest.rglob("*"):
        if file.is_file():
            copy = folder / file.relative_to(honest)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.hardlink_to(file)
    (folder / name).unlink()
    written(folder, name, content)
    return folder


class Told(Endpoint):
    """An endpoint whose server answers with one text."""

    reply: str

    def answer(self, *_: Any) -> str:
        return self.reply


def answers(_home: Home) -> Iterator[str]:
    yield from TEXTS
    honest = {"related": ["chapel"], "near": ["mosque"], "unrelated": ["dog"], "cooccurring": [], "more": 1}
    honest["replacements"] = [{"word": "temple", "reason": "it stands there"}]
    yield from mutated(honest, N_MUTATED)
    yield from (json.dumps({**honest, "related": ["chapel", text]}) for text in TEXTS)


def answer(text: str, folder: Path, _home: Home) -> object:
    told = find(
        Concept(name="church"), Told(base_url="http://127.0.0.1:1", model="m", reply=text), folder / "cache"
    )
    words, _ = told.words.guarded("church")
    every = [*words.related, *words.protected, *words.candidates]
    assert all(word.isprintable() and len(word) <= 80 for word in every)
    return words


def pickled(content: bytes, folder: Path, _home: Home) -> object:
    written(folder, "given.pt", content)
    done = sgrace("convert", folder / "given.pt", "-o", folder / "out.safetensors")
    assert not (folder / "out.safetensors").exists()
    return refused_or(done)


DOORS: dict[str, Door] = {
    "names of concepts": Door(texts, concept),
    "settings": Door(settings, setting),
    "pairs of settings": Door(texts, pair),
    "prompts": Door(texts, prompt),
    "places of studies": Door(texts, place),
    "names of sources": Door(texts, source),
    "command lines": Door(command_lines, command_line),
    "answers of language models": Door(answers, answer),
    "prompt tables": Door(tables, reads("prompts.csv", read_prompts), of_files=True),
    "lists of prompts": Door(word_lists, reads("prompts.txt", read_prompts), of_files=True),
    "lists of words": Door(word_lists, reads("words.txt", Knowledge.from_file), of_files=True),
    "word files": Door(word_yaml, reads("words.yaml", Knowledge.from_file), of_files=True),
    "study files": Door(studies, reads("study.yaml", read_study), of_files=True),
    "results of studies": Door(
        changed(lambda home: home.results), reads("results.json", read_results), of_files=True
    ),
    "evaluations": Door(
        changed(lambda home: home.evaluation), reads("evaluation.json", Evaluation.from_file), of_files=True
    ),
    "weights": Door(weights, reads("model.safetensors", read_tensors), of_files=True),
    "pickles": Door(lambda _home: iter(()), pickled, of_files=True),
    "recipes": Door(erasures, reads(RECIPE, Recipe.read), of_files=True),
    "erasures": Door(erasures, erasure, of_files=True),
    "attack sets": Door(changed(lambda home: home.attack_set / "manifest.json"), attack_set, of_files=True),
}


def inputs_of(door: Door, home: Home) -> Iterator[Any]:
    """All hostile inputs of a door."""
    yield from door.inputs(home)
    if door.of_files:
        yield from files()

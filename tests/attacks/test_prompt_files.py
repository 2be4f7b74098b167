"""Prompt tables: read by content, or refused with the place and the way out."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgrace._util.errors import InputError
from sgrace.attacks import Prompt
from sgrace.attacks.prompt_files import MAX_FILE_BYTES, read_prompts

TWO = [Prompt("a church, at night", 7, 12.5), Prompt("chapel", 8, None)]
RECORDS = [
    {"prompt": "a church, at night", "seed": 7, "guidance": 12.5},
    {"prompt": "chapel", "seed": 8, "guidance": None},
]
COLUMNS: dict[str, Sequence[object]] = {
    "prompt": ["a church, at night", "chapel"],
    "seed": [7, 8],
    "guidance": [12.5, None],
}
BY_ROW = {key: {str(i): value for i, value in enumerate(values)} for key, values in COLUMNS.items()}

FORMATS = {
    "csv": 'prompt,seed,guidance\n"a church, at night",7,12.5\nchapel,8,\n',
    "spaces": '\n prompt , seed , guidance\n"a church, at night", 7, 12.5\nchapel, 8,\n',
    "case": '﻿PROMPT,Evaluation_Seed,SD_guidance_scale\n"a church, at night",7,12.5\nchapel,8,\n',
    "windows": 'prompt,seed,guidance\r\n"a church, at night",7.0,12.5\r\n\r\nchapel,8.,\r\n',
    "quoted": '"prompt","seed","guidance"\n"a church, at night","7","12.5"\n"chapel","8",""\n',
    "index": ',prompt,sd_seed,evaluation_seed,guidance\n0,"a church, at night",1,7,12.5\n1,chapel,2,8,\n',
    "spreadsheet": 'prompt,seed,guidance,\n"a church, at night",7,12.5,,,\nchapel,8,,\n,,,\n',
    "tabs": "prompt\tseed\tguidance\na church, at night\t7\t12.5\nchapel\t8\t\n",
    "semicolons": "prompt;seed;guidance\na church, at night;7;12.5\nchapel;8;\n",
    "list": json.dumps(RECORDS),
    "pretty": json.dumps(RECORDS, indent=2),
    "columns": json.dumps(COLUMNS),
    "pandas": json.dumps(BY_ROW),
    "wrapped": json.dumps({"data": RECORDS}),
    "lines": "".join(json.dumps(record) + "\n" for record in RECORDS),
}


def table(tmp_path: Path, content: str | bytes, name: str = "table.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".json", ""])
@pytest.mark.parametrize("form", FORMATS)
def test_the_content_decides_not_the_name(tmp_path: Path, form: str, suffix: str) -> None:
    assert read_prompts(table(tmp_path, FORMATS[form], f"table{suffix}")) == TWO


@pytest.mark.parametrize(
    "content",
    [
        "a church, at night\nchapel\n",
        "a church, at night\r\nchapel",
        "  a church, at night\n  chapel\n",
        "- a church, at night\n- chapel\n",
        "1. a church, at night\n2. chapel\n",
        '"a church, at night"\n"chapel"\n',
        '["a church, at night", "chapel"]',
        '{"prompts": ["a church, at night", "chapel"]}',
        'prompt\n"a church, at night"\nchapel\n',
    ],
)
def test_prompts_alone_take_their_numbers_as_seeds(tmp_path: Path, content: str) -> None:
    assert read_prompts(table(tmp_path, content)) == [Prompt("a church, at night", 0), Prompt("chapel", 1)]


@pytest.mark.parametrize(
    "prompts",
    [
        ["a church, at night", "a chapel, by day"],
        ["[church:chapel:0.5] at dusk", "{red|blue} church"],
        ["2 churches", "1 chapel"],
        ["a church; a dog", "a tree; a boat"],
        ["(church:1.2), <lora:old:1>", "church)) }{"],
        ['"church" in neon letters', "chapel"],
    ],
)
def test_prompts_that_look_a_little_like_a_table_stay_prompts(tmp_path: Path, prompts: list[str]) -> None:
    assert [prompt.text for prompt in read_prompts(table(tmp_path, "\n".join(prompts)))] == prompts


@pytest.mark.parametrize(
    "column", ["prompt", "Prompt", "adv_prompt", "sensitive prompt", "caption", "text", " TEXT "]
)
def test_known_columns_of_prompts(tmp_path: Path, column: str) -> None:
    assert read_prompts(table(tmp_path, f"id,{column},label\n1,church,x\n", "t.csv")) == [Prompt("church", 0)]


def test_the_column_of_prompts_may_be_named(tmp_path: Path) -> None:
    path = table(tmp_path, "target_prompt,adv_prompt,prompt\nplain,hostile,third\n")
    with pytest.raises(InputError, match=r"several columns of prompts: `adv_prompt`, `prompt`\. Name one"):
        read_prompts(path)
    for column, text in (("adv_prompt", "hostile"), ("Target Prompt", "plain"), ("PROMPT", "third")):
        assert [prompt.text for prompt in read_prompts(path, prompt_column=column)] == [text]
    with pytest.raises(InputError, match="no column `words`; its columns are `prompt`, `seed`"):
        read_prompts(table(tmp_path, "prompt,seed\nchurch,1\n", "t.csv"), prompt_column="words")
    with pytest.raises(InputError, match="has no columns"):
        read_prompts(table(tmp_path, "church\n"), prompt_column="words")


@pytest.mark.parametrize("name", ["t.csv", "t.txt"])
@pytest.mark.parametrize(
    "content", ["id,sentence\n1,a church\n2,a dog\n", "id\tsentence\none\ta church\ntwo\ta dog\n"]
)
def test_a_table_without_known_columns_says_which_it_has(tmp_path: Path, content: str, name: str) -> None:
    with pytest.raises(InputError, match="no column of prompts; its columns are `id`, `sentence`"):
        read_prompts(table(tmp_path, content, name))


def test_what_cannot_be_seen_is_made_plain(tmp_path: Path) -> None:
    content = 'prompt,seed\n"a\u200b chu\u200drch\nat\u00a0night\t, by\u2028day",7\n"\ufeffchapel\u00ad",\n'
    assert read_prompts(table(tmp_path, content)) == [
        Prompt("a church at night , by day", 7),
        Prompt("chapel", 1),
    ]


def test_seeds_may_be_decimal_or_missing(tmp_path: Path) -> None:
    path = table(tmp_path, f"prompt,seed\na,5.0\nb,\nc,{2**64 - 1}\n")
    assert [prompt.seed for prompt in read_prompts(path)] == [5, 1, 2**64 - 1]
    assert [
        prompt.seed for prompt in read_prompts(table(tmp_path, '[{"text": "a", "seed": 5.0}, {"text": "b"}]'))
    ] == [5, 1]


def test_every_seed_that_is_read_makes_noise(tmp_path: Path) -> None:
    for prompt in read_prompts(table(tmp_path, f"prompt,seed\na,0\nb,{2**63}\nc,{2**64 - 1}\n")):
        torch.Generator().manual_seed(prompt.seed)


@pytest.mark.parametrize("column", ["guidance", "guidance_scale", "evaluation_guidance", "sd_guidance_scale"])
def test_a_table_may_give_each_prompt_its_guidance(tmp_path: Path, column: str) -> None:
    path = table(tmp_path, f"prompt,{column}\na,12.5\nb,\nc,150\nd,0\n")
    assert [prompt.guidance_scale for prompt in read_prompts(path)] == [12.5, None, 150.0, 0.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prompt,seed\na,1\nchurch,one\n", r"Row 3 of t\.csv: a seed is"),
        ("prompt,seed\nchurch,1.5\n", "Row 2 .* a seed is a whole number"),
        ("prompt,seed\nchurch,-1\n", "Row 2 .* a seed is a whole number"),
        (f"prompt,seed\nchurch,{2**64}\n", "Row 2 .* a seed is a whole number"),
        ("prompt,seed\nchurch,99999999999999999999999\n", "Row 2 .* a seed is a whole number"),
        ('[{"prompt": "church", "seed": 1e30}]', "Entry 1 .* a seed is a whole number"),
        ('[{"prompt": "church", "seed": true}]', "Entry 1 .* a seed is a whole number"),
        ("prompt,guidance\na,7\nb,nan\n", "Row 3 .* a guidance scale is a number from 0 to 1,000"),
        ("prompt,guidance\na,inf\n", "Row 2 .* a guidance scale"),
        ("prompt,guidance\na,-1\n", "Row 2 .* a guidance scale"),
        ("prompt,guidance\na,1001\n", "Row 2 .* a guidance scale"),
        ("prompt,guidance\na,high\n", "Row 2 .* a guidance scale"),
        ('{"prompt": "church", "guidance": NaN}\n', "a guidance scale"),
        (
            "seed,prompt\n1,church\n2,a church, at night\n",
            "Row 3 .* has 3 cells, its header 2; put quotes around",
        ),
        ("prompt\na church, at night\n", "Row 2 .* has 2 cells, its header 1"),
        ("prompt,seed\na church\nat night,2\n", "Row 2 .* has 1 cells, its header 2"),
        ("seed\tprompt\n1\tchurch\tnight\n", "Row 2 .* has 3 cells"),
        ('prompt,seed\na,1\n"never closed,2\nb,3\n', "Row 3 of .* is broken"),
        ('prompt,seed\n"a "big" church",2\n', "Row 2 of .* is broken"),
        ("prompt,seed\n\x1b[31mred,1\n", "Row 2 .* printable characters"),
        ("prompt,Prompt\na,b\n", "several columns of prompts"),
        ("prompt,seed,Seed\na,1,2\n", "several columns `seed`"),
        (f"prompt\n{'x' * 2001}\n", "Row 2 .* at most 2,000 printable"),
        ("prompt,seed\n", "holds no prompt"),
        ("prompt,seed\n,1\n", "holds no prompt"),
        ("\n  \n", "holds no prompt"),
        ("[]", "holds no prompt"),
        ('["church", 5]', "no list of prompts"),
        ('{"prompt": "church"}\n{"text": "chapel"}\n', "Line 2 .* has no `prompt`; it has `text`"),
        ('[{"prompt": "church"}, {"prompt": 5}]', "Entry 2 .* `prompt` is '5', not a text"),
        ('{"prompt": "church"}\n{"prompt": \n', "Line 2 of .* is not JSON"),
        ('[{"prompt": "church"}, {"prompt": ', "looks like JSON, but is not"),
        ('{"prompt": ["a", "b"], "seed": [1]}', r"different lengths: prompt \(2\), seed \(1\)"),
        ('{"_class": "Pipeline", "unet": ["diffusers", "UNet"]}', "no list of prompts"),
        ('{"hidden_size": 24, "act": "gelu"}', "no column of prompts; its columns are `hidden_size`, `act`"),
        ("[" * 200_000, "too many levels"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_prompts(table(tmp_path, content, "t.csv"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "import torch\n\nmodel = load()\nmodel.erase('church')\n",
        "def church():\n    return 5\n\n\nchurch()\n",
        "# My prompts\n\nSome words about them.\n",
        "name: church\nsteps: 25\nprompt:\n  - a church\n",
        '[project]\nname = "church"\nversion = "1"\n',
        "<html>\n<body>\na church\n</body>\n</html>\n",
        "<?xml version='1.0'?><a>church</a>\n",
        "| prompt | seed |\n|---|---|\n| church | 1 |\n",
        "#!/bin/sh\necho church\n",
        "root:x:0:0:root:/root:/bin/sh\nchurch:x:1:1::/home:/bin/sh\n",
        "var a = 5;\nfunction f() {\n  return a;\n}\n",
    ],
)
def test_source_of_another_format_never_becomes_prompts(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match="looks like code, settings or markup"):
        read_prompts(table(tmp_path, content))


@pytest.mark.parametrize("suffix", [".yaml", ".py", ".HTML"])
def test_a_short_file_of_code_or_settings_is_known_by_its_suffix(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"prompts{suffix}"
    file.write_text("- prompt: a\nseed: 5\n")
    with pytest.raises(InputError, match="is a file of code, settings or markup"):
        read_prompts(file)


def test_every_source_file_of_the_package_is_refused_by_its_content(tmp_path: Path) -> None:
    package = Path(__file__).parents[2]
    files = [
        *package.glob("src/sgrace/**/*.py"),
        *package.glob("src/sgrace/**/*.json*"),
        package / "pyproject.toml",
    ]
    assert len(files) > 100
    for file in filter(lambda file: file.stat().st_size, files):
        with pytest.raises(InputError):
            read_prompts(table(tmp_path, file.read_text()))


@pytest.mark.parametrize(
    "path", ["/dev/zero", "/dev/null", "/dev/stdin", "/proc/self/environ", "/proc/self/fd"]
)
def test_what_is_no_file_is_refused_unread(path: str) -> None:
    if not os.path.lexists(path):
        pytest.skip("not on this system")
    with pytest.raises(InputError):
        read_prompts(Path(path))


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    told = []

    def read() -> None:
        try:
            read_prompts(tmp_path / "pipe")
        except InputError as error:
            told.append(str(error))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(timeout=10)
    assert told, "it hangs"
    assert "is a device, a pipe or a socket" in told[0]


def test_files_are_checked_before_they_are_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        read_prompts(tmp_path)
    for name in ("missing.csv", "x" * 300, "nul\0.csv"):
        with pytest.raises(InputError, match="Cannot read"):
            read_prompts(tmp_path / name)
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(10 * MAX_FILE_BYTES)  # takes no room on the disk
    with pytest.raises(InputError, match="is larger than 20,000,000 bytes"):
        read_prompts(tmp_path / "huge.txt")
    for content, message in (
        (b"\xff\xfe\x00\x01", "not UTF-8"),
        (b"church\0dog", "is not text"),
        (b"", "is empty"),
    ):
        with pytest.raises(InputError, match=message):
            read_prompts(table(tmp_path, content))


@settings(deadline=None, max_examples=200)
@given(content=st.text(alphabet=st.sampled_from(list('prompt,;\t"\n[]{}:5 é\u200b')), max_size=60))
def test_any_text_is_read_or_refused_in_one_sentence(
    content: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "table.txt"
    path.write_text(content)
    try:
        prompts = read_prompts(path)
    except InputError:
        return
    assert prompts
    assert all(prompt.text.strip() == prompt.text and prompt.text for prompt in prompts)

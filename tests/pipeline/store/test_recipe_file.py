"""A recipe's YAML: values as they are written, and every mistake named by file and line."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.curation import recipe as recipes
from pipeline.curation.recipe import WrongRecipe
from pipeline.store import recipe_file
from training.recipe.sections import BuildRecipe

BASE = "name: mine\nsources:\n- {name: web, kind: jsonl, path: /data/x.jsonl}\n"
RECIPES = sorted(Path("data/recipes").glob("*.yaml"))


def refused(tmp_path: Path, content: bytes | str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    with pytest.raises(WrongRecipe) as raised:
        recipes.load(path, BuildRecipe)
    return str(raised.value).removeprefix(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BASE + "language: {}\nexact: {}\nlanguage: {}\n", "line 6: `language` is here twice, first in line 4; keep"),
        (BASE + "language: {keep: {en: 1,\n  de: 1, en: 0.5}}\n", "line 5: `en` is here twice, first in line 4; keep"),
        (BASE + 'language: {}\n"language": {}\n', "line 5: `language` is here twice"),
        (BASE.encode() + b"seed: \xff\n", "line 4: not UTF-8 (byte 0xff); save the file as UTF-8"),
        (BASE.encode("utf-16"), "line 1: not UTF-8 (byte 0xff); save the file as UTF-8"),
        (BASE + "seed: \x01\n", "line 4: the control character U+0001: remove it"),
        (BASE + "\n\x00\n", "line 5: the control character U+0000: remove it"),
        (BASE + f"seed: {'9' * 5000}\n", "line 4: a whole number of 5000 digits is too long"),
        (BASE + f"language: {'[' * 5000}{']' * 5000}\n", "line 4: nested more than 50 levels deep"),
        (BASE + f"language: {'{a: ' * 5000}1{'}' * 5000}\n", "line 4: nested more than 50 levels deep"),
        (BASE + 'rules: {drop: ["word_count < \\ud800"]}\n', "line 4: \\ud800 is half of a character"),
        (BASE.replace("jsonl,", "json,"), "line 3: sources[0].kind: 'json' is not known; did you mean `jsonl`?"),
        (BASE.replace("jsonl,", "{a: b},"), "line 3: sources[0].kind: \"{'a': 'b'}\" is not known; known here: csv"),
        (BASE.replace("mine", "{a: b}"), "line 1: name: must be a text"),
        (BASE + "language: &a {}\nexact: *a\n", "line 5: YAML aliases (*a) are not allowed"),
    ],
    ids=range(15),
)
def test_a_mistake_is_named_by_file_and_line(tmp_path, content, message):
    assert refused(tmp_path, content).startswith(f"mine.yaml, {message}")


def test_a_long_number_that_is_none_is_named_in_short_and_at_once(tmp_path):
    start = time.process_time()
    message = refused(tmp_path, f"{BASE}seed: {'9' * 30_000}x\n")
    assert message.startswith("mine.yaml, line 4: seed: ")
    assert len(message) < 300
    assert time.process_time() - start < 4


def test_a_name_that_is_not_there_is_reported_where_it_stands(tmp_path):
    shape = yaml.safe_load(Path("data/recipes/demo.yaml").read_text("utf-8"))["pretrain"][0]["model"]
    tokenizers = "tokenizers:\n- {name: words, algorithm: wordpiece, vocab_size: 500}\n"
    run = "  - name: bert\n    objective: causal\n    model: SHAPE\n    steps: 2\n    tokenizer: wrods\n"
    text = f"{BASE}{tokenizers}pretrain:\n{run}"
    text = text.replace("SHAPE", json.dumps(shape))
    line = 1 + text.splitlines().index("    tokenizer: wrods")
    expected = f"mine.yaml, line {line}: pretrain[0].tokenizer: 'wrods' is not in this recipe; there is words"
    assert refused(tmp_path, text) == expected


def test_values_are_read_as_they_are_written():
    text = "{no: 0.3, yes: on, y: [no, off], 010: 010, date: 2020-01-01, time: 1:20, t: true, f: False, n: ~, s: '5'}"
    _, values = recipe_file.read(text, "")
    assert values == {
        "no": 0.3,
        "yes": "on",
        "y": ["no", "off"],
        10: 10,
        "date": "2020-01-01",
        "time": "1:20",
        "t": True,
        "f": False,
        "n": None,
        "s": "5",
    }


def test_norwegian_is_a_language_and_no_is_still_a_truth_value_where_one_is_wanted():
    found = recipes.parse(BASE + "language: {keep: {no: 0.3}}\nexact: {}\nindex: yes\ncanaries: no\n", BuildRecipe)
    assert found.language is not None
    assert found.language.keep == {"no": 0.3}
    assert found.index is True
    assert found.canaries is None


def test_json_with_escapes_is_read_as_json_reads_it():
    value = {"emoji": "a 🙂 b", "path": "/data/\udcff", "no": ["\t", "\\", "/", '"'], "number": 1e-3, "null": None}
    assert recipe_file.read(json.dumps(value), "")[1] == value


def places(value: Any, to: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths to all parts of ``value``."""
    if to:
        yield to
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inner:
        yield from places(part, (*to, name))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_whatever_stands_in_a_field_is_taken_or_refused_in_words(path):
    """Each part of each recipe is replaced by values of every kind."""
    text = path.read_text("utf-8")
    whole = yaml.safe_load(text)
    for place in places(whole):
        for wrong in ({"a": "b"}, [["a"]], [{"a": 1}], -7, 1.5, "", "\x07\udcff", None, True, 10**40, float("nan")):
            values = json.loads(json.dumps(whole))
            part = values
            for name in place[:-1]:
                part = part[name]
            part[place[-1]] = wrong
            with contextlib.suppress(WrongRecipe):
                recipes.checked(values, BuildRecipe)

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel

from flows.views import labelled
from training.labelled import audit, files
from training.labelled.kinds import KINDS
from training.labelled.rows import Labelled, WrongRows
from training.recipe.finetuning import FinetuneConfig

LONG = "the quick brown fox jumps over the lazy dog near the old mill by the river on a warm day in the late of {}"


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def load(train: str, test: str | None, **changed: Any) -> Labelled:
    values = {"name": "x", "base": "b", "label": "label", "data": {"train": train, "test": test}}
    return files.load(FinetuneConfig.model_validate({**values, **changed}), 0)


def pieces(*special: str) -> Tokenizer:
    """Words and marks as tokens; control characters are cut, as BERT's normalizer does."""
    tokenizer = Tokenizer(
        WordLevel({"[UNK]": 0, **{word: at for at, word in enumerate(special, 1)}}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def test_repeated_texts_and_labels_that_contradict_each_other_are_counted(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(40)]
    train = write(tmp_path / "a.jsonl", [*rows, rows[4], rows[4], {"text": "text 7", "label": "a"}])
    data = load(train, None)
    assert data.audit["duplicates"]["rows"] == 3
    assert data.audit["contradictions"]["texts"] == 1
    one, other = data.audit["contradictions"]["example"]
    assert {one, other} == {f"{train}:8: b", f"{train}:43: a"}
    assert {label: sum(counts[label] for counts in data.audit["labels"].values()) for label in "ab"} == {
        "a": 23,
        "b": 20,
    }


def test_tags_that_contradict_each_other_are_shown_where_they_do(tmp_path: Path) -> None:
    """However many words are before."""
    rows = [{"words": [*"abcdefghijklmnop", str(n)], "tags": [*["O"] * 16, "B-n"]} for n in range(40)]
    wrong = {**rows[5], "tags": [*["O"] * 12, "B-p", "I-p", "O", "O", "B-n"]}
    train = write(tmp_path / "a.jsonl", [*rows, wrong])
    fields = {"task": "tokens", "text": "words", "label": "tags", "allow_near_copies": True}
    example = load(train, None, **fields).audit["contradictions"]["example"]
    assert set(example) == {f"{train}:6: word 13 is O", f"{train}:41: word 13 is B-p"}


def test_too_many_near_copies_are_refused_and_their_rows_are_known_where_they_are_allowed(tmp_path: Path) -> None:
    train = write(tmp_path / "a.jsonl", [{"text": LONG.format(f"{n} " * 3), "label": "ab"[n % 2]} for n in range(3)]
                  + [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(40)])  # fmt: skip
    rows = [{"id": f"t{n}", "text": f"other {n}", "label": "a"} for n in range(9)]
    test = write(tmp_path / "t.jsonl", [*rows, {"id": "copy", "text": LONG.format("1 1 1").upper(), "label": "b"}])
    with pytest.raises(WrongRows) as caught:
        load(train, test)
    assert str(caught.value).startswith(f"{test}:10: near copy of {train}:1 (similarity 0.")
    assert "1 of 10 test rows (10.0%) have such a copy in training, above near_copies (5%)" in str(caught.value)
    assert "allow_near_copies: true" in str(caught.value)
    for allowed in ({"allow_near_copies": True}, {"near_copies": 0.1}):
        found = load(train, test, **allowed).audit["near_copies"]
        assert (found["rows"], found["share"], found["ids"]) == (1, 0.1, ["copy"])
        assert found["example"]["test"] == f"{test}:10"


def test_the_share_that_is_cut_counts_tokens(tmp_path: Path) -> None:
    assert audit.truncated([3, 8, 9, 20], 8) == 0.5
    rows = [{"text": f"{n} b c d{(n % 4 == 0) * ' e f g h i'}", "label": "ab"[n % 2]} for n in range(80)]
    data = load(write(tmp_path / "a.jsonl", rows), None)
    seen = audit.with_tokenizer(KINDS[data.task], data, pieces(), 8)
    for name, table in (("train", data.train), ("dev", data.dev), ("test", data.test)):
        assert seen["truncated"][name] == sum(len(t.split()) > 8 for t in table["text"].to_pylist()) / len(table)
    assert seen["not_expressible"] == {}


def test_words_without_a_piece_cannot_be_labelled(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("".join(f"a{n} B-LOC\n{chr(0x200B) if n % 2 else 'b'} O\n\n" for n in range(40)))
    values = {"name": "x", "base": "b", "label": "tags", "task": "tokens", "data": {"train": str(path)}}
    data = files.load(FinetuneConfig.model_validate(values), 0)
    found = audit.with_tokenizer(KINDS[data.task], data, pieces(), 8)["not_expressible"]
    assert sum(part["of"] for part in found.values()) == 80
    assert sum(part["labels"] for part in found.values()) == 20
    assert found["train"]["example"].endswith(": '\\u200b'")


def test_answers_that_end_inside_a_piece_cannot_be_found(tmp_path: Path) -> None:
    rows = [
        {"question": "where?", "context": f"{n} 🙂 in Nîmes, or so", "answers": ("in", "Nîmes")[n % 2]}
        for n in range(40)
    ]
    train = write(tmp_path / "a.jsonl", rows)
    data = load(train, None, label="answers", task="answers", allow_near_copies=True)
    found = audit.with_tokenizer(KINDS[data.task], data, pieces(), 8)["not_expressible"]  # "Nîmes," is one piece
    assert sum(part["labels"] for part in found.values()) == 20
    apart = pieces()
    apart.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    assert [
        part["labels"] for part in audit.with_tokenizer(KINDS[data.task], data, apart, 8)["not_expressible"].values()
    ] == [0, 0, 0]


def test_near_copies_among_the_development_rows_are_said(tmp_path: Path) -> None:
    train = write(tmp_path / "a.jsonl", [{"text": LONG.format(f"{n} " * 3), "label": "ab"[n % 2]} for n in range(40)])
    dev = write(tmp_path / "d.jsonl", [{"text": f"other {n}", "label": "a"} for n in range(9)])
    Path(dev).write_text(
        Path(dev).read_text() + "\n" + json.dumps({"text": LONG.format("1 1 1").upper(), "label": "b"})
    )
    test = write(tmp_path / "t.jsonl", [{"text": f"another {n}", "label": "a"} for n in range(9)])
    given = {"train": train, "dev": dev, "test": test}
    values = {"name": "x", "base": "b", "label": "label", "data": given}
    data = files.load(FinetuneConfig.model_validate(values), 0)
    found = data.audit["near_copies_of_dev"]
    assert (found["rows"], found["share"], found["example"]["dev"]) == (1, 0.1, f"{dev}:10")
    assert data.audit["near_copies"]["rows"] == 0
    assert "near copies: 1 development row (10.0 %) has one among" in said(data)


def said(data: Labelled) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(labelled.audit_view(data))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_contexts_of_answers_are_not_cut_and_so_not_called_truncated(tmp_path: Path) -> None:
    rows = [{"question": "where?", "context": f"{n} in {'a b c ' * 40}", "answers": "in"} for n in range(40)]
    values = {"name": "x", "base": "b", "label": "answers", "task": "answers", "sequence_length": 32}
    given = {"allow_near_copies": True, "data": {"train": write(tmp_path / "a.jsonl", rows)}}
    config = FinetuneConfig.model_validate({**values, **given})
    data = files.load(config, 0)
    data = replace(data, audit=audit.extended(config, data, pieces()))
    assert "truncated" not in data.audit
    assert "Truncated" not in said(data)
    assert audit.extended(config, data, pieces()) == data.audit


@pytest.mark.parametrize(("times", "words"), [(1, "1 row repeats another"), (2, "2 rows repeat another")])
def test_one_is_one(tmp_path: Path, times: int, words: str) -> None:
    rows = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(40)] + [{"text": "text 3", "label": "b"}] * times
    shown = said(load(write(tmp_path / "a.jsonl", [*rows, *[{"text": "x"}] * times]), None))
    assert words in shown
    assert f"not used: {times} row{'s' * (times > 1)} without a value in 'label'" in shown


def test_json_lines_are_known_to_lack_a_column_before_any_work(tmp_path: Path) -> None:
    rows = [{"text": "a"}, {"text": "b", "label": "x"}]
    values = {"name": "x", "base": "b", "label": "label", "data": {"train": write(tmp_path / "a.jsonl", rows)}}
    files.look(FinetuneConfig.model_validate(values))  # a later row has it
    values["label"] = "topic"
    with pytest.raises(WrongRows, match="no column 'topic', which `label` names; there is text"):
        files.look(FinetuneConfig.model_validate(values))

"""What can be known before work is known before work, and all of it is said at once."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline import preflight
from pipeline import recipe as recipes
from pipeline.build import Build
from training import preflight as training_preflight
from training.recipe import BuildRecipe


def build_of(folder: Path, root: Path | None = None, **sections: Any) -> Build[BuildRecipe]:
    (folder / "good.jsonl").write_text(json.dumps({"text": "Some text of a few words.", "id": "a"}) + "\n")
    source = {"name": "web", "kind": "jsonl", "path": str(folder / "good.jsonl")}
    values = {"name": "checked", "sources": [source], **sections}
    return Build(str(root or folder / "builds" / "checked"), recipes.checked(values, BuildRecipe))


def problems(folder: Path, **sections: Any) -> str:
    return "\n".join(preflight.problems(build_of(folder, **sections)))


def test_a_build_that_can_start_has_no_problem_and_is_not_begun(tmp_path):
    (tmp_path / "words.txt").write_text("bad\n")
    sections = {"language": {"keep": {"en": 0.5, "*": 0.9}}, "bad_words": {"lists": {"en": f"{tmp_path}/words.txt"}}}
    assert preflight.problems(build_of(tmp_path, **sections, exact={}, minhash={}, perplexity={})) == []
    assert not (tmp_path / "builds").exists()


def test_every_problem_is_found_at_once_with_its_field_and_in_a_moment(tmp_path):
    (tmp_path / "fields.jsonl").write_text("".join(json.dumps({"body": f"text {i}"}) + "\n" for i in range(50)))
    (tmp_path / "not-a-model.bin").write_bytes(b"no model")
    (tmp_path / "eval.jsonl").write_text(json.dumps({"query": "What is it?"}) + "\n")
    here = str(tmp_path)
    build = build_of(
        tmp_path,
        sources=[
            {"name": "gone", "kind": "jsonl", "path": f"{here}/gone/*.jsonl"},
            {"name": "body", "kind": "jsonl", "path": f"{here}/fields.jsonl"},
        ],
        language={"keep": {"en": 0.5, "xx": 0.5}},
        urls={"blocklist": f"{here}/hosts"},
        bad_words={"lists": {"english": f"{here}/words.txt"}},
        perplexity={
            "models": {"en": f"{here}/en.arpa", "de": {"kenlm": f"{here}/de.bin", "sentencepiece": "de.model"}}
        },
        toxicity={"model": f"{here}/not-a-model.bin", "label": "toxic"},
        quality={"train": {side: [{"name": side, "kind": "text", "path": f"{here}/{side}.txt"}] for side in SIDES}},
        exact={},
        against=[f"{here}/earlier/index"],
        decontaminate={
            "sets": [
                {"name": "absent", "path": f"{here}/absent.jsonl", "question_fields": ["question"]},
                {"name": "wrong", "path": f"{here}/eval.jsonl", "question_fields": ["question"]},
            ]
        },
        balance={"tokenizer": f"{here}/tokenizer.json"},
        references=[{"name": "published", "path": f"{here}/vocabulary"}],
    )
    preflight.problems(build)  # once for what is loaded once a process
    began = time.perf_counter()
    found = preflight.problems(build)
    assert time.perf_counter() - began < 1
    expected = [
        "sources[0] (gone): source 'gone': no file matches",
        "sources[1] (body): ",
        "language.keep: the model lid.176 knows no language 'xx'",
        "bad_words.lists: the model lid.176 knows no language 'english'",
        f"urls.blocklist: {here}/hosts: no such model",
        f"bad_words.english: {here}/words.txt: no such",
        f"perplexity.models.en: {here}/en.arpa: no such",
        f"perplexity.models.de: {here}/de.bin: no such",
        "perplexity.models.de: de.model: no such",
        "toxicity.label: ",
        "quality.train.positive[0] (positive): source 'positive': no file matches",
        "quality.train.negative[0] (negative): source 'negative': no file matches",
        f"against: {here}/earlier/index is not a finished index",
        "decontaminate.sets[0]: source 'absent': no file matches",
        "decontaminate.sets[1]: evaluation set 'wrong'",
        f"balance.tokenizer: {here}/tokenizer.json is not there",
        f"references[0]: {here}/vocabulary: no such file or folder",
    ]
    told = "\n".join(found)
    missing = [start for start in expected if not any(line.startswith(start) for line in told.splitlines())]
    assert missing == [], told
    assert "not a fastText model" in told
    assert "set `text_field`" in told
    assert '"body"' in told


SIDES = ("positive", "negative")


def test_a_model_that_is_not_there_is_named_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("CORPUSMILL_MODELS", str(tmp_path / "models"))
    assert "fetch it with `mill models pull lid.176`" in problems(tmp_path, language={})


def test_a_place_that_holds_no_build_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / "builds"
    assert preflight.problems(build_of(tmp_path, root)) == [
        f"--builds: {tmp_path / 'file'} is a file; choose another folder for builds"
    ]


def test_the_first_records_may_be_bad_if_others_are_good(tmp_path):
    lines = [json.dumps({"other": 1})] * 5 + [json.dumps({"text": "good"})] * 5
    (tmp_path / "mixed.jsonl").write_text("\n".join(lines))
    source = {"name": "mixed", "kind": "jsonl", "path": str(tmp_path / "mixed.jsonl")}
    assert problems(tmp_path, sources=[source]) == ""


def test_a_teacher_that_is_not_there_is_named(tmp_path):
    shape = {"preset": "bert-base", "num_hidden_layers": 2}
    run = {
        "name": "student",
        "objective": "distillation",
        "tokenizer": "words",
        "model": shape,
        "steps": 2,
        "distillation": {"teacher": str(tmp_path / "teacher")},
    }
    tokenizer = {"name": "words", "algorithm": "wordpiece", "vocab_size": 500}
    with pytest.raises(recipes.MillError, match=r"pretrain\[0\]\.distillation\.teacher: .*/teacher' is no run"):
        training_preflight.check(build_of(tmp_path, tokenizers=[tokenizer], pretrain=[run]))

"""Recall of decontamination by injection of real items into real prose, and precision on texts older than the items.

What the method promises: of an item with g countable grams of n words, a change of one word breaks at most n of them.
So with e changed words the share that is left is at least (g - n e) / g, and the item must be found while that is
``min_overlap`` or more: e <= g (1 - min_overlap) / n. Whoever finds fewer has a fault; so the bound on recall is 1 for
those injections, and 0 is the bound on false alarms for all whose true share of grams is below ``min_overlap``.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.build.build import Build
from pipeline.stages.decontaminate.grams import words as words_of
from pipeline.stages.decontaminate.stage import Config, steps
from pipeline.store import files
from tests.helpers.dedup_corpus import decisions, run, write_documents
from tests.helpers.sections import Sections

NGRAM, OVERLAP, COMMON = 13, 0.5, 100
SETS = {
    "gsm8k_test": (["question"], ["answer"]),
    "lambada_openai": (["context"], ["continuation"]),
    "arc_challenge": (["query"], []),
    "openbook_qa": (["query"], []),
    "HumanEval": (["prompt"], ["canonical_solution"]),
}
EDITS = (0, 1, 2, 4)
PER_SET = 10


@dataclass(frozen=True)
class Recipe(Sections):
    decontaminate: Config
    name: str = "test"


@dataclass(frozen=True)
class Injected:
    """A document with an item in it: ``share`` of the item's countable grams, by plain Python, is in the document."""

    item: str
    part: str
    edits: int
    grams: int
    share: float
    document: dict[str, Any]


def shingles(text: str, ngram: int) -> list[tuple[str, ...]]:
    found = words_of(text)
    return [tuple(found[i : i + ngram]) for i in range(max(len(found) - ngram + 1, min(len(found), 1)))]


def records(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path) as handle:
        return [json.loads(line) for line in handle.read().split(b"\n") if line]


def config(shared: Path, parts: str) -> Config:
    sets = [
        {
            "name": name,
            "path": f"{shared}/evalsets/{name}.jsonl.gz",
            "question_fields": question,
            "answer_fields": answer,
            "parts": parts if answer else "question",
        }
        for name, (question, answer) in SETS.items()
    ]
    return Config.model_validate({"sets": sets})


def text_of(record: dict[str, Any], name: str, parts: str) -> str:
    question, answer = SETS[name]
    fields = {"question": question, "answer": answer, "both": [*question, *answer]}[parts if answer else "question"]
    return "\n".join(record[field] for field in fields)


def injections(shared: Path, parts: str) -> Iterator[Injected]:
    """Items of every set with words changed at random, in hosts of a hundred to five thousand words."""
    draw = random.Random(parts)
    hosts = [row["text"].split(" ") for row in records(shared / "prose/speech/us_presidents.jsonl.gz")]
    everywhere: Counter[tuple[str, ...]] = Counter()
    items = {name: records(shared / f"evalsets/{name}.jsonl.gz") for name in SETS}
    for name, rows in items.items():
        for row in rows:
            everywhere.update(set(shingles(text_of(row, name, parts), NGRAM)))
    for name, rows in items.items():
        for number in draw.sample(range(len(rows)), PER_SET):
            text = text_of(rows[number], name, parts)
            # twice as careful as the rule: no gram of an item that is counted here can be in so many documents
            grams = {gram for gram in set(shingles(text, NGRAM)) if everywhere[gram] * len(EDITS) <= COMMON}
            for edits in EDITS:
                words = text.split(" ")
                single = [at for at, word in enumerate(words) if len(list(words_of(word))) == 1]
                for at in draw.sample(single, min(edits, len(single))):
                    words[at] = f"edited{at}"
                host = draw.choice(hosts)[: draw.choice((100, 1000, 5000))]
                place = draw.randrange(len(host) + 1)
                whole = " ".join([*host[:place], "\n", *words, "\n", *host[place:]])
                there = grams & set(shingles(whole, NGRAM))
                identifier = f"{name}/{name}.jsonl.gz#{number + 1}"
                document = {"id": f"{identifier} with {edits}", "text": whole}
                yield Injected(identifier, parts, edits, len(grams), len(there) / max(len(grams), 1), document)


@pytest.mark.parametrize("parts", ["both", "question", "answer"])
def test_every_injected_item_that_the_method_can_find_is_found_and_named(shared, tmp_path, parts):
    cases = [case for case in injections(shared, parts) if case.grams >= NGRAM]
    build = Build(str(tmp_path), Recipe(config(shared, parts)))  # type: ignore[arg-type]
    write_documents(build, [case.document for case in cases], 100)
    run(build, steps())
    report = files.read_json(build.path("decontamination.json"))
    held = {
        (item, entry["document"])
        for found in report.values()
        for item, places in found["held"].items()
        for entry in places
    }
    promised = [case for case in cases if case.edits <= case.grams * (1 - OVERLAP) / NGRAM]
    assert len(promised) > PER_SET
    assert {case.edits for case in promised} >= {0, 1, 2}
    missed = [case for case in promised if (case.item, case.document["id"]) not in held]
    assert missed == []
    # and beyond the promise it decides as the definition says, on every item whose grams all count
    for case in cases:
        if case.share < OVERLAP * 0.9:
            assert (case.item, case.document["id"]) not in held
    dropped = {name for name, entry in decisions(build, "decontaminate").items() if entry["dropped_by"]}
    assert dropped == {document for _, document in held}
    by_edits = {
        edits: [(case.item, case.document["id"]) in held for case in cases if case.edits == edits] for edits in EDITS
    }
    print(parts, {edits: f"{sum(found)}/{len(found)}" for edits, found in by_edits.items()})


@pytest.mark.parametrize("parts", ["both", "question", "answer"])
def test_texts_older_than_the_items_hold_none_of_them(shared, tmp_path, parts):
    """An encyclopedia of 1810 cannot hold them; whatever is found there is a false alarm."""
    documents = [
        {"id": f"page-{number}", "text": row["text"]}
        for number, row in enumerate(records(shared / "prose/encyclopedia/britannica_1810_v01-09.jsonl.gz"))
    ]
    build = Build(str(tmp_path), Recipe(config(shared, parts)))  # type: ignore[arg-type]
    write_documents(build, documents, 1000)
    run(build, steps())
    assert len(documents) > 4000
    assert {name: entry["held"] for name, entry in files.read_json(build.path("decontamination.json")).items()} == {
        name: {} for name in SETS
    }


def _arc(row: dict[str, Any]) -> tuple[str, list[str]]:
    return row["query"].removeprefix("Question: "), row["choices"]


def _commonsense(row: dict[str, Any]) -> tuple[str, list[str]]:
    return row["query"].removeprefix("Question: ").partition("\nChoices:")[0], []


def _choices(choices: list[str]) -> str:
    return "\n".join(f"{letter}. {choice}" for letter, choice in zip("ABCDE", choices, strict=False))


#: Sets as they come or as harnesses write them, and the question that stands in a text.
FORMATS = {
    "arc_easy as it comes": ("arc_easy", lambda row: row["query"], _arc),
    "commonsense_qa as it comes": ("commonsense_qa", lambda row: row["query"], _commonsense),
    "choices": (
        "arc_easy",
        lambda row: f"Q: {_arc(row)[0]}\nChoices:\n{_choices(row['choices'])}\nA:",
        _arc,
    ),
    "one line": (
        "arc_challenge",
        lambda row: f"Question: {_arc(row)[0]} Choices: {_choices(row['choices'])} Answer:".replace("\n", " "),
        _arc,
    ),
    "instruction": (
        "openbook_qa",
        lambda row: (
            f"The following is a multiple choice question.\n\nContext: {row['query']}\nOptions: {row['choices']}"
        ),
        lambda row: (row["query"], row["choices"]),
    ),
    "worked": (
        "gsm8k_test",
        lambda row: f"### Question:\n{row['question']}\n\n### Answer:\n{row['answer']}",
        lambda row: (row["question"], []),
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_question_is_found_in_prose_however_the_set_writes_its_prompts(shared, tmp_path, name):
    """All questions that are long enough to be checked at all, put into prose without any label."""
    origin, prompt, question = FORMATS[name]
    rows = records(shared / f"evalsets/{origin}.jsonl.gz")
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt(row)}) + "\n" for row in rows))
    draw = random.Random(name)
    hosts = [row["text"].split(" ")[:200] for row in records(shared / "prose/speech/us_presidents.jsonl.gz")]
    chosen = [number for number, row in enumerate(rows) if len(words_of(question(row)[0])) >= 8]
    chosen = draw.sample(chosen, min(len(chosen), 200))
    documents = []
    for number in chosen:
        host, place = draw.choice(hosts), draw.randrange(200)
        text = " ".join([*host[:place], "\n", question(rows[number])[0].replace("'", "’"), "\n", *host[place:]])
        documents.append({"id": str(number), "text": text})
    prompts = {"name": "prompts", "path": str(path), "question_fields": ["prompt"]}
    build = Build(str(tmp_path / "build"), Recipe(Config.model_validate({"sets": [prompts]})))  # type: ignore[arg-type]
    write_documents(build, documents, 100)
    run(build, steps())
    held = files.read_json(build.path("decontamination.json"))["prompts"]["held"]
    missed = [
        n for n in chosen if str(n) not in {e["document"] for e in held.get(f"prompts/prompts.jsonl#{n + 1}", [])}
    ]
    print(name, f"{len(chosen) - len(missed)}/{len(chosen)}")
    assert missed == []

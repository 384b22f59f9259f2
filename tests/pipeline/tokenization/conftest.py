"""A small curated corpus, as the materialise step leaves it, and a recipe that holds what the tokenizer wing reads."""

from __future__ import annotations

import random
from concurrent.futures import Executor
from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from pipeline.build.build import Build, Outcome
from pipeline.curation.write_corpus import CORPUS_SCHEMA
from pipeline.store import files, shards
from pipeline.tokenization import steps
from pipeline.tokenization.config import PackConfig, TokenizerConfig
from tests.helpers.sections import Sections

THREE = [
    TokenizerConfig(name="bytes", algorithm="bpe", vocab_size=400),
    TokenizerConfig(name="pieces", algorithm="wordpiece", vocab_size=200),
    TokenizerConfig(name="unigram", algorithm="unigram", vocab_size=200),
]


@dataclass(frozen=True)
class StandIn(Sections):
    """The part of a recipe that the tokenizer wing reads."""

    tokenizers: list[TokenizerConfig] = field(default_factory=lambda: THREE)
    pack: PackConfig = field(default_factory=lambda: PackConfig(heldout=0.1))
    seed: int = 0
    name: str = "test"


def documents(count: int = 120) -> list[dict]:
    """Documents of made-up words with punctuation, digits, accents, CJK and emoji, in two domains."""
    source = random.Random(7)
    stems = [
        "lo",
        "wid",
        "new",
        "fast",
        "un",
        "être",
        "naïve",
        "計算",
        "机",
        "it's",
        "can't",
        "x_1",
        "3.14",
        "😉",
        "<b>",
    ]
    ends = ["", "er", "est", "ing", "s", "!", ",", ".\n", "  ", "\t"]
    found = []
    for index in range(count):
        words = [source.choice(stems) + source.choice(ends) for _ in range(source.randint(1, 60))]
        text = " ".join(words)
        domain = "odd" if index % 2 else "even"
        found.append({"id": f"doc{index}", "text": text, "source": "s", "domain": domain, "repeats": 1 + index % 3})
    return found


def make_build(folder, recipe: StandIn, shard_count: int = 3, rows: list[dict] | None = None) -> Build:
    build = Build(str(folder), recipe)  # type: ignore[arg-type]
    rows = documents() if rows is None else rows
    size = -(-len(rows) // shard_count)
    names = [f"data-{i:05d}-of-{shard_count:05d}.arrow" for i in range(shard_count)]
    for index, name in enumerate(names):
        part = rows[index * size : (index + 1) * size]
        table = pa.Table.from_pylist(part, CORPUS_SCHEMA)
        shards.write_table(build.path("corpus", name), table, files.fingerprint(part))
    size = {"documents": len(rows), "bytes": sum(len(row["text"].encode()) for row in rows)}
    files.write_json(build.path("corpus", "manifest.json"), {"shards": names, **size})
    return build


def run(build: Build, pool: Executor | None = None) -> dict[str, list[Outcome]]:
    """Every step with all its items, in order; the items of a step in ``pool``, last one first, if there is one."""
    outcomes = {}
    for step in steps.steps():
        items = step.items(build)
        if pool is None:
            outcomes[step.name] = [step.work(build, item) for item in items]
        else:
            outcomes[step.name] = list(pool.map(step.work, [build] * len(items), items[::-1]))
    return outcomes


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Build:
    build = make_build(tmp_path_factory.mktemp("build"), StandIn())
    run(build)
    return build

"""What a rebuild with nothing new opens: each file of a shard once or twice, however many stages ask for it."""

from __future__ import annotations

import pydoc_data.topics
from collections import Counter
from pathlib import Path

import yaml

from pipeline.build.build import Build
from pipeline.curation import recipe as recipes
from pipeline.store import checksums, files, opens, shards
from tests.helpers import building

TEXTS = sorted(text for text in pydoc_data.topics.topics.values() if 1500 < len(text) < 8000)
RECIPE = {
    "name": "idle",
    "shard_bytes": "1KiB",
    "pii": {},
    "exact": {},
    "minhash": {"bands": 2},
    "balance": {},
    "canaries": False,
    "tokenizers": [{"name": "bpe", "algorithm": "bpe", "vocab_size": 300}],
}
#: Of a shard with a source file of its own. Heads, each once: documents, quarantine, 4 ledgers, corpus, the tokens of 2
#: splits, and what 6 steps keep of it. Whole: plan and report of its part twice, funnel, the tokens' documents of both
#: splits, account of tokens twice; and 7 that are the same for all shards: found duplicates, the budget of domains.
HEADS, READS = 15, 16


def made(folder: Path, size: int) -> Build:
    folder.mkdir()
    for number in range(size):
        (folder / f"{number:03}.txt").write_text(TEXTS[number][:900], "utf-8")
    source = {"name": "texts", "kind": "text", "path": f"{folder}/*.txt"}
    recipe = recipes.parse(yaml.safe_dump({**RECIPE, "sources": [source]}), recipes.Recipe)
    build, _ = building.make(recipe, folder / "build")
    assert len(build.shards()) == size
    return build


def opened(build: Build) -> Counter[str]:
    """What a process that has just begun opens to find that ``build`` is current; raises NotCurrent if it is not."""
    shards._made_by.clear()
    checksums._whole.clear()
    before = Counter(opens.counted)
    with files.looking():
        for step in building.steps(build):
            for item in step.items(build):
                step.work(build, item)
    return opens.counted - before


def test_openings_grow_with_the_shards_and_nothing_is_written(tmp_path):
    few, many = (opened(made(tmp_path / str(size), size)) for size in (4, 8))
    assert few["write"] == many["write"] == 0
    assert {kind: many[kind] - few[kind] for kind in ("head", "read")} == {"head": 4 * HEADS, "read": 4 * READS}


def test_a_file_that_changed_since_it_was_last_asked_for_is_opened_again(tmp_path):
    path = str(tmp_path / "table.arrow")
    shards.write_table(path, shards.DOCUMENT_SCHEMA.empty_table(), "a" * 32)
    assert shards.read_fingerprint(path) == "a" * 32
    before = opens.counted["head"]
    assert shards.read_fingerprint(path) == "a" * 32
    assert opens.counted["head"] == before
    shards.write_table(path, shards.DOCUMENT_SCHEMA.empty_table(), "b" * 32)
    assert shards.read_fingerprint(path) == "b" * 32
    content = Path(path).read_bytes()
    Path(path).write_bytes(content.replace(b"b" * 32, b"c" * 32))  # as long, and the same inode
    assert shards.read_fingerprint(path) == "c" * 32
    Path(path).write_bytes(content[:100])
    assert shards.read_fingerprint(path) is None
    Path(path).unlink()
    assert shards.read_fingerprint(path) is None

"""Canaries: what is planted is what it says, what is caught is counted, and no document of the build feels them."""

from __future__ import annotations

import json
import pydoc_data.topics
import random
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from pipeline.build.canaries import Host
from pipeline.curation import canaries
from pipeline.curation import recipe as recipes
from pipeline.report import canaries as told
from pipeline.stages import language, pii, registry
from pipeline.stages.dedup import canaries as plants
from pipeline.stages.dedup import minhash, passages, repeats, substring
from pipeline.store import files
from pipeline.text.foreign_sentences import SENTENCES
from pipeline.text.shingles import shingles
from tests.helpers import building

TOPICS = sorted(pydoc_data.topics.topics.items())
HOST = Host("docs/a#1", max((text for _, text in TOPICS), key=len))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    rows = [{"id": name, "text": text} for name, text in TOPICS]
    rows += [{"id": f"{name} again", "text": text + "\nOne more line of words."} for name, text in TOPICS[:9]]
    (folder / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    items = [
        {"q": f"Which of the {number} travellers left the harbour town first, and what did she carry to the lighthouse",
         "a": f"The one who had sold {number} lanterns and a barrel of salted herring."}
        for number in ("seven", "eleven", "thirty", "forty", "ninety")
    ]  # fmt: skip
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items), "utf-8")
    return folder


def recipe_over(inputs: Path, **changes) -> recipes.Recipe:
    values = {
        "name": "planted",
        "seed": 5,
        "shard_bytes": "96KiB",
        "sources": [{"name": "docs", "kind": "jsonl", "path": f"{inputs}/docs.jsonl"}],
        "language": {"keep": {"en": 0.3}},
        "perplexity": {"order": 3},
        "pii": {},
        "exact": {},
        "minhash": {},
        "passages": {},
        "substring": {},
        "decontaminate": {
            "sets": [
                {"name": "ours", "path": f"{inputs}/items.jsonl", "question_fields": ["q"], "answer_fields": ["a"]}
            ]
        },
        "balance": {"strategy": "temperature", "temperature": 2, "tokens": 20_000},
        "canaries": {"documents": 12},
    }
    return recipes.parse(yaml.safe_dump({**values, **changes}), recipes.Recipe)


@pytest.fixture(scope="module")
def build(inputs: Path, tmp_path_factory: pytest.TempPathFactory):
    return building.make(recipe_over(inputs), tmp_path_factory.mktemp("with"))[0]


def test_every_stage_catches_what_is_planted_for_it_and_the_funnel_tells(build):
    found = files.read_json(build.path("funnel.json"))["canaries"]
    assert set(found["stages"]) == {"language", "pii", "exact", "minhash", "passages", "substring", "decontaminate"}
    for name, entry in found["stages"].items():
        assert entry["reached"] >= (5 if name == "decontaminate" else 12) - 2, name
        assert entry["caught"] >= entry["reached"] - (2 if name == "minhash" else 0), (name, entry)
    assert 0.7 < found["stages"]["minhash"]["expected"] < 1
    rows = told.canaries(build)["rows"]  # type: ignore[index]
    assert [row["stage"] for row in rows] == [
        "Language ID", "Personal data", "Exact duplicates", "Near-duplicates", "Repeated passages",
        "Duplicate substrings",
        "Decontamination",
    ]  # fmt: skip


def test_what_is_kept_is_the_same_with_and_without_canaries_and_none_is_in_the_corpus(build, inputs, tmp_path):
    without, _ = building.make(recipe_over(inputs, canaries=False), tmp_path)
    assert building.curated(without) == building.curated(build)
    assert not any(name.startswith(("canary/", "host/")) for name in building.curated(build))
    one, other = (files.read_json(b.path("funnel.json")) for b in (build, without))
    assert one["stages"] == other["stages"]
    assert "canaries" not in other
    assert not Path(without.path("canaries.json")).exists()
    for folder in ("ledgers", "models", "documents"):
        here, there = (building.contents(Path(b.path(folder))) for b in (build, without))
        assert here == there, folder


@pytest.mark.slow
def test_the_same_canaries_for_any_shard_size_and_others_for_another_seed(inputs, tmp_path):
    other, _ = building.make(
        recipe_over(inputs, shard_bytes="1MiB", perplexity=None, balance=None), tmp_path / "shards"
    )
    same, _ = building.make(recipe_over(inputs, perplexity=None, balance=None), tmp_path / "same")
    assert canaries.recall(other) == canaries.recall(same)
    documents = [sorted(canaries._room(b).build.documents("canaries.arrow")["text"].to_pylist()) for b in (other, same)]
    assert documents[0] == documents[1]
    seeded, _ = building.make(recipe_over(inputs, seed=6, perplexity=None, balance=None), tmp_path / "seed")
    assert sorted(canaries._room(seeded).build.documents("canaries.arrow")["text"].to_pylist()) != documents[1]


def test_an_unchanged_build_plants_none_again_and_a_changed_stage_does(inputs, tmp_path):
    plain = {"perplexity": None, "balance": None, "decontaminate": None}
    building.make(recipe_over(inputs, **plain), tmp_path)
    _, outcomes = building.make(recipe_over(inputs, **plain), tmp_path)
    assert [outcome.reused for outcome in outcomes["canaries"]] == [True]
    _, outcomes = building.make(recipe_over(inputs, **plain, minhash={"threshold": 0.9}), tmp_path)
    assert [outcome.reused for outcome in outcomes["canaries"]] == [False]


def test_a_stage_that_misses_its_canaries_is_warned_of_or_fails_the_build(inputs, tmp_path):
    """One band of 30 rows finds next to no near duplicate at 0.5."""
    blind = {"threshold": 0.5, "bands": 1, "rows": 30}
    plain = {"perplexity": None, "balance": None, "decontaminate": None, "pii": None, "minhash": blind}
    build, _ = building.make(recipe_over(inputs, **plain), tmp_path)
    (warning,) = canaries.recall(build)["warnings"]  # type: ignore[index]
    assert "minhash caught" in warning
    assert "planted near duplicates" in warning
    assert "minimum_recall = 80%" in warning
    strict = {"documents": 12, "on_low_recall": "fail"}
    for _ in range(2):  # also when nothing is to be done again
        with pytest.raises(canaries.CanariesMissed, match="minhash caught"):
            building.make(recipe_over(inputs, **plain, canaries=strict), tmp_path)


def test_a_build_without_such_stages_or_without_fit_documents_has_none_to_tell_of(inputs, tmp_path):
    (tmp_path / "tiny.jsonl").write_text('{"text": "One short line of English text."}\n')
    tiny = [{"name": "docs", "kind": "jsonl", "path": str(tmp_path / "tiny.jsonl")}]
    stages = ("perplexity", "balance", *(stage.name for stage in registry.STAGES if stage.canaries))
    bare = dict.fromkeys(stages)
    build, _ = building.make(recipe_over(inputs, sources=tiny, **bare), tmp_path / "bare")
    assert told.canaries(build) is None
    some = {**bare, "exact": {}, "language": {"keep": {"*": 0.0}}}
    build, _ = building.make(recipe_over(inputs, sources=tiny, **some), tmp_path / "tiny")
    assert [row["planted"] for row in told.canaries(build)["rows"]] == ["nothing to plant"] * 2  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.5, 0.72, 0.9, 0.97])
def test_a_near_duplicate_is_as_similar_as_it_says_and_lies_above_the_threshold(threshold: float):
    config = minhash.Config(threshold=threshold)
    for seed in range(12):
        canary = plants.near_copy(HOST, random.Random(seed), config)
        assert canary is not None
        one, other = set(shingles(HOST.text, 5)), set(shingles(canary.text, 5))
        similarity = len(one & other) / len(one | other)
        assert threshold <= similarity < 1
        assert canary.chance == pytest.approx(1 - (1 - similarity**config.rows) ** config.bands)
    assert plants.near_copy(Host("x", "Too short."), random.Random(1), config) is None


@pytest.mark.parametrize("config", [
    passages.Config(), passages.Config(unit="sentence", length=3), passages.Config(unit="line", minimum=300),
    substring.Config(), substring.Config(length=400),
], ids=str)  # fmt: skip
def test_a_repeated_passage_is_one_for_the_stage_and_no_near_duplicate(config):
    for seed in range(20):
        canary = plants.shared_passage(HOST, random.Random(seed), config)
        assert canary is not None
        assert canary.host is not None
        texts = [canary.text, canary.host.text]
        assert all(canary.passage in text for text in texts)
        hashes, units, first = repeats.passages(pa.array(texts), config)
        one, other = (set(hashes[(units >= first[i]) & (units < first[i + 1])].tolist()) for i in (0, 1))
        assert one & other
        assert plants.jaccard(canary.text, canary.host.text, 5) < 0.5
    assert plants.shared_passage(Host("x", "..."), random.Random(1), config) is None


def test_of_a_large_corpus_hosts_come_from_a_fixed_number_of_shards(build, monkeypatch):
    monkeypatch.setattr(canaries, "_SHARDS", 2)
    chosen = canaries._looked_at(build)
    assert len(build.shards()) > 2
    assert len(chosen) == 2
    ids = {name for shard in chosen for name in build.documents(shard)["id"].to_pylist()}
    hosts = canaries._hosts(build, 10)
    assert hosts
    assert {host.id for host in hosts} <= ids


def test_made_up_accounts_and_cards_pass_their_checks():
    for seed in range(200):
        rng = random.Random(seed)
        iban, card = pii._iban(rng), pii._card(rng)
        assert int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97 == 1
        digits = [int(c) for c in card[::-1]]
        assert sum(d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(digits)) % 10 == 0


def test_languages_that_the_recipe_keeps_are_never_planted():
    assert language.unwanted(["*"]) == []
    assert set(language.unwanted(["en", "deu_Latn"])) == set(SENTENCES) - {"en", "de"}

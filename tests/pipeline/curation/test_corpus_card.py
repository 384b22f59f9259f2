"""The curated corpus opens with the libraries people use, and its card says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import orjson
import pytest
import yaml

from pipeline.build.build import Build
from pipeline.curation import corpus_card
from pipeline.curation import recipe as recipes
from pipeline.sources import hub
from pipeline.store import files, shards
from tests.helpers import building

TEXT = "The river rises in the hills and flows past the old town, where it turns the wheels of three mills. "


@pytest.fixture(scope="module")
def build(tmp_path_factory) -> Build:
    folder = tmp_path_factory.mktemp("card")
    rows = [{"text": f"{TEXT * 3}Number {n}.", "id": n} for n in range(30)] + [{"text": f"{TEXT * 3}Number 1."}]
    (folder / "web.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    recipe = recipes.checked(
        {
            "name": "rivers",
            "shard_bytes": 4000,
            "sources": [{"name": "web", "kind": "jsonl", "path": str(folder / "web.jsonl"), "domain": "a|b<c>"}],
            "language": {"keep": {"en": 0.1}},
            "exact": {},
            "canaries": False,
        },
        recipes.Recipe,
    )
    return building.make(recipe, folder / "build")[0]


def rows(build: Build) -> list[dict[str, Any]]:
    names = files.read_json(build.path("corpus", "manifest.json"))["shards"]
    assert len(names) > 1
    return [row for name in names for row in shards.read_table(build.path("corpus", name)).to_pylist()]


@pytest.fixture
def corpus(build: Build, tmp_path: Path, monkeypatch) -> str:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return build.path("corpus")


def test_the_corpus_opens_with_the_lines_of_the_guide_and_holds_the_rows_of_its_shards(build, corpus):
    guide = (Path(__file__).parents[3] / "docs/guide.md").read_text(encoding="utf-8")
    lines = [line for line in guide.splitlines() if line.startswith("corpus = ")]
    assert len(lines) == 2
    for line in lines:
        space: dict[str, Any] = {"load_dataset": datasets.load_dataset, "load_from_disk": datasets.load_from_disk}
        exec(line.replace("data/builds/demo/corpus", corpus), space)
        assert space["corpus"].to_list() == rows(build)


def test_a_curated_corpus_is_a_source_of_another_build(build, corpus):
    config = hub.Hub(name="again", dataset=corpus)
    found = hub.list_files(config)
    assert [file.name for file in found] == [f"train/{name}" for name in sorted(n["name"] for n in shards_of(build))]
    texts = [row.text for file in found for row in hub.read(config, file)]  # type: ignore[union-attr]
    assert texts == [row["text"] for row in rows(build)]


def shards_of(build: Build) -> list[dict[str, str]]:
    return [{"name": name} for name in files.read_json(build.path("corpus", "manifest.json"))["shards"]]


def test_the_card_says_what_the_corpus_is_made_of(build):
    text = Path(build.path("corpus", "README.md")).read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "pretty_name": "rivers",
        "language": ["en"],
        "size_categories": ["n<1K"],
        "tags": ["corpusmill"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data-*.arrow"}]}],
    }
    read, kept = (
        sum(len(TEXT * 3) + len(f"Number {n}.") for n in [*range(30), 1]),
        sum(len(r["text"]) for r in rows(build)),
    )
    assert f"| web | jsonl | 31 | {read:,} | 30 | {kept:,} |" in body
    assert f"| a&#124;b&lt;c&gt; | 30 | {kept:,} |" in body
    assert f"| en | 30 | {kept:,} |" in body
    assert f"| Exact duplicates | exact duplicate | 1 | {read - kept:,} |" in body


def test_the_card_is_written_again_only_if_it_would_differ(build):
    path = Path(build.path("corpus", "README.md"))
    (step,) = corpus_card.steps()
    content, stamp = path.read_bytes(), files.stamp(str(path))
    assert step.work(build, "README.md").reused
    assert files.stamp(str(path)) == stamp
    path.write_bytes(content + b"Thanks to the millers.\n")
    assert step.work(build, "README.md").reused
    assert path.read_bytes().endswith(b"millers.\n")

    account = build.path("funnel.json")
    was = files.read_json(account)
    files.write_json(account, {**was, "languages": {"fr": was["languages"]["en"]}})
    assert not step.work(build, "README.md").reused
    assert "- fr" in path.read_text(encoding="utf-8").splitlines()
    files.write_json(account, was)
    assert not step.work(build, "README.md").reused
    assert path.read_bytes() == content


def test_what_an_earlier_layout_left_is_removed(build, corpus):
    from pipeline.curation import write_corpus

    manifest = build.path("corpus", "manifest.json")
    Path(corpus, "state.json").write_text("{}")
    files.write_json(manifest, {**files.read_json(manifest), "fingerprint": "of an earlier layout"})
    step = next(step for step in write_corpus.steps() if step.name == "corpus.manifest")
    step.work(build, "manifest.json")
    assert datasets.load_dataset(corpus, split="train").num_rows == 30

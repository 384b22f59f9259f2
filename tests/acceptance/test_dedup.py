"""Deduplication of real near-duplicates: labelled articles, revisions of documents, two editions of an encyclopedia."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasketch import MinHash, MinHashLSH

from benchmarks.documents import named_prose
from pipeline.build.build import Build
from pipeline.stages.dedup import minhash, verify
from pipeline.stages.dedup.minhash import Config
from pipeline.store import shards
from pipeline.text.shingles import shingle_hash, shingle_sets, shingles
from tests.helpers.dedup_corpus import build_of, decisions, dropped, partition_of, run


def records(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path) as handle:
        return [json.loads(line) for line in handle.read().split(b"\n") if line]


def deduplicated(root: Path, documents: list[dict[str, Any]], config: Config, shard_size: int = 300) -> Build:
    fields = [{"id": d["id"], "text": d["text"], "source": "real"} for d in documents]
    build = build_of(root, fields, shard_size, minhash=config)
    run(build, minhash.steps())
    return build


def cluster_of(build: Build) -> dict[str, int | None]:
    return {name: entry["cluster"] for name, entry in decisions(build, "minhash").items()}


def test_all_labelled_duplicate_articles_are_found_and_nothing_else_is_dropped(shared, tmp_path):
    build = deduplicated(tmp_path, records(shared / "neardup/articles_minhash.jsonl.gz"), Config())
    pairs = [line.split() for line in (shared / "neardup/articles_minhash_truth.tsv").read_text().splitlines()]
    gone = dropped(build, "minhash")
    assert len(pairs) == 10
    for a, b in pairs:
        assert (gone.get(a) == b) != (gone.get(b) == a), f"of {a} and {b} one should stay"
    assert len(gone) == len(pairs), "precision is 1 on this set"


def test_revisions_are_found_and_measured_as_their_labels_say(shared, tmp_path):
    """The labels are exact Jaccard similarities of word 5-grams, computed by others, to four digits."""
    config = Config()
    build = deduplicated(tmp_path, records(shared / "neardup/pep_revisions_docs.jsonl.gz"), config)
    pairs = {(p["a"], p["b"]): p["jaccard_w5"] for p in records(shared / "neardup/pep_revisions_pairs.jsonl.gz")}
    cluster = cluster_of(build)
    near = [pair for pair, jaccard in pairs.items() if jaccard >= 0.9]
    together = [cluster[a] is not None and cluster[a] == cluster[b] for a, b in near]
    assert len(near) > 100
    assert sum(together) >= 0.99 * len(near), "bands find a pair of similarity .9 with probability .9996"
    label = pairs | {(b, a): jaccard for (a, b), jaccard in pairs.items()}
    entries = decisions(build, "minhash")
    measured = {(name, entry["duplicate_of"]): entry["value"] for name, entry in entries.items() if entry["dropped_by"]}
    known = measured.keys() & label.keys()
    assert len(known) > 50
    assert all(measured[pair] == pytest.approx(label[pair], abs=6e-5) for pair in known)


def test_no_pair_below_the_threshold_becomes_an_edge(shared, tmp_path):
    config = Config()
    documents = records(shared / "neardup/pep_revisions_docs.jsonl.gz")
    build = deduplicated(tmp_path, documents, config)
    label = {
        frozenset((p["a"], p["b"])): p["jaccard_w5"] for p in records(shared / "neardup/pep_revisions_pairs.jsonl.gz")
    }
    names = {
        (number << 32) + row: name
        for number, shard in enumerate(build.shards())
        for row, name in enumerate(build.documents(shard)["id"].to_pylist())
    }
    edges = {
        frozenset((names[edge["a"]], names[edge["b"]]))
        for path in verify.edge_paths(build)
        for edge in shards.read_table(path).to_pylist()
    }
    assert len(edges & label.keys()) > 50
    assert all(label[edge] >= config.threshold - 6e-5 for edge in edges & label.keys())


@pytest.mark.slow
@pytest.mark.parametrize(("config", "every"), [(Config(), 2), (Config(ngram=3, bands=20, rows=5, threshold=0.55), 3)])
def test_clusters_of_real_near_duplicates_equal_datasketch_lsh_with_brute_force(shared, tmp_path, config, every):
    """Of every second document, and of other bands and another threshold with every third."""
    names = ("articles_minhash", "pep_revisions_docs", "britannica_1810_vs_1815_docs")
    documents = [d for name in names for d in records(shared / f"neardup/{name}.jsonl.gz")][::every]
    build = deduplicated(tmp_path, documents, config)
    numbers: dict[tuple[str, ...], int] = {}  # sets of small integers are compared many times as fast
    sets = {
        d["id"]: {numbers.setdefault(shingle, len(numbers)) for shingle in shingles(d["text"], config.ngram)}
        for d in documents
    }
    assert len(sets) == len(documents)
    hashes = [shingle_hash(shingle) >> 32 for shingle in numbers]
    expected = partition_of(list(sets), similar_pairs(sets, config, hashes.__getitem__))
    assert len(expected) > 30
    cluster = cluster_of(build)
    together = {pair for members in expected for pair in combinations(sorted(members), 2)}
    found = {
        (a, b)
        for a, b in combinations(sorted(name for name in cluster if cluster[name] is not None), 2)
        if cluster[a] == cluster[b]
    }
    assert found == together


@pytest.mark.slow
def test_clusters_of_20000_documents_equal_datasketch_lsh_with_brute_force(shared, tmp_path):
    """Real prose, real near-duplicates, and copies of prose with ever more words left out. The sets are those of the
    kernels (which have their own tests against the definition); bands, candidates and similarities are the oracle's."""
    config, count = Config(), 20_000
    names = ("articles_minhash", "pep_revisions_docs", "britannica_1810_vs_1815_docs")
    documents = [
        {"id": d["id"], "text": d["text"]} for name in names for d in records(shared / f"neardup/{name}.jsonl.gz")
    ]
    for number, (name, text) in enumerate(named_prose(60)):
        words = text[:1200].split(" ")
        documents.append({"id": name, "text": " ".join(words)})
        if number % 5 == 0:
            left_out = random.Random(number).sample(range(len(words)), number % 17 * len(words) // 400)
            edited = [word for place, word in enumerate(words) if place not in set(left_out)]
            documents.append({"id": f"{name}, edited", "text": " ".join(edited)})
    documents = documents[:count]
    build = deduplicated(tmp_path, documents, config, shard_size=3000)
    hashes, offsets = shingle_sets(pa.array([d["text"] for d in documents]), config.ngram)
    sets = {d["id"]: set(hashes[offsets[k] : offsets[k + 1]].tolist()) for k, d in enumerate(documents)}
    assert len(sets) == count
    expected = partition_of(list(sets), similar_pairs(sets, config, lambda shingle: shingle >> 32))
    assert sum(len(members) for members in expected) > 4000
    found: dict[int, set[str]] = {}
    for name, cluster in cluster_of(build).items():
        if cluster is not None:
            found.setdefault(cluster, set()).add(name)
    assert {frozenset(members) for members in found.values()} == {frozenset(members) for members in expected}


def similar_pairs(sets: dict[str, set[Any]], config: Config, hashed: Callable[[Any], int]) -> list[tuple[str, str]]:
    """The pairs that datasketch's LSH finds and whose exact Jaccard similarity reaches the threshold."""
    index, pairs = MinHashLSH(num_perm=config.permutations, params=(config.bands, config.rows)), []
    for name, found in sets.items():
        sketch = MinHash(config.permutations, seed=config.seed, hashfunc=hashed)
        sketch.update_batch(found)
        for other in map(str, index.query(sketch) if found else []):
            both = len(found & sets[other])
            if both / (len(found) + len(sets[other]) - both) >= config.threshold:
                pairs.append((name, other))
        index.insert(name, sketch)
    return pairs

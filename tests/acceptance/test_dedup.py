"""Deduplication of real near-duplicates: labelled articles, revisions of documents, two editions of an encyclopedia."""

from __future__ import annotations

import gzip
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from datasketch import MinHash, MinHashLSH

from pipeline.build import Build
from pipeline.dedup import minhash, verify
from pipeline.dedup.minhash import Config
from pipeline.dedup.shingles import shingle_hash, shingles
from pipeline.store import shards
from tests.pipeline.dedup.corpus import build_of, decisions, dropped, partition_of, run


def records(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path) as handle:
        return [json.loads(line) for line in handle.read().split(b"\n") if line]


def deduplicated(root: Path, documents: list[dict[str, Any]], config: Config) -> Build:
    fields = [{"id": d["id"], "text": d["text"], "source": "real"} for d in documents]
    build = build_of(root, fields, 300, minhash=config)
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
@pytest.mark.parametrize("config", [Config(), Config(ngram=3, bands=20, rows=5, threshold=0.55)])
def test_clusters_of_real_near_duplicates_equal_datasketch_lsh_with_brute_force(shared, tmp_path, config):
    names = ("articles_minhash", "pep_revisions_docs", "britannica_1810_vs_1815_docs")
    documents = [d for name in names for d in records(shared / f"neardup/{name}.jsonl.gz")]
    build = deduplicated(tmp_path, documents, config)
    sets = {d["id"]: set(shingles(d["text"], config.ngram)) for d in documents}
    assert len(sets) == len(documents)
    index = MinHashLSH(num_perm=config.permutations, params=(config.bands, config.rows))
    similar = []
    for name, found in sets.items():
        sketch = MinHash(config.permutations, seed=config.seed, hashfunc=lambda s: shingle_hash(s) >> 32)
        sketch.update_batch(found)
        for other in index.query(sketch) if found else []:
            if len(found & sets[other]) / len(found | sets[other]) >= config.threshold:
                similar.append((name, other))
        index.insert(name, sketch)
    expected = partition_of(list(sets), similar)
    assert len(expected) > 30
    cluster = cluster_of(build)
    together = {pair for members in expected for pair in combinations(sorted(members), 2)}
    found = {
        (a, b)
        for a, b in combinations(sorted(name for name in cluster if cluster[name] is not None), 2)
        if cluster[a] == cluster[b]
    }
    assert found == together

"""Signatures against datasketch's own, and similar documents against a comparison with every one."""

from __future__ import annotations

import pickle
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given
from hypothesis import strategies as st

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.curation.recipe import Recipe
from pipeline.questions.similar import NoMinHash, hash_of, signatures, similar
from pipeline.stages.dedup import exact, minhash
from pipeline.text.shingles import shingle_hash, shingles
from tests.helpers.dedup_corpus import run, write_documents

CONFIG = minhash.Config(ngram=2, bands=20, rows=2, threshold=0.5, seed=7)
VOCABULARY = [f"word{i}" for i in range(60)]


def documents() -> list[str]:
    """Families of texts with all degrees of similarity; exact copies, one word, no words."""
    draw = random.Random(4)
    texts = [draw.choices(VOCABULARY, k=draw.randint(10, 40)) for _ in range(6)]
    while len(texts) < 80:
        share = draw.choice([0.02, 0.1, 0.3])
        texts.append([draw.choice(VOCABULARY) if draw.random() < share else word for word in draw.choice(texts)])
    return [*map(" ".join, texts), " ".join(texts[0]), "alone", "", "… !"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    build = build_of(tmp_path_factory.mktemp("near"), exact=exact.Config(), minhash=CONFIG)
    run(build, [*exact.steps(), *minhash.steps()])
    return build


def build_of(root: Path, **sections: Any) -> Build:
    source = {"name": "web", "kind": "jsonl", "path": "web.jsonl"}
    build = Build(str(root), Recipe.model_validate({"name": "near", "sources": [source], **sections}))
    write_documents(build, documents(), shard_size=7)
    return build


def seen(build: Build) -> dict[str, str]:
    """The texts that the minhash stage sees, by id."""
    views = [build.view(shard, "minhash") for shard in build.shards()]
    return {
        name: text
        for view in views
        for name, text in zip(view.documents["id"].to_pylist(), view.texts.to_pylist(), strict=True)
    }


def jaccard(one: str, other: str) -> float:
    a, b = (set(shingles(text, CONFIG.ngram)) for text in (one, other))
    return len(a & b) / max(len(a | b), 1)


def test_signatures_are_those_that_datasketch_makes_of_the_same_shingles(built):
    texts = seen(built)
    found = dict(signatures(built))
    assert found.keys() == {name for name, text in texts.items() if shingles(text, 1)}
    for name, made in found.items():
        own = MinHash(CONFIG.permutations, CONFIG.seed, hashfunc=lambda shingle: shingle_hash(shingle) >> 32)
        own.update_batch(shingles(texts[name], CONFIG.ngram))
        assert made == own
        assert np.array_equal(made.permutations, own.permutations)  # type: ignore[arg-type]


def test_signatures_take_shingles_compare_index_and_travel(built):
    texts, found = seen(built), dict(signatures(built))
    names = sorted(found)
    for one, other in pairwise(names):
        ours = minhash.signatures(pa.array([texts[one], texts[other]]), CONFIG)
        assert found[one].jaccard(found[other]) == np.mean(ours[0] == ours[1])
    grown = pickle.loads(pickle.dumps(found[names[0]]))  # noqa: S301
    grown.update_batch(shingles(texts[names[1]], CONFIG.ngram))
    assert grown.jaccard(MinHash.union(found[names[0]], found[names[1]])) == 1
    index = MinHashLSH(threshold=0.5, num_perm=CONFIG.permutations)
    for name, made in found.items():
        index.insert(name, made)
    assert names[3] in index.query(found[names[3]])


@pytest.mark.slow
@given(st.integers(0, 79), st.floats(0, 0.5), st.floats(0.15, 1), st.randoms(use_true_random=False))
def test_similar_documents_are_those_that_comparing_with_every_one_finds(built, number, share, threshold, draw):
    words = [draw.choice(VOCABULARY) if draw.random() < share else word for word in documents()[number].split()]
    text = " ".join(words)
    expected = {name: jaccard(text, other) for name, other in seen(built).items()}
    found = similar(built, text, threshold)
    assert {entry.id: entry.jaccard for entry in found} == {
        name: value for name, value in expected.items() if value >= threshold
    }
    assert [entry.jaccard for entry in found] == sorted((entry.jaccard for entry in found), reverse=True)


def test_a_near_copy_is_found_with_what_became_of_each_document(built):
    text = documents()[0] + " one more"
    found = similar(built, text)
    assert found[0].id in ("doc-00000", "doc-00080")  # two copies, of which the exact stage keeps one
    assert found[0].jaccard == jaccard(text, documents()[0]) > 0.8
    corpus = {name for shard in built.shards() for name in built.view(shard).documents["id"].to_pylist()}
    assert {entry.id: entry.dropped_by for entry in found} == {
        entry.id: None if entry.id in corpus else "near_duplicate" for entry in found
    }
    assert any(entry.dropped_by for entry in found)


def test_what_cannot_be_compared_is_refused_with_the_remedy(built, tmp_path):
    for text in ("", "… !", "lonely"):
        with pytest.raises(MillError, match="runs of 2 words: give a longer text"):
            similar(built, text)
    for threshold in (0, 1.5, float("nan")):
        with pytest.raises(MillError, match="above 0 and at most 1"):
            similar(built, "two words", threshold)
    other = build_of(tmp_path)
    for ask in (lambda: similar(other, "two words"), lambda: list(signatures(other))):
        with pytest.raises(NoMinHash, match="add `minhash"):
            ask()
    assert hash_of(("a", "b")) < 2**32

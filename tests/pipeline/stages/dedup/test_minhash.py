"""MinHash deduplication against datasketch and brute force, from signatures to verdicts."""

import random
from collections import defaultdict
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from datasketch import MinHash, MinHashLSH
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.build import row_numbers
from pipeline.stages.dedup import clusters, exact, exchange, minhash
from pipeline.stages.dedup.minhash import Config, signatures
from pipeline.stages.dedup.survivors import Highest, Sources
from pipeline.store import files, ledger, shards
from pipeline.text.shingles import shingle_hash, shingles
from tests.helpers.dedup_corpus import build_of, decisions, dropped, partition_of, run, write_documents

#: Small shingles and many short bands: every similar pair is a candidate, and many that are not similar.
CONFIG = Config(ngram=2, bands=30, rows=2, threshold=0.5)
VOCABULARY = [f"word{i}" for i in range(400)]


def sketch(text: str, config: Config) -> MinHash:
    made = MinHash(num_perm=config.permutations, seed=config.seed, hashfunc=lambda s: shingle_hash(s) >> 32)
    made.update_batch(shingles(text, config.ngram))
    return made


def corpus(seed: int, documents: int = 60) -> list[dict]:
    """Families of texts with all degrees of similarity, chains among them; some short, some empty."""
    draw = random.Random(seed)
    texts: list[list[str]] = [[], ["lone"], []]
    while len(texts) < documents:
        parent = draw.choice(texts) if draw.random() < 0.75 else draw.choices(VOCABULARY, k=draw.randint(20, 60))
        child = [draw.choice(VOCABULARY) if draw.random() < draw.choice([0.02, 0.1]) else word for word in parent]
        texts.append(child[: len(child) - draw.randint(0, 2)])
    return [
        {"id": f"id-{seed}-{i}", "text": " ".join(text), "source": draw.choice("abc")} for i, text in enumerate(texts)
    ]


def brute_force(documents: list[dict], config: Config) -> set[frozenset[str]]:
    """All pairs that share a band of datasketch's signature, verified, merged."""
    sets = {d["id"]: set(shingles(d["text"], config.ngram)) for d in documents}
    bands = defaultdict(list)
    for document in documents:
        values = sketch(document["text"], config).hashvalues.reshape(config.bands, config.rows)
        for band, value in enumerate(values):
            bands[band, value.tobytes()].append(document["id"])
    pairs = {pair for members in bands.values() for pair in combinations(members, 2)}
    similar = [(a, b) for a, b in pairs if sets[a] and similarity(sets[a], sets[b]) >= config.threshold]
    return partition_of(list(sets), similar)


def similarity(x: set, y: set) -> float:
    return len(x & y) / len(x | y)


def found_clusters(build) -> set[frozenset[str]]:
    members = defaultdict(set)
    for name, entry in decisions(build, "minhash").items():
        if entry["cluster"] is not None:
            members[entry["cluster"]].add(name)
    return set(map(frozenset, members.values()))


@given(
    st.lists(st.one_of(st.text(), st.text(alphabet="ab \n"), st.text(alphabet="我爱天安门ไทย é")), max_size=4),
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
)
def test_signatures_equal_datasketch_bit_for_bit(texts, ngram, bands, seed):
    config = Config(ngram=ngram, bands=bands, rows=3, seed=seed)
    found = signatures(pa.array(texts, pa.string()), config)
    assert found.dtype == np.uint32
    assert found.shape == (len(texts), 3 * bands)
    for text, signature in zip(texts, found, strict=True):
        assert signature.tolist() == sketch(text, config).hashvalues.tolist()


def test_default_signatures_of_prose_equal_datasketch_bit_for_bit():
    texts = [document["text"] for document in corpus(1, 30)]
    assert Config().permutations == 112
    found = signatures(pa.array(texts), Config())
    assert (found == np.array([sketch(text, Config()).hashvalues for text in texts])).all()


def test_the_share_of_equal_values_estimates_jaccard_without_bias():
    """Over 400 seeds of 112 permutations the standard error of the mean estimate is below 0.0025."""
    one, other = " ".join(VOCABULARY[:100]), " ".join(VOCABULARY[30:120])
    truth = similarity(set(shingles(one, 2)), set(shingles(other, 2)))
    texts = pa.array([one, other])
    estimates = []
    for seed in range(400):
        a, b = signatures(texts, Config(ngram=2, seed=seed))
        estimates.append(float((a == b).mean()))
    assert abs(np.mean(estimates) - truth) < 4 * np.sqrt(truth * (1 - truth) / (400 * 112))


@pytest.mark.parametrize("seed", range(6))
def test_clusters_equal_brute_force_over_all_pairs_that_share_a_band(tmp_path, seed):
    documents = corpus(seed)
    build = build_of(tmp_path, documents, minhash=CONFIG)
    run(build, minhash.steps())
    expected = brute_force(documents, CONFIG)
    assert len(expected) > 2
    assert found_clusters(build) == expected


def test_the_decisions_are_the_same_for_any_order_shard_size_and_partition(tmp_path, monkeypatch):
    documents = corpus(3)
    outcomes = []
    sizes = [(1000, 1 << 23, 1 << 21, 64), (7, 16, 4, 64), (20, 40, 1, 64), (5, 8, 4, 2), (2, 100, 3, 8)]
    for number, (shard_size, partition_rows, chunk, direct) in enumerate(sizes):
        monkeypatch.setattr(exchange, "DIRECT", direct)
        monkeypatch.setattr(row_numbers, "PARTITION_ROWS", partition_rows)
        monkeypatch.setattr(clusters, "CHUNK", chunk)
        shuffled = random.Random(number).sample(documents, len(documents))
        config = CONFIG.model_copy(update={"max_cluster_size": 4, "max_comparisons": 2})
        build = build_of(tmp_path / str(number), shuffled, shard_size, exact=exact.Config(), minhash=config)
        run(build, [*exact.steps(), *minhash.steps()], seed=number)
        report = files.read_json(clusters.report_path(build))
        report = {key: value for key, value in report.items() if key not in ("fingerprint", "parts")}
        outcomes.append((decisions(build, "exact"), decisions(build, "minhash"), report))
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert outcomes[0][2]["clusters_above_cap"] > 0
    assert outcomes[0][2]["warnings"]


def test_every_duplicate_names_a_survivor_that_is_kept_and_its_similarity_with_it(tmp_path):
    documents = corpus(4, 100)
    build = build_of(tmp_path, documents, minhash=CONFIG)
    run(build, minhash.steps())
    entries = decisions(build, "minhash")
    text = {d["id"]: d["text"] for d in documents}
    assert sum(entry["dropped_by"] is not None for entry in entries.values()) > 20
    for name, entry in entries.items():
        if entry["dropped_by"] is None:
            assert entry["duplicate_of"] is entry["value"] is entry["threshold"] is None
            continue
        survivor = entry["duplicate_of"]
        assert entry["dropped_by"] == "near_duplicate"
        assert entries[survivor]["dropped_by"] is None
        assert entries[survivor]["cluster"] == entry["cluster"]
        assert entry["value"] == similarity(set(shingles(text[name], 2)), set(shingles(text[survivor], 2)))
        assert entry["threshold"] == CONFIG.threshold
        assert entry["cluster_size"] == sum(other["cluster"] == entry["cluster"] for other in entries.values())


def test_running_again_on_what_was_kept_drops_nothing(tmp_path):
    documents = corpus(5, 100)
    for config in (CONFIG, CONFIG.model_copy(update={"max_cluster_size": 3})):
        first = build_of(tmp_path / f"{config.max_cluster_size}-first", documents, minhash=config)
        run(first, minhash.steps())
        gone = dropped(first, "minhash")
        kept = [document for document in documents if document["id"] not in gone]
        assert gone
        second = build_of(tmp_path / f"{config.max_cluster_size}-second", kept, minhash=config)
        run(second, minhash.steps())
        assert dropped(second, "minhash") == {}


def test_the_longest_is_retained_and_ties_go_to_the_smallest_hash_of_the_id(tmp_path):
    build = build_of(tmp_path, documents := corpus(6), minhash=CONFIG)
    run(build, minhash.steps())
    size = {d["id"]: len(d["text"].encode()) for d in documents}
    gone = dropped(build, "minhash")
    for members in found_clusters(build):
        best = min(members, key=lambda name: (-size[name], xxhash.xxh64_intdigest(name.encode())))
        assert {name for name in members if name not in gone} == {best}


SAME = "the same twelve words stand here in every one of these documents"


def test_each_keep_policy_retains_the_document_that_it_names(tmp_path):
    documents = [
        {"id": "b", "text": SAME, "source": "forum"},
        {"id": "a", "text": SAME + " ", "source": "crawl"},
        {"id": "c", "text": SAME + "  !", "source": "books"},
        {"id": "d", "text": SAME, "source": "books"},
    ]
    kept = {}
    policies = ["longest", "earliest", Sources(sources=["books", "forum"]), Sources(sources=["forum"])]
    for number, keep in enumerate(policies):
        build = build_of(tmp_path / str(number), documents, 2, minhash=Config(keep=keep))
        run(build, minhash.steps())
        kept[number] = {d["id"] for d in documents} - set(dropped(build, "minhash"))
    assert kept == {
        0: {"c"},
        1: {"a"},
        2: {min("cd", key=lambda name: xxhash.xxh64_intdigest(name.encode()))},
        3: {"b"},
    }


def test_the_earliest_is_first_by_number_not_by_digit(tmp_path):
    documents = [{"id": f"web/part-2#{n}", "text": SAME} for n in (100, 9, 10)] + [
        {"id": "web/part-10#1", "text": SAME}
    ]
    build = build_of(tmp_path, documents, 2, minhash=Config(keep="earliest"))
    run(build, minhash.steps())
    assert set(dropped(build, "minhash").values()) == {"web/part-2#9"}


def test_the_highest_value_of_a_signal_is_retained_and_an_unknown_signal_is_refused(tmp_path):
    documents = [{"id": name, "text": SAME, "source": "web"} for name in "abcd"]
    config = Config(keep=Highest(highest="quality"))
    build = build_of(tmp_path, documents, 2, exact=exact.Config(), minhash=config)
    for shard, values in zip(build.shards(), [[None, 0.2], [0.9, 0.5]], strict=True):
        nothing = ledger.Verdicts(np.full(2, -1, np.int16), np.zeros(2), np.zeros(2)).columns()
        build.write_ledger("exact", shard, {**nothing, "quality": pa.array(values, pa.float64())}, shard)
    run(build, minhash.steps())
    assert set(dropped(build, "minhash")) == {"a", "b", "d"}
    alone = build_of(tmp_path / "alone", documents, 2, minhash=config)
    with pytest.raises(ValueError, match=r"keep.highest: no stage before measures 'quality'"):
        run(alone, minhash.steps())


def chain(length: int) -> list[str]:
    """Texts of 40 words, each sharing 36 with the next: neighbours have a similarity of 35/43 in 2-grams."""
    stream = [f"link{i}" for i in range(4 * length + 40)]
    return [" ".join(stream[4 * i : 4 * i + 40]) for i in range(length)]


def test_a_chain_is_one_cluster_and_says_how_far_each_document_is_from_its_survivor(tmp_path):
    build = build_of(tmp_path, chain(6), minhash=Config(ngram=2, bands=40, rows=2, threshold=0.75))
    run(build, minhash.steps())
    entries = decisions(build, "minhash").values()
    assert {entry["cluster_size"] for entry in entries} == {6}
    assert sum(entry["dropped_by"] is None for entry in entries) == 1
    far = [entry for entry in entries if entry["value"] is not None and entry["value"] < 0.75]
    assert far
    assert files.read_json(clusters.report_path(build))["dropped_by_chain"] == len(far)


def test_above_the_cap_a_document_goes_only_if_it_is_itself_similar_to_one_that_stays(tmp_path):
    config = Config(ngram=2, bands=40, rows=2, threshold=0.75, max_cluster_size=5)
    build = build_of(tmp_path, chain(12), minhash=config)
    run(build, minhash.steps())
    entries = decisions(build, "minhash").values()
    kept = sum(entry["dropped_by"] is None for entry in entries)
    assert 4 <= kept <= 6  # each survivor covers itself and at most its two neighbours
    assert all(entry["value"] >= 0.75 for entry in entries if entry["dropped_by"])
    report = files.read_json(clusters.report_path(build))
    [above] = report["largest_above_cap"]
    assert (above["size"], above["kept"]) == (12, kept)
    assert report["dropped_by_chain"] == 0


def test_a_source_that_loses_more_than_its_limit_raises_the_alarm(tmp_path):
    documents = [{"id": f"t{i}", "text": SAME, "source": "templates"} for i in range(10)]
    documents += [d | {"source": "good"} for d in corpus(7, 20)]
    build = build_of(tmp_path, documents, minhash=Config(source_alarm=0.8))
    run(build, minhash.steps())
    report = files.read_json(clusters.report_path(build))
    assert report["sources"]["templates"] == {"documents": 10, "dropped": 9}
    [warning] = report["warnings"]
    assert "'templates' lost 9 of 10 documents" in warning


def test_texts_without_words_are_never_duplicates(tmp_path):
    build = build_of(tmp_path, ["", "", " \n", "😀😀", "😀😀", "...", "..."], minhash=Config(threshold=0.01))
    run(build, minhash.steps())
    assert dropped(build, "minhash") == {}


def test_different_texts_of_scripts_without_spaces_do_not_collapse(tmp_path):
    """text-dedup#33: when a sentence is one word, Chinese documents share their few shingles."""
    draw = random.Random(8)
    texts = []
    for first in (0x4E00, 0x0E01, 0x3041, 0x1780, 0x1000):
        alphabet = [chr(first + i) for i in range(40)]
        texts += ["".join(draw.choices(alphabet, k=80)) for _ in range(5)]
    near = texts[0][:40] + "。" + texts[0][40:]
    build = build_of(tmp_path, [*texts, near], minhash=Config())
    run(build, minhash.steps())
    assert len(found_clusters(build)) == 1
    assert dropped(build, "minhash") == {"doc-00000": f"doc-{len(texts):05d}"}


def test_documents_that_an_earlier_stage_dropped_take_no_part(tmp_path):
    documents = [{"id": name, "text": SAME, "source": "web"} for name in "abc"]
    build = build_of(tmp_path, documents, 2, exact=exact.Config(keep="earliest"), minhash=Config())
    run(build, [*exact.steps(), *minhash.steps()])
    entries = decisions(build, "minhash")
    assert entries["a"]["cluster_size"] == 1
    assert entries["b"]["cluster_size"] is entries["c"]["cluster_size"] is None


def test_nothing_is_done_twice_and_a_lost_file_is_made_again_with_the_same_content(tmp_path):
    build = build_of(tmp_path, corpus(9), minhash=CONFIG)
    worked, total = run(build, minhash.steps())
    assert worked == total
    before = decisions(build, "minhash")
    assert run(build, minhash.steps())[0] == 0
    for lost in sorted((tmp_path / "work").rglob("*.arrow"))[::3]:
        if lost.is_file():
            lost.unlink()
    assert 0 < run(build, minhash.steps())[0] < total
    assert decisions(build, "minhash") == before


def test_a_changed_threshold_keeps_the_signatures_and_changed_documents_keep_other_shards_signatures(tmp_path):
    documents = corpus(10)
    build = build_of(tmp_path, documents, minhash=CONFIG)
    run(build, minhash.steps())
    changed = build_of(tmp_path, documents, minhash=CONFIG.model_copy(update={"threshold": 0.9}))
    made, *_ = minhash.steps()
    assert run(changed, [made])[0] == 0
    assert run(changed, minhash.steps())[0] > 0
    assert found_clusters(changed) == brute_force(documents, changed.recipe.minhash)  # type: ignore[arg-type]
    documents[0] = documents[0] | {"text": "something else"}
    write_documents(changed, documents, 7)
    assert run(changed, [made])[0] == 1
    run(changed, minhash.steps())
    assert found_clusters(changed) == brute_force(documents, changed.recipe.minhash)  # type: ignore[arg-type]


def test_a_corpus_without_documents_or_without_shards_has_no_duplicates(tmp_path):
    build = build_of(tmp_path, [], exact=exact.Config(), minhash=Config())
    run(build, [*exact.steps(), *minhash.steps()])
    assert decisions(build, "minhash") == {}
    files.write_json(build.path("documents", "manifest.json"), {"shards": [], "sources": {}})
    assert run(build, [*exact.steps(), *minhash.steps()]) == (0, 0)


def test_damaged_signatures_are_refused_by_name(tmp_path):
    build = build_of(tmp_path, corpus(11), minhash=CONFIG)
    steps = {step.name: step for step in minhash.steps()}
    run(build, [steps["minhash.signatures"]])
    path = tmp_path / "work" / "minhash.signatures" / build.shards()[0]
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(shards.DamagedFile, match="00000"):
        run(build, [steps["minhash.candidates"]])


@pytest.mark.parametrize(
    "wrong", [{"bands": 0}, {"threshold": 0}, {"keep": "best"}, {"keep": {"sources": []}}, {"n": 5}]
)
def test_a_wrong_section_is_refused(wrong):
    with pytest.raises(ValidationError):
        Config.model_validate(wrong)


@pytest.mark.slow
def test_clusters_of_thousands_of_documents_equal_datasketch_lsh_with_brute_force(tmp_path):
    """Twenty thousand of real prose are in tests/acceptance/test_dedup.py."""
    config = Config(ngram=3, bands=10, rows=4, threshold=0.6)
    documents = corpus(12, 5_000)
    build = build_of(tmp_path, documents, 500, minhash=config)
    run(build, minhash.steps())
    text = {d["id"]: d["text"] for d in documents}
    sets = {name: set(shingles(body, config.ngram)) for name, body in text.items()}
    names = [name for name in text if sets[name]]
    signed = signatures(pa.array([text[name] for name in names]), config)
    index = MinHashLSH(num_perm=config.permutations, params=(config.bands, config.rows))
    pairs = []
    for name, values in zip(names, signed, strict=True):
        made = MinHash(num_perm=config.permutations, seed=config.seed, hashvalues=values, scheme="affine32")
        pairs += [
            (name, other) for other in index.query(made) if similarity(sets[name], sets[other]) >= config.threshold
        ]
        index.insert(name, made)
    assert found_clusters(build) == partition_of(list(text), pairs)

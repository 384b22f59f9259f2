"""Files are opened, and bytes are written, as docs/scale.md says: in proportion to the shards, for any partitions."""

import pytest

from pipeline.build import row_numbers
from pipeline.stages.dedup import exact, exchange, minhash, repeats, substring
from pipeline.store import opens, shards
from tests.helpers.dedup_corpus import build_of, run
from tests.pipeline.stages.dedup.test_minhash import CONFIG, corpus

BANDS = 2
SECTIONS = {
    "exact": exact.Config(),
    "minhash": CONFIG.model_copy(update={"bands": BANDS}),
    "substring": substring.Config(length=10),
}


def formulas(inputs: int, partitions: list[str]) -> dict[str, int]:
    """Opened files of the steps between shards and partitions: S shards, G groups, Q bundles, I of all bands."""
    S, G = inputs, len(exchange.groups(inputs))
    Q = len(exchange.bundles(partitions, inputs))
    I = BANDS * len(exchange.bundles(partitions, inputs, BANDS))  # noqa: E741
    return {
        "exact.exchange": 2 * S + 2 * G * Q,
        "exact.duplicates": 4 * G * Q,
        "exact.found": 2 * S + 2 * G * Q,
        "minhash.exchange": 2 * S + 2 * G * I,
        "minhash.candidates": (4 * G + 3) * I,
        "minhash.candidates.found": 2 * S + 2 * G * I,
        "minhash.sets": 3 * S + 2 * G,
        "minhash.edges": (2 * G + 4) * I,
    }


@pytest.mark.parametrize("inputs", [16, 64])
def test_opened_files_are_those_of_the_formulas(tmp_path, monkeypatch, inputs):
    monkeypatch.setattr(row_numbers, "PARTITION_ROWS", 3)
    monkeypatch.setattr(repeats, "PARTITION_BYTES", 1500)
    monkeypatch.setattr(exchange, "DIRECT", 4)
    monkeypatch.setattr(shards, "_KEPT", 0)  # as if each item had a worker of its own
    build = build_of(tmp_path, corpus(1, 3 * inputs)[: 3 * inputs], 3, **SECTIONS)
    found = {}
    for step in [*exact.steps(), *minhash.steps()]:
        before = opens.counted.total()
        run(build, [step])
        found[step.name] = opens.counted.total() - before
    asked = formulas(inputs, row_numbers.partition_names(3 * inputs, 3))
    for name, count in asked.items():
        assert count <= found[name] <= count + len(exchange.groups(inputs)) + inputs + 1, (
            name
        )  # and the manifest, an item
    for name in ("exact.hashes", "exact", "minhash.signatures", "minhash.shingles", "minhash"):
        assert found[name] <= 8 * inputs, name


def test_many_shards_without_a_duplicate_keep_all_documents(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "DIRECT", 4)
    texts = [" ".join(f"w{number}x{place}" for place in range(40)) for number in range(20)]
    build = build_of(tmp_path, texts, 2, **SECTIONS)
    run(build, [*exact.steps(), *minhash.steps(), *substring.steps()])
    assert exchange.groups(10)
    for stage in SECTIONS:
        assert all(build.ledger(stage, shard)["dropped_by"].null_count == 2 for shard in build.shards())


@pytest.mark.parametrize("inputs", [65, 1000, 15_000, 1_000_000])
@pytest.mark.parametrize("keys", [1, 14])
def test_there_are_at_most_four_files_between_for_each_shard(inputs, keys):
    partitions = row_numbers.partition_names(inputs, 1)
    groups, bundles = exchange.groups(inputs), exchange.bundles(partitions, inputs, keys)
    assert [number for group in groups for number in group] == list(range(inputs))
    assert len(groups) * len(bundles) * keys <= exchange.FILES * inputs
    assert [name for bundle in bundles for name in exchange.inside(bundle, partitions)] == partitions
    assert max(map(len, groups)) <= 2 * inputs**0.5 + 1
    assert sum(formulas(inputs, partitions).values()) <= 120 * inputs


def test_what_deduplication_writes_of_a_shard_are_the_bytes_of_the_formulas(tmp_path):
    documents = corpus(2, 300)
    for name, steps in (("exact", exact.steps()), ("minhash", minhash.steps()), ("substring", substring.steps())):
        build = build_of(tmp_path, documents, 1000, **{name: SECTIONS[name]})
        run(build, steps[:1])
    [shard] = build.shards()
    n, ids = len(documents), sum(len(document["id"]) for document in documents)
    tables = {
        name: shards.read_table(build.path("work", name, shard))
        for name in ("exact.hashes", "minhash.signatures", "substring.documents", "substring.hashes")
    }
    assert tables["exact.hashes"].nbytes == pytest.approx(44 * n + ids, rel=0.02)
    assert tables["minhash.signatures"].nbytes == pytest.approx(
        (28 + 12 * BANDS) * len(tables["minhash.signatures"]), rel=0.02
    )
    assert tables["substring.documents"].nbytes == pytest.approx(32 * n + ids, rel=0.02)
    assert tables["substring.hashes"].nbytes == 12 * len(tables["substring.hashes"])

"""Exact deduplication against grouping by the text itself."""

from collections import defaultdict

import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from pipeline.build import row_numbers
from pipeline.stages.dedup import exact, exchange
from pipeline.stages.dedup.exact import Config, content_hashes
from pipeline.text.folding import lower
from tests.helpers.dedup_corpus import build_of, decisions, dropped, run

PIECES = st.lists(st.sampled_from(["Words", "a", " ", "  ", "B. ", "[{~", "\n", "É", "\x7f"]), max_size=30).map("".join)
TEXTS = st.lists(
    st.one_of(st.text(max_size=8), st.text(alphabet="aA \n\u00a0\u0085ßİΣ\x00"), st.text(), PIECES), max_size=8
)


def normalised(text: str, config: Config) -> str:
    if config.normalise == "none":
        return text
    text = " ".join(text.split())
    return "".join(map(lower, text)) if config.normalise == "whitespace_and_case" else text


NORMALISE = ["none", "whitespace", "whitespace_and_case"]


@given(TEXTS, st.sampled_from(NORMALISE))
def test_hashes_are_xxh64_of_the_normalised_text_under_two_seeds(texts, normalise):
    config = Config(normalise=normalise)
    high, low = content_hashes(pa.array(texts, pa.string()), config)
    plain = [normalised(text, config).encode() for text in texts]
    assert high.tolist() == [xxhash.xxh64_intdigest(text, 0) for text in plain]
    assert low.tolist() == [xxhash.xxh64_intdigest(text, 1) for text in plain]


@pytest.mark.parametrize("normalise", NORMALISE)
@pytest.mark.parametrize(
    ("shard_size", "partition_rows", "direct"), [(100, 1 << 23, 64), (3, 4, 64), (1, 1, 64), (3, 4, 2), (1, 1, 2)]
)
def test_of_equal_texts_one_survives_whatever_the_shards_and_partitions(
    tmp_path, monkeypatch, normalise, shard_size, partition_rows, direct
):
    monkeypatch.setattr(row_numbers, "PARTITION_ROWS", partition_rows)
    monkeypatch.setattr(exchange, "DIRECT", direct)
    texts = ["one", "One", " one\n", "two  words", "two words", "two words", "", " ", "", "alone", "one", "ΣΑΣ", "σασ"]
    config = Config(normalise=normalise)
    build = build_of(tmp_path, texts, shard_size, exact=config)
    run(build, exact.steps())
    groups = defaultdict(set)
    for i, text in enumerate(texts):
        groups[normalised(text, config)].add(f"doc-{i:05d}")
    entries = decisions(build, "exact")
    gone = dropped(build, "exact")
    for members in groups.values():
        kept = members - set(gone)
        best = min(
            members, key=lambda name: (-len(texts[int(name[4:])].encode()), xxhash.xxh64_intdigest(name.encode()))
        )
        assert kept == {best}
        for name in members:
            assert entries[name]["copies"] == len(members)
            assert (entries[name]["cluster"] is None) == (len(members) == 1)
        for name in members - kept:
            entry = entries[name]
            assert (entry["dropped_by"], entry["value"], entry["threshold"], entry["duplicate_of"]) == (
                "exact_duplicate",
                len(members),
                1,
                best,
            )


def test_nothing_is_done_twice_and_a_new_shard_leaves_the_hashes_of_others_alone(tmp_path):
    texts = [f"text {i % 9}" for i in range(20)]
    build = build_of(tmp_path, texts, 5, exact=Config())
    worked, total = run(build, exact.steps())
    assert worked == total
    assert run(build, exact.steps()) == (0, total)
    more = build_of(tmp_path, [*texts, "text 0", "other"], 5, exact=Config())
    assert run(more, exact.steps()[:1]) == (1, 5)


def test_running_again_on_what_was_kept_drops_nothing(tmp_path):
    texts = [f"text {i % 9}" for i in range(40)]
    build = build_of(tmp_path / "first", texts, 5, exact=Config())
    run(build, exact.steps())
    kept = [text for i, text in enumerate(texts) if f"doc-{i:05d}" not in dropped(build, "exact")]
    assert sorted(kept) == sorted(set(texts))
    again = build_of(tmp_path / "second", kept, 5, exact=Config())
    run(again, exact.steps())
    assert dropped(again, "exact") == {}

"""Candidates are the documents that share a band, whatever the partitions."""

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.build import row_numbers
from pipeline.stages.dedup import lsh


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=30))
def test_candidates_are_the_documents_that_share_a_key_ordered_by_content(documents):
    keys = np.array([key for key, _ in documents], np.uint64)
    bags = np.array([10 * key + bag for key, bag in documents], np.uint64)  # an equal bag has equal keys
    table = lsh.candidates(keys, np.arange(len(keys)), bags, np.arange(len(keys), dtype=np.uint64), repeats=True)
    groups = defaultdict(list)
    for entry in sorted(table.to_pylist(), key=lambda entry: entry["place"]):
        groups[entry["group"]].append(entry)
    expected = defaultdict(set)
    for i, (key, _) in enumerate(documents):
        expected[key].add(i)
    found = [{entry["row"] for entry in group} for group in groups.values()]
    assert sorted(map(sorted, found)) == sorted(sorted(g) for g in expected.values() if len(g) > 1)
    for group in groups.values():
        bag = [int(bags[entry["row"]]) for entry in group]
        assert bag == sorted(bag)
        assert [entry["repeat"] for entry in group] == [i > 0 and bag[i] == bag[i - 1] for i in range(len(bag))]


def test_without_repeats_one_document_of_each_bag_remains_and_lone_ones_go():
    keys = np.array([1, 1, 1, 2, 2], np.uint64)
    bags = np.array([7, 7, 8, 9, 9], np.uint64)
    table = lsh.candidates(keys, np.arange(5), bags, np.arange(5, dtype=np.uint64), repeats=False)
    assert table["row"].to_pylist() == [0, 2]
    assert not any(table["repeat"].to_pylist())


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4))
def test_two_documents_share_a_band_key_exactly_if_they_share_the_band(n, bands, width):
    signatures = np.random.default_rng(n).integers(0, 3, (n, bands * width)).astype(np.uint32)
    keys = lsh.band_keys(signatures, bands)
    for band in range(bands):
        part = signatures[:, band * width : (band + 1) * width]
        same_part = (part[:, None] == part[None]).all(axis=2)
        assert ((keys[:, None, band] == keys[None, :, band]) == same_part).all()


@given(st.lists(st.integers(0, 2**64 - 1)), st.sampled_from([1, 2, 8]))
def test_partitions_split_the_hash_space_without_gap_or_overlap(hashes, count):
    ascending = np.sort(np.array(hashes, np.uint64))
    parts = [row_numbers.part_of(ascending, f"{i:05d}-of-{count:05d}") for i in range(count)]
    assert np.concatenate([ascending[part] for part in parts]).tolist() == ascending.tolist()

"""Edges of candidate groups against all pairs, and the similarity kernel against Python's sets."""

import itertools
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.build import row_numbers as rows
from pipeline.stages.dedup.similarity_join import similarity
from pipeline.stages.dedup.verify import Candidates, edges
from tests.helpers.dedup_corpus import partition_of

SETS = st.frozensets(st.integers(0, 12), min_size=1, max_size=10)


def ascending(values) -> np.ndarray:
    return np.array(sorted(values), np.uint64)


def jaccard(x: frozenset, y: frozenset) -> float:
    return len(x & y) / len(x | y)


@given(SETS, SETS, st.floats(-1, 1))
def test_similarity_is_jaccard_or_says_that_it_is_below_the_bound(x, y, bound):
    expected = jaccard(x, y)
    assert similarity(ascending(x), ascending(y), bound) == (expected if expected >= bound else -1)


def spread(groups: list[list[frozenset]]) -> tuple[dict[int, frozenset], list[list[int]]]:
    """The sets by global row number, those of a group dealt out over three shards; and the numbers in each group."""
    numbers = itertools.count()
    members = [[rows.SHARD * (i % 3) + i // 3 for _, i in zip(group, numbers, strict=False)] for group in groups]
    sets = {row: s for group, here in zip(groups, members, strict=True) for row, s in zip(here, group, strict=True)}
    return sets, members


def joined(groups: list[list[frozenset]], threshold: float, max_comparisons: int = 10**6):
    """What ``edges`` finds in the groups, by global row, and how many documents it did not compare with all."""
    sets, members = spread(groups)
    tables = []
    for shard in range(3):
        here = [sorted(sets[row]) for row in sorted(sets) if row // rows.SHARD == shard]
        tables.append(pa.table({"row": np.arange(len(here)), "shingles": pa.array(here, pa.large_list(pa.uint64()))}))
    columns = [(row, number) for number, here in enumerate(members) for row in here]
    table = pa.table(
        {
            "row": [row for row, _ in columns],
            "place": range(len(columns)),
            "group": [number for _, number in columns],
            "repeat": [False] * len(columns),
        }
    )
    a, b, curtailed = edges(table.sort_by("row"), Candidates(tables), threshold, max_comparisons)
    return list(zip(a.tolist(), b.tolist(), strict=True)), curtailed


def components(rows, pairs) -> set[frozenset[str]]:
    return partition_of([str(row) for row in rows], [(str(a), str(b)) for a, b in pairs])


def all_pairs(groups: list[list[frozenset]], threshold: float) -> set[frozenset[str]]:
    sets, members = spread(groups)
    pairs = [pair for here in members for pair in combinations(here, 2)]
    return components(sets, [(a, b) for a, b in pairs if jaccard(sets[a], sets[b]) >= threshold])


GROUPS = st.lists(st.lists(SETS, min_size=2, max_size=12), min_size=1, max_size=4)


@given(GROUPS, st.sampled_from([0.3, 0.5, 0.72, 1.0]))
def test_edges_connect_what_all_pairs_of_a_group_connect(groups, threshold):
    found, curtailed = joined(groups, threshold)
    sets, _ = spread(groups)
    assert curtailed == 0
    assert all(jaccard(sets[a], sets[b]) >= threshold for a, b in found)
    assert components(sets, found) == all_pairs(groups, threshold)


@pytest.mark.parametrize("seed", range(5))
def test_edges_of_families_around_the_threshold_equal_all_pairs(seed):
    random = np.random.default_rng(seed)
    group = []
    for _ in range(4):
        centre = set(random.integers(0, 10**6, 100).tolist())
        for _ in range(40):
            gone = random.choice(sorted(centre), random.integers(0, 30), replace=False).tolist()
            group.append(frozenset((centre - set(gone)) | set(random.integers(0, 10**6, len(gone)).tolist())))
    found, curtailed = joined([group], 0.72)
    expected = all_pairs([group], 0.72)
    assert curtailed == 0
    assert len(expected) >= 2, "the families should not be one cluster"
    assert sum(map(len, expected)) < len(group), "some documents should stay alone"
    assert components(spread([group])[0], found) == expected


def test_documents_beyond_the_stated_number_of_unlike_ones_are_counted():
    unlike = [frozenset(range(20 * i, 20 * i + 20)) for i in range(50)]
    found, curtailed = joined([unlike], 0.7, max_comparisons=10)
    assert found == []
    assert curtailed == 50 - 10


def test_a_large_group_of_near_copies_needs_few_comparisons():
    template = set(range(1000))
    copies = [frozenset(template | {10_000 + i}) for i in range(3000)]
    found, curtailed = joined([copies], 0.9, max_comparisons=1)
    assert curtailed == 0
    assert len(found) == len(copies) - 1

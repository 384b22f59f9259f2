"""Connected components against merging of sets."""

import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.dedup import components
from tests.helpers.dedup_corpus import partition_of

EDGES = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30)


def found(documents: int, edges: list[np.ndarray], chunk: int) -> tuple[set[frozenset[str]], list[int]]:
    """The components, and how many documents each part has."""
    components_, sizes = set(), []
    with tempfile.TemporaryDirectory() as folder:
        pairs = ((part[:, 0].copy(), part[:, 1].copy()) for part in edges)
        for members, roots in components.components(documents, pairs, Path(folder), chunk):
            assert (np.diff(members) > 0).all()
            groups = [members[roots == root] for root in np.unique(roots)]
            assert [group.min() for group in groups] == np.unique(roots).tolist()
            here = {frozenset(map(str, group)) for group in groups}
            assert not components_ & here
            components_ |= here
            sizes.append(len(members))
    return components_, sizes


@given(EDGES, st.randoms(use_true_random=False), st.integers(1, 4), st.sampled_from([1, 3, 7, 100]), st.integers(1, 20))
def test_components_are_those_of_the_graph_for_any_order_split_and_range(edges, random, files, span, chunk):
    shuffled = [(b, a) if random.random() < 0.5 else (a, b) for a, b in random.sample(edges, len(edges))]
    split = [np.array(shuffled[i::files], np.int64).reshape(-1, 2) for i in range(files)]
    with mock.patch.object(components, "SPAN", span):
        of_graph, sizes = found(20, split, chunk)
    assert of_graph == partition_of([str(x) for x in range(20)], [(str(a), str(b)) for a, b in edges])
    longest = max(map(len, of_graph), default=0)
    assert all(size <= max(chunk, longest) + longest for size in sizes)


@pytest.mark.parametrize("centre", [0, 5_000, 9_999])
def test_a_star_and_a_chain_through_all_ranges_are_one_component_each(centre):
    star = np.stack([np.full(10_000, centre), np.arange(10_000)], axis=1)
    chain = np.stack([np.arange(10_000, 19_999), np.arange(10_001, 20_000)], axis=1)
    with mock.patch.object(components, "SPAN", 300):
        of_graph, _ = found(20_000, [star, chain], 1)
    assert sorted(map(len, of_graph)) == [10_000, 10_000]

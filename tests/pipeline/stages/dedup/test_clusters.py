"""Connected components against merging of sets."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.dedup.clusters import components
from tests.helpers.dedup_corpus import partition_of

EDGES = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30)


@given(EDGES, st.randoms(use_true_random=False), st.integers(1, 4))
def test_components_are_those_of_the_graph_for_any_order_and_split_of_the_edges(edges, random, files):
    shuffled = [(b, a) if random.random() < 0.5 else (a, b) for a, b in random.sample(edges, len(edges))]
    split = [np.array(shuffled[i::files], np.int64).reshape(-1, 2) for i in range(files)]
    roots = components(20, iter([(part[:, 0].copy(), part[:, 1].copy()) for part in split]))
    found = {frozenset(str(x) for x in np.flatnonzero(roots == root)) for root in np.unique(roots)}
    expected = partition_of([str(x) for x in range(20)], [(str(a), str(b)) for a, b in edges])
    assert {members for members in found if len(members) > 1} == expected
    assert all(root == min(np.flatnonzero(roots == root)) for root in np.unique(roots))

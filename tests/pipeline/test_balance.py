import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.balance import BINS, Config, allocate, make_plan, shares

sizes_of = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 10**12), min_size=1)


@given(sizes_of, st.integers(1, 10**13), st.floats(0.1, 8), st.data())
def test_no_domain_gives_more_than_its_epochs_and_the_budget_is_met_or_all_are_full(sizes, budget, cap, data):
    weights = {domain: data.draw(st.floats(0.01, 1)) for domain in sizes}
    wanted = shares(sizes, Config(strategy="weights", weights=weights))
    given_bytes = allocate(sizes, wanted, budget, cap)
    assert all(given_bytes[domain] <= cap * size * (1 + 1e-9) for domain, size in sizes.items())
    reachable = min(budget, cap * sum(sizes.values()))
    assert sum(given_bytes.values()) == pytest.approx(reachable, rel=1e-6)


@given(sizes_of, st.integers(1, 10**13), st.floats(0.1, 8))
def test_uncapped_domains_keep_the_ratio_of_their_shares(sizes, budget, cap):
    wanted = shares(sizes, Config(strategy="temperature", temperature=2))
    given_bytes = allocate(sizes, wanted, budget, cap)
    free = [domain for domain, size in sizes.items() if given_bytes[domain] < cap * size * (1 - 1e-9)]
    ratios = [given_bytes[domain] / wanted[domain] for domain in free]
    assert ratios == pytest.approx([max(ratios, default=0)] * len(free), rel=1e-6)


def test_shares_by_hand():
    sizes = {"big": 900, "small": 100}
    assert shares(sizes, Config()) == {"big": 0.9, "small": 0.1}
    assert shares(sizes, Config(strategy="temperature", temperature=2)) == pytest.approx({"big": 0.75, "small": 0.25})
    assert shares(sizes, Config(strategy="unimax")) == {"big": 0.5, "small": 0.5}
    assert shares(sizes, Config(strategy="weights", weights={"small": 2})) == {"big": 0.0, "small": 1.0}


def test_weights_for_a_domain_that_is_not_there_name_it_and_those_that_are():
    with pytest.raises(ValueError, match=r"'nwes'; found: books, news"):
        shares({"books": 1, "news": 1}, Config(strategy="weights", weights={"nwes": 1}))


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=300), st.integers(0, 2**32), st.floats(0.05, 3.5))
def test_the_hash_cut_takes_the_planned_bytes_to_within_half_a_bin(sizes, seed, epochs):
    bins = np.random.default_rng(seed).integers(0, BINS, len(sizes))
    histogram = np.bincount(bins, sizes, minlength=BINS).astype(np.int64)
    total = sum(sizes)
    config = Config(strategy="natural", tokens=max(1, round(total * epochs)), bytes_per_token=1, max_epochs=3)
    plan = make_plan({"d": histogram}, {"d": len(sizes)}, config)["d"]
    taken = plan.whole * total + sum(size for size, at in zip(sizes, bins, strict=True) if at / BINS < plan.cut)
    assert abs(taken - plan.epochs * total) <= histogram.max() / 2 + 1


def test_without_a_budget_natural_balance_reads_every_document_once():
    plan = make_plan({"d": np.bincount([5, 9], [10, 20], BINS).astype(np.int64)}, {"d": 2}, Config(max_epochs=4))["d"]
    assert (plan.whole, plan.cut, plan.epochs) == (1, 0.0, 1.0)

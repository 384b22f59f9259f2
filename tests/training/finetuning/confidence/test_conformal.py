from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from training.finetuning.confidence import conformal


def test_the_quantile_by_hand() -> None:
    # n = 9, alpha = .2: place ceil(10 x .8) = 8 of the sorted scores .1 to .9
    true = np.arange(1, 10) / 10
    probabilities = np.stack([true, 1 - true], 1)
    q = conformal.quantile(probabilities, np.zeros(9, np.int64), 0.2)
    assert q == pytest.approx(0.8)
    # {y: p >= .2}
    assert conformal.sets(np.array([[0.95, 0.05], [0.5, 0.5]]), q).tolist() == [[True, False], [True, True]]


def test_the_rank_is_exact_where_binary_fractions_are_not() -> None:
    assert 100 * (1 - 0.1) == 90.0
    assert conformal.rank(99, 0.1) == 90
    assert all(conformal.rank(20 * k - 1, 0.05) == 19 * k for k in range(1, 500))


def test_too_few_rows_give_every_label() -> None:
    probabilities = np.array([[0.9, 0.1]] * 8)
    q = conformal.quantile(probabilities, np.zeros(8, np.int64), 0.1)
    assert conformal.sets(np.array([[1.0, 0.0]]), q).all()


@pytest.mark.parametrize("alpha", [0.1, 0.2])
def test_the_coverage_has_its_exact_distribution(alpha: float) -> None:
    """Over draws of n development rows, the coverage of rows to come is Beta(k, n + 1 - k), k the rank."""
    draw, n = np.random.default_rng(0), 50
    share = draw.dirichlet(np.ones(3) / 2, (2_000, n))  # the model: always wrong about the labels, which are uniform
    labels = draw.integers(0, 3, (2_000, n))
    fresh = draw.dirichlet(np.ones(3) / 2, 20_000)
    scores = np.sort(1 - fresh[np.arange(20_000), draw.integers(0, 3, 20_000)])
    q = [conformal.quantile(p, y, alpha) for p, y in zip(share, labels, strict=True)]
    coverage = np.searchsorted(scores, q, side="right") / len(scores)
    rank = conformal.rank(n, alpha)
    exact = stats.beta(rank, n + 1 - rank)
    assert coverage.mean() == pytest.approx(exact.mean(), abs=0.006)
    assert np.quantile(coverage, [0.05, 0.5, 0.95]) == pytest.approx(exact.ppf([0.05, 0.5, 0.95]), abs=0.012)


def test_covered_reads_the_label() -> None:
    chosen = np.array([[True, False], [True, False]])
    assert conformal.covered(chosen, np.array([0, 1])).tolist() == [True, False]

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from training.finetuning import correlation


def numbers(count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    true = draw.integers(0, 6, count).astype(np.float64)  # many ties
    return np.round(true + draw.normal(0, 2, count), 1), true


def test_correlations_are_those_of_scipy() -> None:
    predicted, true = numbers()
    spearman, pearson, mae = correlation.measures(predicted, true, [str(n) for n in range(len(true))])
    assert spearman.score == pytest.approx(stats.spearmanr(predicted, true)[0])
    assert pearson.score == pytest.approx(stats.pearsonr(predicted, true)[0])
    assert mae.score == pytest.approx(np.abs(predicted - true).mean())


def test_a_resample_is_ranked_as_if_its_rows_stood_there_so_often() -> None:
    predicted, true = numbers(50)
    spearman, *_ = correlation.measures(predicted, true, [str(n) for n in range(50)])
    weights = np.random.default_rng(1).multinomial(50, np.full(50, 1 / 50), size=3)
    found = spearman.value(weights.astype(np.float64))
    for row, value in zip(weights, found, strict=True):
        repeated = np.repeat(np.arange(50), row)
        assert value == pytest.approx(stats.spearmanr(predicted[repeated], true[repeated])[0])


def test_intervals_hold_the_value_and_widen_where_rows_of_a_group_are_alike() -> None:
    predicted, true = numbers()
    widths = []
    for copies in (1, 10):
        groups = [str(n % len(true)) for n in range(len(true) * copies)]
        for measure in correlation.measures(np.tile(predicted, copies), np.tile(true, copies), groups):
            found = measure.interval()
            assert found.low < found.value < found.high
            widths.append(found.high - found.low)
    # ten copies of a row in its group are worth one row
    assert widths[:3] == pytest.approx(widths[3:], rel=0.05)


def test_of_a_constant_nothing_is_said() -> None:
    _, true = numbers()
    spearman, pearson, _ = correlation.measures(np.ones_like(true), true, [str(n) for n in range(len(true))])
    assert spearman.interval() == pearson.interval() == correlation.Interval(0.0, 0.0, 0.0)

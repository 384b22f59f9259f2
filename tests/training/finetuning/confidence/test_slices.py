from __future__ import annotations

import numpy as np
import pytest

from training.finetuning.confidence import slices


def test_the_failing_slice_is_named_and_chance_is_not() -> None:
    draw = np.random.default_rng(0)
    language = draw.choice(["en", "de"], 1_000).tolist()
    source = draw.choice(["a", "b"], 1_000).tolist()
    right = draw.random(1_000) < np.where(np.array(language) == "de", 0.6, 0.9)
    groups = [str(row) for row in range(1_000)]
    found = slices.find(right, groups, {"language": language, "source": source})
    assert [(each.column, each.value) for each in found if each.fails] == [("language", "de")]
    worst = found[0]
    inside = np.array(language) == "de"
    assert worst.rows == inside.sum()
    assert worst.accuracy.value == pytest.approx(right[inside].mean())
    assert worst.lead.value == pytest.approx(right[inside].mean() - right[~inside].mean())
    theory = 1.96 * np.sqrt(0.6 * 0.4 / worst.rows)
    assert worst.accuracy.high - worst.accuracy.low == pytest.approx(2 * theory, rel=0.1)


def test_small_slices_and_missing_values_are_left_out() -> None:
    values = ["rare"] * (slices.SMALLEST - 1) + ["common"] * 40 + [None] * 60
    found = slices.find(np.ones(len(values), bool), [str(n) for n in range(len(values))], {"column": values})
    assert [each.value for each in found] == ["common"]


def test_quarters_of_length() -> None:
    assert slices.by_length(["a" * n for n in (1, 2, 3, 4)]) == list(slices._QUARTILES)
    assert set(slices.by_length(["same"] * 9)) == {"shortest quarter"}

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from pipeline import MillError
from training.finetuning.confidence import label_audit


def test_confident_learning_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9], [0.55, 0.45]])
    labels = np.array([0, 0, 0, 1, 1])
    # t_0 = (.9 + .7 + .2) / 3 = .6, t_1 = (.9 + .45) / 2 = .675; row 2 counts as (0, 1), row 4 passes neither
    found = label_audit.audit(probabilities, labels)
    assert found.counts.tolist() == [[2, 1], [0, 1]]
    assert found.rows.tolist() == [2]
    assert found.suggested.tolist() == [1]
    assert found.margins == pytest.approx([0.2 - 0.8])
    assert found.share == pytest.approx((3 * 1 / 3) / 5)


def test_a_class_has_as_many_suspects_as_its_estimated_errors() -> None:
    """Rows 2 and 3 pass no threshold; half of the labels of their class that pass one are wrong, so 2 of 4 are."""
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.3, 0.7], [0.35, 0.65], [0.2, 0.8]])
    labels = np.array([0, 0, 0, 0, 1])
    # t_0 = (.9 + .1 + .3 + .35) / 4 = .41, t_1 = .8
    found = label_audit.audit(probabilities, labels)
    assert found.counts.tolist() == [[1, 1], [0, 1]]
    assert found.rows.tolist() == [1, 2]
    assert found.share == pytest.approx(2 / 5)


def blobs(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, rows)
    return np.eye(3)[labels] * 4 + draw.normal(size=(rows, 3)), labels


def test_injected_errors_are_found_and_counted() -> None:
    features, labels = blobs(1_500)
    draw = np.random.default_rng(1)
    wrong = draw.choice(1_500, 75, replace=False)
    given = labels.copy()
    given[wrong] = (labels[wrong] + draw.integers(1, 3, 75)) % 3
    groups = [str(row) for row in range(1_500)]
    found = label_audit.audit(label_audit.out_of_fold(features, given, groups), given)
    hits = np.isin(found.rows, wrong)
    assert hits.sum() >= 0.9 * 75
    assert hits.mean() >= 0.5
    assert hits[: hits.sum() // 2].mean() > 0.95
    assert found.share == pytest.approx(0.05, abs=0.02)
    right = [row == labels[at] for at, row in zip(found.rows[hits], found.suggested[hits], strict=True)]
    assert np.mean(right) > 0.95


def test_a_row_is_predicted_without_its_group() -> None:
    """Copies of a row in other folds would give its wrong label away."""
    features, labels = blobs(300)
    features, labels = np.repeat(features, 4, axis=0), np.repeat(labels, 4)
    given = labels.copy()
    given[:40] = (labels[:40] + 1) % 3
    together = label_audit.out_of_fold(features, given, [str(row // 4) for row in range(1_200)])
    assert (together[:40].argmax(1) == labels[:40]).mean() > 0.9


def test_neighbours_leave_the_row_itself_out() -> None:
    features = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 0.0]])
    places, cosines = label_audit.neighbours(sparse.csr_matrix(features), np.array([0, 2]), 2)
    assert places[:, 0].tolist() == [3, 1]
    assert places[0, 1] == 1
    assert cosines[0] == pytest.approx([1.0, 1 / np.sqrt(1.01)])


def test_a_label_of_one_group_is_refused() -> None:
    features, labels = blobs(60)
    labels[:] = 0
    labels[:3] = 1
    with pytest.raises(MillError, match="at least 2 groups"):
        label_audit.out_of_fold(features, labels, ["a" if row < 3 else str(row) for row in range(60)])

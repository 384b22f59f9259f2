from __future__ import annotations

import numpy as np
import pytest

from training.finetuning import squad


@pytest.mark.parametrize(
    ("answer", "gold", "exact", "f1"),
    [
        ("The Denver Broncos!", ["denver broncos"], 1, 1),
        ("an  apple, a pear", ["apple pear"], 1, 1),
        ("Theodore", ["dore"], 0, 0),  # an article is a word, not letters of one
        ("in the year 1066", ["1066"], 0, 2 / 4),  # words: in, year, 1066
        ("1066", ["in 1067", "the year 1066"], 0, 2 / 3),
        ("to be or not to be", ["to be"], 0, 2 * 2 / 8),  # each word counts as often as it is in both
        ("", [], 1, 1),
        ("something", [], 0, 0),
        ("", ["something"], 0, 0),
        ("the", ["a"], 1, 1),  # nothing is left of either: as the official program, no answer
        ("well-known", ["wellknown"], 1, 1),
        ("café", ["cafe"], 0, 0),
    ],
)
def test_answers_are_compared_as_the_official_program_compares_them(
    answer: str, gold: list[str], exact: float, f1: float
) -> None:
    assert squad.exact(answer, gold) == exact
    assert squad.f1(answer, gold) == pytest.approx(f1)


def test_the_threshold_of_no_answer_gives_the_best_mean() -> None:
    draw = np.random.default_rng(0)
    lead = np.round(draw.normal(size=60), 1)
    empty = (lead + draw.normal(size=60) > 0.3).astype(float)
    answered = (1 - empty) * draw.random(60)

    def mean(threshold: float) -> float:
        return np.where(lead > threshold, empty, answered).mean()

    found = squad.best_threshold(lead, answered, empty)
    assert mean(found) == max(mean(threshold) for threshold in [-10, *(lead + 1e-6), *(lead - 1e-6)])
    assert squad.best_threshold(lead, np.ones(60), np.zeros(60)) > lead.max()
    assert squad.best_threshold(lead, np.zeros(60), np.ones(60)) < lead.min()

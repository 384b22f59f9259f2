"""Documents that show what a rule does."""

from __future__ import annotations

import pytest

from pipeline.build.build import Build
from pipeline.questions import why
from pipeline.questions.sample import UnknownRule, sample
from tests.helpers import asking

RULE = "gopher_repetition.max_duplicate_5gram_characters"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    root = tmp_path_factory.mktemp("sample")
    return asking.make(asking.values(root, balance=None), root / "base")


@pytest.fixture(scope="module")
def checks(build: Build) -> dict[str, tuple[str | None, why.Check | None, bool]]:
    """Of every document the rule that dropped it and its check by RULE."""
    found = {}
    for shard in build.shards():
        for name in build.documents(shard)["id"].to_pylist():
            told = why.why(build, name)
            mine = [check for passage in told.passages for check in passage.checks if check.rule == RULE]
            alive = bool(mine) and not next(p for p in told.passages if p.stage == "heuristics").dropped_by
            found[name] = (told.dropped_by, mine[0] if mine else None, alive)
    return found


def test_a_sample_holds_documents_that_the_rule_dropped_and_more_of_them_begin_with_fewer(build, checks):
    two, all_of_them = sample(build, RULE, 2), sample(build, RULE, 1000)
    dropped = {name for name, (rule, *_) in checks.items() if rule == RULE}
    assert {entry.id for entry in all_of_them} == dropped
    assert len(two) == 2
    assert two == all_of_them[:2]
    assert all(entry.value > entry.threshold == 0.1 and not entry.kept and entry.text for entry in all_of_them)


def test_near_the_threshold_are_the_nearest_on_both_sides(build, checks):
    found = sample(build, RULE, 3, near_threshold=True)
    for kept in (False, True):
        mine = {name: check for name, (rule, check, alive) in checks.items() if (alive if kept else rule == RULE)}
        side = [abs(check.margin) for check in mine.values()]
        nearest = sorted(side)[:3]
        assert [abs(entry.value - entry.threshold) for entry in found if entry.kept == kept] == pytest.approx(nearest)


def test_a_rule_found_in_the_data_shows_its_verdicts(build):
    found = sample(build, "near_duplicate", 3, near_threshold=True)
    assert found
    assert all(entry.threshold == 0.7 and not entry.kept for entry in found)


def test_an_unknown_rule_is_answered_with_the_nearest(build):
    with pytest.raises(UnknownRule, match=r"did you mean gopher_quality\.min_words\?"):
        sample(build, "gopher_quality.min_word", 3)

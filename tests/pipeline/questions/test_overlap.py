"""Rules that drop the same documents, against a loop over documents and rules."""

from __future__ import annotations

from itertools import combinations

import pytest

from pipeline.build.build import Build
from pipeline.questions import why
from pipeline.questions.overlap import overlap
from tests.helpers import asking


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    root = tmp_path_factory.mktemp("overlap")
    return asking.make(asking.values(root, exact=None, minhash=None, balance=None), root / "base")


def failing(build: Build) -> list[tuple[str, list[str]]]:
    """For each stage that a document reached the stage and the rules that it fails, by what `mill why` says."""
    ids = [name for shard in build.shards() for name in build.documents(shard)["id"].to_pylist()]
    return [
        (passage.stage, list(dict.fromkeys(check.rule for check in passage.checks if not check.passed)))
        for name in ids
        for passage in why.why(build, name).passages
    ]


def test_counts_pairs_and_worth_are_those_of_every_rule_by_itself(build: Build):
    told, found = failing(build), overlap(build)
    assert sum(entry.documents for entry in found.rules) > sum(entry.dropped for entry in found.rules) > 0
    for entry in found.rules:
        # a language that is not wanted fails at an infinite score, which `why` does not count as a margin
        mine = [rules for stage, rules in told if stage == entry.stage and entry.rule in rules]
        assert entry.documents == len(mine)
        assert entry.alone == sum(rules == [entry.rule] for rules in mine)
        assert entry.dropped == sum(rules[0] == entry.rule for rules in mine)
    pairs = {pair.rules: pair for pair in found.pairs}
    assert pairs
    for one, other in combinations(found.rules, 2):
        both = sum(one.rule in rules and other.rule in rules for _, rules in told)
        pair = pairs.get((one.rule, other.rule))
        assert (pair.both if pair else 0) == both
        if pair:
            assert pair.jaccard == pytest.approx(both / (one.documents + other.documents - both))

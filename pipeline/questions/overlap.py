"""Which rules drop the same documents, and what each one adds to the others.

Every rule judges every document that its stage measured, not only the first that fails. Rules of different stages are
not compared: what one stage drops, the next does not measure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.build.build import Build
from pipeline.stages import registry
from pipeline.store import ledger


@dataclass(frozen=True)
class Fails:
    """Of one rule: documents that fail it, that it was the first to drop, and that fail no other of its stage."""

    stage: str
    rule: str
    documents: int
    dropped: int
    alone: int


@dataclass(frozen=True)
class Pair:
    """Two rules of one stage and the documents that fail both. ``jaccard``: their share of those that fail either."""

    stage: str
    rules: tuple[str, str]
    both: int
    jaccard: float


@dataclass(frozen=True)
class Overlap:
    """``rules`` in the order in which they judge, ``pairs`` that meet in a document, the most alike first."""

    rules: tuple[Fails, ...]
    pairs: tuple[Pair, ...]


def overlap(build: Build) -> Overlap:
    """Read off the ledgers of ``build``, for the stages whose thresholds are in the recipe.

    Raises MillError if a stage has not run.
    """
    rules: list[Fails] = []
    pairs: list[Pair] = []
    for stage in build.stages:
        names = list(dict.fromkeys(rule.name for rule in registry.rules(build, stage)))
        if not names:
            continue
        both = np.zeros((len(names), len(names)), np.int64)
        first, alone = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
        for shard in build.shards():
            failures = failed(build, stage, shard)
            both += failures.astype(np.int64) @ failures.T.astype(np.int64)
            alone += failures[:, failures.sum(axis=0) == 1].sum(axis=1)
            verdict = np.where(failures.any(axis=0), failures.argmax(axis=0), len(names))
            first += np.bincount(verdict, minlength=len(names) + 1)[: len(names)]
        fails = both.diagonal()
        rules += [Fails(stage, name, int(fails[i]), int(first[i]), int(alone[i])) for i, name in enumerate(names)]
        pairs += [
            Pair(stage, (names[i], names[j]), int(both[i, j]), float(both[i, j] / (fails[i] + fails[j] - both[i, j])))
            for i in range(len(names))
            for j in range(i + 1, len(names))
            if both[i, j]
        ]
    return Overlap(tuple(rules), tuple(sorted(pairs, key=lambda pair: (-pair.jaccard, -pair.both, pair.rules))))


def failed(build: Build, stage: str, shard: str) -> np.ndarray:
    """bool [rules, rows of the shard]: which documents fail which rule of ``stage``, each judged by itself.

    Documents that did not reach the stage fail none. Bounds of one name are one rule.
    """
    columns = {
        name: table[name].combine_chunks()
        for before in (*build.stages_before(stage), stage)
        for table in [build.ledger(before, shard)]
        for name in table.column_names
        if name not in ledger.VERDICT_COLUMNS
    }
    count = len(build.documents(shard))
    reached = ledger.alive([build.ledger(before, shard) for before in build.stages_before(stage)], count)
    rules: dict[str, np.ndarray] = {}
    for rule in registry.rules(build, stage):
        fails = (ledger.judge([rule], columns, count).rule >= 0) & reached
        rules[rule.name] = rules.get(rule.name, False) | fails
    return np.stack(list(rules.values()))

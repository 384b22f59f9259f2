"""What was measured and decided about each document.

For each stage and shard one Arrow file, row-aligned with the shard. Its columns are the stage's signals and

- ``dropped_by``  the rule that dropped the document here, null where it was kept or no longer alive;
- ``value``, ``threshold``  the signal's value and the rule's threshold at that verdict;
- ``spans``  (stages that edit) byte ranges of the text to cut, in the coordinates of the shard's text;
- ``overwrites``, ``overwritten_with``  (stages that replace) byte ranges of the text that stay but hold other bytes:
  those of the string, one range after the other. The length of a text does not change by it.

Signals of documents that an earlier stage dropped are null: they were not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import MillError

Threshold = float | Mapping[str, float]
EDIT_COLUMNS = ("spans", "overwrites", "overwritten_with")
VERDICT_COLUMNS = ("dropped_by", "value", "threshold", *EDIT_COLUMNS)


@dataclass(frozen=True)
class Rule:
    """Keep a document whose ``signal`` lies in [minimum, maximum]; a null signal passes.

    A bound may be a mapping from the values of the text signal ``by`` (a language, a domain) to numbers; the key
    ``"*"`` is for all others, and for all where no stage measured that signal. Where neither is given, or NaN is, the
    rule does not apply.
    """

    name: str
    signal: str
    minimum: Threshold | None = None
    maximum: Threshold | None = None
    by: str | None = None


@dataclass(frozen=True)
class Verdicts:
    """One entry a document: index of the rule that dropped it (-1: kept), the value and the threshold (NaN: kept)."""

    rule: np.ndarray  # int16
    value: np.ndarray  # float64
    threshold: np.ndarray  # float64
    names: tuple[str, ...] = field(default=())

    def columns(self) -> dict[str, pa.Array]:
        dropped = self.rule >= 0
        names = pa.array(list(self.names) or [""], pa.string())
        index = pa.array(np.where(dropped, self.rule, 0).astype(np.int16), mask=~dropped)
        return {
            "dropped_by": pa.DictionaryArray.from_arrays(index, names),
            "value": pa.array(self.value, mask=~dropped),
            "threshold": pa.array(self.threshold, mask=~dropped),
        }


def judge(rules: Sequence[Rule], signals: Mapping[str, pa.Array], rows: int) -> Verdicts:
    """The verdict of each of ``rows`` documents: the first rule in order that it fails decides.

    ``signals`` holds arrays of length ``rows``; raises KeyError if a rule names one that is absent.
    """
    verdict = np.full(rows, -1, np.int16)
    values = np.full(rows, np.nan)
    thresholds = np.full(rows, np.nan)
    for index, rule in enumerate(rules):
        signal = numbers(signals[rule.signal])
        groups = signals.get(rule.by) if rule.by else None
        for bound, fails in ((rule.minimum, np.less), (rule.maximum, np.greater)):
            if bound is None:
                continue
            limit = limits(bound, groups, rows)
            with np.errstate(invalid="ignore"):
                failed = fails(signal, limit) & (verdict < 0)  # NaN compares false: a null passes
            verdict[failed] = index
            values[failed] = signal[failed]
            thresholds[failed] = limit[failed]
    return Verdicts(verdict, values, thresholds, tuple(rule.name for rule in rules))


def numbers(signal: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A signal as float64, null as NaN."""
    if isinstance(signal, pa.ChunkedArray):
        signal = signal.combine_chunks()
    return pc.cast(signal, pa.float64()).to_numpy(zero_copy_only=False)


def limits(bound: Threshold, groups: pa.Array | None, rows: int) -> np.ndarray:
    """float64 [rows]: the threshold that holds for each document; NaN where none does.

    ``groups`` are the values that choose it; None where nothing measured them.
    """
    if not isinstance(bound, Mapping):
        return np.full(rows, float(bound))
    if groups is None:
        return np.full(rows, float(bound.get("*", np.nan)))
    encoded = groups.combine_chunks() if isinstance(groups, pa.ChunkedArray) else groups
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode()
    other = bound.get("*", np.nan)
    table = np.array([bound.get(key, other) for key in encoded.dictionary.to_pylist()] + [other], np.float64)
    return table[encoded.indices.fill_null(len(table) - 1).to_numpy(zero_copy_only=False)]


def spread(alive: np.ndarray, measured: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """Arrays over the alive documents, widened to all rows of the shard with nulls in between.

    ``alive`` is a boolean mask over the shard; every array in ``measured`` has ``alive.sum()`` entries.
    """
    position = np.cumsum(alive) - 1
    take = pa.array(position, mask=~alive)
    return {name: array.take(take) for name, array in measured.items()}


def alive(ledgers: Sequence[pa.Table], rows: int) -> np.ndarray:
    """Boolean mask of the documents that none of ``ledgers`` dropped.

    Raises MillError where these are of another number of documents, because a run was stopped before all were made.
    """
    mask = np.ones(rows, bool)
    for ledger in ledgers:
        if len(ledger) != rows:
            raise MillError(
                f"a ledger has {len(ledger):,} entries for the {rows:,} documents of its shard: `mill forget` or a "
                "build was stopped before its end. Run `mill build` on the recipe, then ask again"
            )
        mask &= ledger["dropped_by"].is_null().to_numpy()
    return mask


def relative_margin(value: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """How far ``value`` is from ``threshold``, as a share of it (of 1 where it is 0); inf where there is none."""
    with np.errstate(invalid="ignore"):
        scale = np.where(threshold == 0, 1.0, np.abs(threshold))
        margin = np.abs(value - threshold) / scale
    return np.where(np.isfinite(margin), margin, np.inf)

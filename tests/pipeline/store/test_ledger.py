import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import MillError
from pipeline.store import ledger
from pipeline.store.ledger import Rule, judge

value = st.one_of(st.none(), st.floats(allow_nan=False, width=32))


def test_a_ledger_of_other_documents_than_the_shard_is_named():
    table = pa.table({"dropped_by": pa.array([None, None], pa.string())})
    with pytest.raises(MillError, match="a ledger has 2 entries for the 3 documents of its shard"):
        ledger.alive([table], 3)


@given(st.lists(st.tuples(value, value), min_size=1), st.floats(-5, 5), st.floats(-5, 5))
def test_the_first_rule_a_document_fails_is_its_verdict(rows, low, high):
    signals = {name: pa.array([row[i] for row in rows], pa.float64()) for i, name in enumerate("xy")}
    verdicts = judge([Rule("r.x", "x", minimum=low), Rule("r.y", "y", maximum=high)], signals, len(rows))
    columns = {name: array.to_pylist() for name, array in verdicts.columns().items()}
    for i, (x, y) in enumerate(rows):
        if x is not None and x < low:
            expected = ("r.x", x, low)
        elif y is not None and y > high:
            expected = ("r.y", y, high)
        else:
            expected = (None, None, None)
        assert (columns["dropped_by"][i], columns["value"][i], columns["threshold"][i]) == expected


def test_a_value_at_the_threshold_passes():
    verdicts = judge([Rule("r", "x", minimum=1, maximum=2)], {"x": pa.array([1.0, 2.0])}, 2)
    assert verdicts.rule.tolist() == [-1, -1]


def test_a_threshold_per_language_falls_back_to_the_star_and_else_does_not_apply():
    signals = {"score": pa.array([0.5, 0.5, 0.5, 0.5]), "language": pa.array(["en", "de", "fr", None])}
    starred = judge([Rule("r", "score", minimum={"en": 0.4, "*": 0.6}, by="language")], signals, 4)
    assert starred.rule.tolist() == [-1, 0, 0, 0]
    bare = judge([Rule("r", "score", minimum={"en": 0.6}, by="language")], signals, 4)
    assert bare.rule.tolist() == [0, -1, -1, -1]


def test_a_rule_over_a_signal_nobody_measured_is_an_error():
    with pytest.raises(KeyError, match="word_count"):
        judge([Rule("r", "word_count", minimum=1)], {}, 3)


@given(st.lists(st.booleans(), min_size=1))
def test_spread_puts_each_value_at_its_document_and_null_at_the_dead(alive):
    mask = np.array(alive)
    values = pa.array(range(mask.sum()), pa.int32())
    wide = ledger.spread(mask, {"x": values})["x"]
    assert wide.filter(pa.array(mask)).to_pylist() == values.to_pylist()
    assert wide.filter(pa.array(~mask)).null_count == (~mask).sum()

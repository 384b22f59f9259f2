from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.conftest import END, SPECIAL, pack, sentences
from training.batches.windows import NOTHING, Layout, Order, TooFewTokens, pieces


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory):
    return pack(str(tmp_path_factory.mktemp("order")), sentences(40), END)


def test_an_epoch_reads_every_token_once(packed) -> None:
    order = Order(packed, Layout(), 16, seed=3)
    read = order.read(np.arange(order.windows_per_epoch)).tokens
    stored = packed.tokens(0, len(packed))
    left_out = len(packed) - read.size
    assert 0 <= left_out < 16
    difference = np.bincount(stored, minlength=300) - np.bincount(read.ravel(), minlength=300)
    assert difference.min() >= 0
    assert difference.sum() == left_out


def test_each_token_is_that_of_its_document(packed) -> None:
    order = Order(packed, Layout(before=258, after=257), 16, seed=3)
    windows = order.read(np.arange(order.windows_per_epoch))
    by_document: dict[int, list[int]] = {}
    for row, token in zip(windows.documents.ravel(), windows.tokens.ravel(), strict=True):
        by_document.setdefault(int(row), []).append(int(token))
    whole = [row for row in by_document if len(by_document[row]) == packed.starts[row + 1] - packed.starts[row] + 2]
    assert len(whole) >= len(by_document) - 1  # the epoch's last document may be cut
    for row in whole:
        assert by_document[row] == [258, *packed.tokens(packed.starts[row], packed.starts[row + 1]).tolist(), 257]


@given(st.lists(st.integers(0, 500), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_a_window_depends_on_its_place_only(packed, places: list[int], seed: int) -> None:
    order = Order(packed, Layout(behind=1), 16, seed)
    together = order.read(np.array(places))
    for at, place in enumerate(places):
        alone = Order(packed, Layout(behind=1), 16, seed).read(np.array([place]))
        for name in ("tokens", "segments", "positions", "documents", "first", "visits"):
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(together, name)[at])


def test_epochs_and_seeds_have_orders_of_their_own(packed) -> None:
    order = Order(packed, Layout(), 16, seed=3)
    windows = np.arange(order.windows_per_epoch)
    first, second = order.read(windows), order.read(windows + order.windows_per_epoch)
    assert (first.documents != second.documents).any()
    assert (first.documents != Order(packed, Layout(), 16, seed=4).read(windows).documents).any()


def test_pieces_are_numbered_and_placed_within_the_window(packed) -> None:
    windows = Order(packed, Layout(), 64, seed=3).read(np.arange(3))
    for segments, positions, documents in zip(windows.segments, windows.positions, windows.documents, strict=True):
        changes = np.flatnonzero(np.diff(documents)) + 1
        np.testing.assert_array_equal(np.flatnonzero(np.diff(segments)) + 1, changes)
        for piece in np.split(positions, changes):
            np.testing.assert_array_equal(piece, np.arange(len(piece)))


def test_repeated_documents_are_read_so_often_in_an_epoch(tmp_path: Path) -> None:
    packed = pack(str(tmp_path), sentences(20), SPECIAL, repeats=3)
    order = Order(packed, Layout(), 8, seed=1)
    assert order.tokens_per_epoch == 3 * len(packed)
    assert Order(packed, Layout(), 8, seed=1, repeat=False).tokens_per_epoch == len(packed)


def test_the_head_is_whole_documents_and_padding(packed) -> None:
    windows, rows = Order(packed, Layout(), 64, seed=3).head(300)
    assert np.diff(packed.starts)[rows].sum() <= 300
    np.testing.assert_array_equal(np.unique(windows.documents[windows.segments != NOTHING]), np.sort(rows))
    assert (windows.segments != NOTHING).sum() == np.diff(packed.starts)[rows].sum()


def test_too_few_tokens_are_refused_with_a_remedy(packed) -> None:
    with pytest.raises(TooFewTokens, match="smaller sequence_length"):
        Order(packed, Layout(), 10**6, seed=3)


def test_pieces_are_the_runs_of_each_row() -> None:
    rows = np.array([[0, 0, 1, 1, 1, NOTHING], [3, 3, 3, 3, 3, 3], [NOTHING] * 6, [NOTHING, 0, 1, 2, 2, 0]])
    assert pieces(rows).tolist() == [2, 3, 6, 1, 1, 2, 1]

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.conftest import END, pack, sentences
from training.batches.best_fit import FittedOrder, best_fit, cut
from training.batches.windows import NOTHING, Layout, Order, TooFewTokens


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return pack(str(tmp_path_factory.mktemp("fitted")), [*sentences(80), "a" * 200, "b" * 64, ""], END)


def slow_best_fit(sizes, length):
    rooms, chosen = [], []
    for size in sizes:
        fitting = [(room, -index) for index, room in enumerate(rooms) if room >= size]
        index = -min(fitting)[1] if fitting else len(rooms)
        if not fitting:
            rooms.append(length)
        rooms[index] -= size
        chosen.append(index)
    return chosen, rooms


@given(st.lists(st.integers(1, 12), min_size=1, max_size=60))
def test_every_piece_goes_where_it_leaves_least_room(sizes):
    found = best_fit(np.array(sizes), 12).tolist()
    rooms = {}
    for size, window in zip(sizes, found, strict=True):
        least = min((room for room in rooms.values() if room >= size), default=12)
        assert rooms.get(window, 12) == least
        rooms[window] = least - size
    assert sorted(rooms.values()) == sorted(slow_best_fit(sizes, 12)[1])


@pytest.mark.parametrize("layout", [Layout(), Layout(before=258, after=259), Layout(behind=1)])
def test_an_epoch_holds_every_token_once_and_documents_stay_whole(packed, layout):
    order = FittedOrder(packed, layout, 64, seed=3)
    found = order.read(np.arange(order.windows_per_epoch) + order.windows_per_epoch)
    stored = [packed.tokens(*span).tolist() for span in zip(packed.starts, packed.starts[1:], strict=False)]
    pieces: dict[int, list[list[int]]] = {}
    framing = slice(1, -1) if layout.before else slice(None)
    for row in range(len(found.tokens)):
        for number in range(found.segments[row].max() + 1):
            inside = found.segments[row] == number
            tokens = found.tokens[row][inside].tolist()
            assert found.first[row][inside].tolist() == [True] + [False] * (len(tokens) - 1)
            assert found.positions[row][inside].tolist() == list(range(len(tokens)))
            if layout.before:
                assert (tokens[0], tokens[-1]) == (258, 259)
            pieces.setdefault(int(found.documents[row][inside][0]), []).append(tokens[framing])
    assert sorted(pieces) == [row for row, tokens in enumerate(stored) if tokens]
    room = 62 if layout.before else 64
    for row, parts in pieces.items():
        assert len(parts) == -(-len(stored[row]) // room)
        assert sorted(map(len, parts), reverse=True)[:-1] == [room] * (len(parts) - 1)
        assert sorted(t for part in parts for t in part) == sorted(stored[row])
    assert np.all(found.segments[:, : layout.behind] == NOTHING)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_a_window_depends_on_its_place_only(packed, places, seed):
    together = FittedOrder(packed, Layout(), 64, seed).read(np.array(places))
    for at, place in enumerate(places):
        alone = FittedOrder(packed, Layout(), 64, seed).read(np.array([place]))
        for name in together.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(together, name)[at])


def test_epochs_put_different_documents_together(packed):
    order = FittedOrder(packed, Layout(), 64, seed=3)
    windows = np.arange(order.windows_per_epoch)
    one, two = (order.read(windows + epoch * len(windows)).documents for epoch in (0, 1))
    together = [{frozenset(row[row != NOTHING].tolist()) for row in rows} for rows in (one, two)]
    assert together[0] != together[1]


def test_padding_is_below_one_per_cent_where_lengths_are_those_of_documents(tmp_path):
    draw = np.random.default_rng(0)  # a heavy tail, as web pages have (log-normal)
    sizes = np.minimum(np.exp(draw.normal(4.5, 1.1, 3000)).astype(int) + 1, 5000)
    order = FittedOrder(pack(str(tmp_path), ["x" * size for size in sizes], END), Layout(), 256, seed=0)
    assert 0 <= order.padding < 0.01


def test_fewer_documents_are_cut_than_by_concatenation(packed):
    def cuts(order):
        found = order.read(np.arange(order.windows_per_epoch))
        return sum((row[row != NOTHING][:1] == other[other != NOTHING][-1:]).sum() for row, other in zip(
            found.documents[1:], found.documents, strict=False
        ))  # fmt: skip

    assert cuts(FittedOrder(packed, Layout(), 64, 0)) < cuts(Order(packed, Layout(), 64, 0)) / 4


def test_an_empty_corpus_is_an_error_that_says_so(tmp_path):
    with pytest.raises(TooFewTokens, match="no token to read"):
        FittedOrder(pack(str(tmp_path), ["", ""], {}), Layout(), 64, 0)


@given(
    st.lists(st.lists(st.integers(1, 30), max_size=8), min_size=1, max_size=5),
    st.integers(1, 24),
)
def test_long_documents_are_cut_between_sentences(documents, room):
    """Documents given as the sizes of their sentences: pieces are full of sentences, and only a longer one is cut."""
    sizes = [sum(sentences) for sentences in documents]
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    starts = np.concatenate(
        [begin + np.cumsum([0, *of[:-1]]) for begin, of in zip(bounds[:-1], documents, strict=True) if of]
        or [np.zeros(0)]
    ).astype(np.int64)
    rows, lows, highs = cut(bounds, starts, room)
    known, ends = set(starts.tolist()), dict(zip(starts.tolist(), [*starts.tolist(), int(bounds[-1])][1:], strict=True))
    assert np.repeat(rows, highs - lows).tolist() == np.repeat(np.arange(len(sizes)), sizes).tolist()
    assert all((highs - lows <= room) & (highs > lows))
    for row, low, high in zip(rows.tolist(), lows.tolist(), highs.tolist(), strict=True):
        if high == bounds[row + 1]:
            continue
        if high not in known:  # inside a sentence that no window holds, or what is left of it
            assert high - low == room
            assert not known & set(range(low + 1, high))
        elif ends[high] > low + room:
            continue  # the next sentence would not have fitted
        else:
            pytest.fail(f"the sentence at {high} had room in the piece from {low}")


def test_windows_begin_and_end_with_whole_sentences(packed):
    order = FittedOrder(packed, Layout(before=258), 48, seed=3, whole_sentences=True)
    found = order.read(np.arange(order.windows_per_epoch))
    known = set(packed.sentence_starts.tolist())
    starts = {bytes(packed.tokens(place, min(place + 12, len(packed))).astype(np.uint8)) for place in known}
    openings = found.tokens[:, 1:13].astype(np.uint8)
    opened = [bytes(opening) for opening in openings if opening[0] == ord("t")]  # of the grammar: no sentence is cut
    assert len(opened) > 20
    assert all(text in starts for text in opened)
    assert (found.segments != NOTHING).sum() == order.tokens_per_epoch

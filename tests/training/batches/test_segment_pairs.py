import numpy as np
import pytest

from tests.training.conftest import pack, sentences
from training.batches import segment_pairs
from training.batches.vocabulary import Vocabulary
from training.batches.windows import NOTHING, TooFewTokens

SPECIAL = {"cls": 256, "sep": 257, "pad": 258}
VOCABULARY = Vocabulary(260, **SPECIAL)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return pack(str(tmp_path_factory.mktemp("packed")), [*sentences(60), "x" * 300], SPECIAL)


def order(packed, task, length=64, **options):
    return segment_pairs.PairOrder(packed, VOCABULARY, length, 5, task, **options)


def segments_of(found, row):
    """(A, B) of a pair as lists of tokens, taken out of its frame."""
    tokens, types = found.tokens[row], found.types[row]
    inside = found.segments[row] != NOTHING
    a, b = tokens[inside & (types == 0)], tokens[inside & (types == 1)]
    assert (a[0], a[-1], b[-1]) == (256, 257, 257)
    assert np.all(tokens[~inside] == 258)
    return a[1:-1].tolist(), b[:-1].tolist()


@pytest.mark.parametrize("task", ["next", "order"])
def test_pairs_are_a_pure_function_of_their_position(packed, task):
    places = np.array([7, 400, 3, 401])
    one, two = order(packed, task).read(places), order(packed, task)
    two.read(np.arange(50))
    two = two.read(places[::-1])
    for name in one.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name)[::-1])


def test_sentence_order_swaps_the_two_halves_of_one_passage(packed):
    found = order(packed, "order").read(np.arange(400))
    text = bytes(t for t in packed.tokens(0, len(packed)) if t < 256)
    swapped = 0
    for row in range(400):
        a, b = segments_of(found, row)
        first, second = (a, b) if found.follows[row] else (b, a)
        assert bytes(first + second) in text
        swapped += not found.follows[row]
    assert 150 < swapped < 250  # half of 400, within five standard deviations


def test_next_sentence_takes_half_of_its_seconds_from_other_documents(packed):
    reader = order(packed, "next")
    found = reader.read(np.arange(400))
    text = bytes(t for t in packed.tokens(0, len(packed)))
    for row in range(400):
        a, b = segments_of(found, row)
        ids = found.documents[row][found.documents[row] != NOTHING]
        assert (len(set(ids)) == 1) == found.follows[row]
        if found.follows[row]:
            assert bytes(a + b) in text
    more_than_one = np.diff(reader._chunks.bounds)[reader._entries] > 1
    expected = 400 * more_than_one.mean() / 2
    assert abs(found.follows.sum() - expected) < 5 * np.sqrt(expected)


@pytest.mark.parametrize("task", ["next", "order"])
def test_segments_start_where_sentences_do(packed, task):
    found = order(packed, task, length=128).read(np.arange(200))
    for row in range(200):
        for segment in segments_of(found, row):
            if ord("x") in segment and len(set(segment)) == 1:
                continue  # the one sentence that is longer than a sequence, cut
            assert bytes(segment).startswith(b"the ")


def test_an_epoch_visits_every_token_that_can_be_in_a_pair(packed):
    reader = order(packed, "order", length=128)
    chunks = reader._chunks
    covered = np.zeros(len(packed), int)
    for start, end in zip(chunks.starts, chunks.ends, strict=True):
        covered[start:end] += 1
    assert np.all(covered == 1)
    found = reader.read(np.arange(reader.windows_per_epoch))
    sizes = (found.documents != NOTHING).sum()
    alone = np.diff(chunks.bounds) == 1
    left = (chunks.ends[chunks.bounds[1:] - 1] - chunks.starts[chunks.bounds[:-1]])[alone].sum()
    assert sizes == len(packed) - left
    assert reader.tokens_per_epoch == (found.segments != NOTHING).sum()


def test_no_pair_is_longer_than_the_sequence_and_most_fill_it(tmp_path):
    long = pack(str(tmp_path), [" ".join(sentences(30, seed)) for seed in range(20)], SPECIAL)
    reader = order(long, "order", length=200)
    found = reader.read(np.arange(reader.windows_per_epoch))
    filled = (found.segments != NOTHING).sum(1) / 200
    assert np.median(filled) > 0.85
    assert 0.02 < (filled < 0.5).mean() < 0.2  # one in ten aims at less


def test_repeated_documents_are_visited_as_often_as_they_repeat(tmp_path):
    twice = pack(str(tmp_path), sentences(20), SPECIAL, repeats=2)
    assert order(twice, "next").windows_per_epoch == 2 * order(twice, "next", repeat=False).windows_per_epoch


def test_what_makes_no_pair_is_an_error_that_says_so(tmp_path):
    single = pack(str(tmp_path / "a"), ["", "the cat sees. the fox runs."], SPECIAL)
    with pytest.raises(TooFewTokens, match="at least two documents"):
        order(single, "next")
    short = pack(str(tmp_path / "b"), ["one", "two"], SPECIAL)
    with pytest.raises(TooFewTokens, match="a document of two sentences"):
        order(short, "order")
    with pytest.raises(ValueError, match="cls and sep"):
        segment_pairs.PairOrder(single, Vocabulary(260), 64, 0, "next")

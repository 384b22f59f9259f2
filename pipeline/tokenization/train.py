"""From counts of pre-tokens to a vocabulary. The same counts and config give the same bytes, anywhere.

Ids: special tokens, added tokens, the 256 byte pieces (``byte_fallback``), the alphabet in the order of its characters,
then pieces as they are learned (Unigram: by falling score). A word that holds a character outside the alphabet is
learned from on both sides of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit

from pipeline.text.buffers import text_buffers
from pipeline.tokenization import bpe, merges, unigram, wordpiece
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.export import BYTE_PIECES, Vocabulary, byte_alphabet
from pipeline.tokenization.pretokenize import decode

VERSION = 1
#: Score of reserved and byte pieces: so low that text which reads "</s>" or "<0x41>" is never taken for one.
NEVER = -1000.0


class VocabularyTooSmall(ValueError):
    """The alphabet and the special tokens alone fill the vocabulary."""


def train(counts: pa.Table, config: TokenizerConfig) -> Vocabulary:
    """The vocabulary that ``config`` describes, from counts.COUNTS_SCHEMA in any order.

    Raises VocabularyTooSmall, or OverflowError above 700 million characters of distinct pre-tokens.
    """
    if config.algorithm == "unigram":
        counts = counts.sort_by("word")  # sums of floating-point numbers depend on the order; merges do not
    data, offsets = text_buffers(_whole(counts["word"]))
    frequency = _whole(counts["count"]).to_numpy()
    if len(data) > 700_000_000:
        raise OverflowError(f"{len(data)} characters of distinct pre-tokens; train on counts of fewer documents")
    if config.algorithm == "unigram":
        return _train_unigram(data, offsets, frequency, config)
    pa.default_memory_pool().release_unused()  # else what sorting the counts has freed adds to the peak
    words = (_bytes if config.byte_level else _characters)(data, offsets, frequency, config)
    del data, offsets, frequency  # the words as symbols take their place
    prefix = config.continuing_subword_prefix if config.algorithm == "wordpiece" else ""
    learned, pieces, inner = learn(*words, config)
    if config.byte_level:
        letters = byte_alphabet()
        written = ["".join(letters[byte] for byte in piece) for piece in pieces]
    else:
        marks = (prefix if inside else "" for inside in inner.tolist())
        written = [mark + piece.decode() for mark, piece in zip(marks, pieces, strict=True)]
    named = []
    if config.algorithm == "bpe":
        named = [(written[left], written[right]) for left, right in zip(*learned.T, strict=True)]
    fallback = BYTE_PIECES if config.byte_fallback else []
    return Vocabulary([*config.reserved, *fallback, *written], named)


class Words(NamedTuple):
    """What ``learn`` learns from: see there."""

    symbols: np.ndarray
    bounds: np.ndarray
    frequency: np.ndarray
    alphabet: list[bytes]
    inner: np.ndarray


def _bytes(data: np.ndarray, offsets: np.ndarray, frequency: np.ndarray, _config: TokenizerConfig) -> Words:
    letters = byte_alphabet()
    alphabet = sorted(range(256), key=letters.__getitem__)
    rank = np.empty(256, np.int32)
    rank[alphabet] = np.arange(256)
    order = _by_count(frequency)
    symbols, bounds = _byte_symbols(data, offsets, order, rank)
    return Words(symbols, bounds, frequency[order], [bytes([byte]) for byte in alphabet], np.zeros(256, bool))


def _characters(data: np.ndarray, offsets: np.ndarray, frequency: np.ndarray, config: TokenizerConfig) -> Words:
    has_prefix = config.algorithm == "wordpiece" and bool(config.continuing_subword_prefix)
    suffix = config.word_suffix
    points = choose_alphabet(data, offsets, frequency, config, forms=2 if has_prefix or suffix else 1)
    rank = np.full(int(points.max(initial=0)) + 1, -1, np.int32)
    rank[points] = np.arange(len(points))
    order = _by_count(frequency)
    symbols, bounds = _character_symbols(data, offsets, order, rank, len(points), has_prefix, bool(suffix))
    alphabet = [chr(point).encode() for point in points]
    inner = np.zeros(len(points), bool)
    if has_prefix or suffix:  # each character has a second form: continuing a word, or ending one
        alphabet += [piece + suffix.encode() for piece in alphabet]
        inner = np.repeat([False, has_prefix], len(points))
    return Words(symbols, bounds, frequency[order], alphabet, inner)


def _by_count(frequency: np.ndarray) -> np.ndarray:
    """int64: the words in the order of their counts, in which ``merges.link`` keeps these in little memory."""
    return np.argsort(frequency)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """``column`` as one array, not copied where it is one already."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _train_unigram(data: np.ndarray, offsets: np.ndarray, frequency: np.ndarray, config: TokenizerConfig) -> Vocabulary:
    points = choose_alphabet(data, offsets, frequency, config, forms=1)
    pieces, scores = unigram.learn(data, offsets, frequency, points, room(config), config.max_token_length or 16)
    fallback = BYTE_PIECES if config.byte_fallback else []
    fixed = [*config.reserved, *fallback]
    return Vocabulary([*fixed, *pieces], scores=[NEVER] * len(fixed) + scores)


def room(config: TokenizerConfig) -> int:
    """Entries of the vocabulary that are left for the alphabet and what is learned."""
    return config.vocab_size - len(config.reserved) - (256 if config.byte_fallback else 0)


def choose_alphabet(
    data: np.ndarray, offsets: np.ndarray, frequency: np.ndarray, config: TokenizerConfig, forms: int
) -> np.ndarray:
    """int64, ascending: the code points of the alphabet, the most frequent first to be taken (ties: the smaller).

    At most ``limit_alphabet``, and never more than fill half of the vocabulary with their ``forms`` (so that text in
    many scripts leaves room for pieces); the rest is unknown, or bytes with ``byte_fallback``.
    """
    totals = _character_counts(data, offsets, frequency)
    points = np.flatnonzero(totals)
    most = max(room(config) // (2 * forms), 0)
    if config.limit_alphabet is not None:
        most = min(most, config.limit_alphabet)
    if most == 0 and len(points):
        raise VocabularyTooSmall(
            f"tokenizer {config.name!r}: `vocab_size` {config.vocab_size} leaves no room for an alphabet beside "
            f"{config.vocab_size - room(config)} special, added and byte tokens; raise it"
        )
    order = np.lexsort((points, -totals[points]))
    return np.sort(points[order[:most]])


def learn(
    symbols: np.ndarray,
    bounds: np.ndarray,
    frequency: np.ndarray,
    alphabet: list[bytes],
    inner: np.ndarray,
    config: TokenizerConfig,
) -> tuple[np.ndarray, list[bytes], np.ndarray]:
    """Run the merging trainer that ``config`` names on words of ``symbols`` (int32, indices into ``alphabet``).

    Returns merges int32 [m, 2] (ids of pieces), the bytes of all pieces, and a bool a piece: if it continues words.
    ``symbols`` becomes the segmentation of the words by the finished vocabulary, negative where it was merged away.
    """
    if room(config) < len(alphabet):
        raise VocabularyTooSmall(
            f"tokenizer {config.name!r}: `vocab_size` {config.vocab_size} is less than its alphabet of {len(alphabet)} "
            f"and its special tokens together; raise it"
        )
    linked = merges.link(symbols, bounds, frequency)
    lengths = np.ones(len(alphabet), np.int32)
    piece_bounds = np.cumsum([0, *map(len, alphabet)])
    joined = np.frombuffer(b"".join(alphabet), np.uint8)
    pieces = merges.collect_pieces(joined, piece_bounds, lengths, inner, room(config))
    likelihood = config.algorithm == "wordpiece" and config.score == "likelihood"
    trainer = wordpiece.learn if likelihood else bpe.learn
    longest = config.max_token_length or np.iinfo(np.int32).max
    learned, pieces = trainer(linked, pieces, room(config), config.min_frequency, longest)
    n = int(pieces.size[0])
    raw = pieces.data.tobytes()
    found = [raw[pieces.offsets[i] : pieces.offsets[i + 1]] for i in range(n)]
    return learned, found, pieces.inner[:n]


@njit(cache=True, nogil=True)
def _character_counts(data: np.ndarray, offsets: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """int64: how often each code point occurs, up to the last that does."""
    at, last = offsets[0], 0
    while at < offsets[-1]:
        point, width = decode(data, at)
        last = max(last, point)
        at += width
    totals = np.zeros(last + 1, np.int64)
    for word in range(len(offsets) - 1):
        at = offsets[word]
        while at < offsets[word + 1]:
            point, width = decode(data, at)
            totals[point] += frequency[word]
            at += width
    return totals


@njit(cache=True, nogil=True)
def _byte_symbols(
    data: np.ndarray, offsets: np.ndarray, order: np.ndarray, rank: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``(symbols, bounds)`` of the words in ``order``: the rank of each byte."""
    symbols = np.empty(offsets[-1] - offsets[0], np.int32)
    bounds = np.zeros(len(offsets), np.int64)
    size = 0
    for i in range(len(order)):
        for at in range(offsets[order[i]], offsets[order[i] + 1]):
            symbols[size] = rank[data[at]]
            size += 1
        bounds[i + 1] = size
    return symbols, bounds


@njit(cache=True, nogil=True)
def _character_symbols(
    data: np.ndarray,
    offsets: np.ndarray,
    order: np.ndarray,
    rank: np.ndarray,
    n: int,
    mark_inner: bool,
    mark_last: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """``(symbols, bounds)`` of the words in ``order``: the rank of each character (-1, or past the end of ``rank``:
    none), plus n for the second form (inner, or last, characters of a word)."""
    symbols = np.empty(offsets[-1] - offsets[0], np.int32)  # what is not used costs no memory
    bounds = np.zeros(len(offsets), np.int64)
    size = 0
    for i in range(len(order)):
        start, end = offsets[order[i]], offsets[order[i] + 1]
        at = start
        while at < end:
            point, width = decode(data, at)
            second = (mark_inner and at > start) or (mark_last and at + width == end)
            symbols[size] = rank[point] if point < len(rank) else -1
            if second and symbols[size] >= 0:
                symbols[size] += n
            size += 1
            at += width
        bounds[i + 1] = size
    return symbols[:size], bounds

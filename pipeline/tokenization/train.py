"""From counts of pre-tokens to a vocabulary. The same counts and config give the same bytes, anywhere.

Ids: special tokens, added tokens, the 256 byte pieces (``byte_fallback``), the alphabet in the order of its characters,
then pieces as they are learned (Unigram: by falling score). A word that holds a character outside the alphabet is
learned from on both sides of it.
"""

from __future__ import annotations

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
    counts = counts.sort_by("word").combine_chunks()
    words, frequency = counts["word"].combine_chunks(), counts["count"].to_numpy()
    data, offsets = text_buffers(words)
    if len(data) > 700_000_000:
        raise OverflowError(f"{len(data)} characters of distinct pre-tokens; train on counts of fewer documents")
    if config.byte_level:
        return _train_bytes(data, offsets, frequency, config)
    if config.algorithm == "unigram":
        return _train_unigram(data, offsets, frequency, config)
    return _train_characters(data, offsets, frequency, config)


def _train_bytes(data: np.ndarray, offsets: np.ndarray, frequency: np.ndarray, config: TokenizerConfig) -> Vocabulary:
    letters = byte_alphabet()
    order = sorted(range(256), key=letters.__getitem__)
    rank = np.empty(256, np.int32)
    rank[order] = np.arange(256)
    symbols, bounds = rank[data[offsets[0] : offsets[-1]]], offsets - offsets[0]
    learned, pieces, _ = learn(symbols, bounds, frequency, [bytes([b]) for b in order], np.zeros(256, bool), config)
    written = ["".join(letters[byte] for byte in piece) for piece in pieces]
    return Vocabulary([*config.reserved, *written], _named(learned, written))


def _train_characters(
    data: np.ndarray, offsets: np.ndarray, frequency: np.ndarray, config: TokenizerConfig
) -> Vocabulary:
    prefix = config.continuing_subword_prefix if config.algorithm == "wordpiece" else ""
    suffix = config.word_suffix
    points = choose_alphabet(data, offsets, frequency, config, forms=2 if prefix or suffix else 1)
    rank = np.full(0x110000, -1, np.int32)
    rank[points] = np.arange(len(points))
    symbols, bounds = _character_symbols(data, offsets, rank, len(points), bool(prefix), bool(suffix))
    alphabet = [chr(point).encode() for point in points]
    inner = np.zeros(len(points), bool)
    if prefix or suffix:  # each character has a second form: continuing a word, or ending one
        alphabet += [piece + suffix.encode() for piece in alphabet]
        inner = np.repeat([False, bool(prefix)], len(points))
    learned, pieces, inner = learn(symbols, bounds, frequency, alphabet, inner, config)
    written = [
        prefix + piece.decode() if inside else piece.decode() for piece, inside in zip(pieces, inner, strict=True)
    ]
    fallback = BYTE_PIECES if config.byte_fallback else []
    named = _named(learned, written) if config.algorithm == "bpe" else []
    return Vocabulary([*config.reserved, *fallback, *written], named)


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


def _named(learned: np.ndarray, written: list[str]) -> list[tuple[str, str]]:
    return [(written[left], written[right]) for left, right in learned.tolist()]


@njit(cache=True, nogil=True)
def _character_counts(data: np.ndarray, offsets: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    totals = np.zeros(0x110000, np.int64)
    for word in range(len(offsets) - 1):
        at = offsets[word]
        while at < offsets[word + 1]:
            point, width = decode(data, at)
            totals[point] += frequency[word]
            at += width
    return totals


@njit(cache=True, nogil=True)
def _character_symbols(
    data: np.ndarray, offsets: np.ndarray, rank: np.ndarray, n: int, mark_inner: bool, mark_last: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Symbols of the words' characters: ``rank``, plus n for the second form (inner, or last, characters of a word)."""
    symbols = np.empty(offsets[-1] - offsets[0], np.int32)
    bounds = np.zeros(len(offsets), np.int64)
    size = 0
    for word in range(len(offsets) - 1):
        at, end = offsets[word], offsets[word + 1]
        while at < end:
            point, width = decode(data, at)
            second = (mark_inner and at > offsets[word]) or (mark_last and at + width == end)
            symbols[size] = rank[point]
            if second and rank[point] >= 0:
                symbols[size] += n
            size += 1
            at += width
        bounds[word + 1] = size
    return symbols[:size], bounds

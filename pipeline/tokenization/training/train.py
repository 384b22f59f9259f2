"""From counts of pre-tokens to a vocabulary. The same counts and config give the same bytes, anywhere.

Ids: special tokens, added tokens, the 256 byte pieces (``byte_fallback``), the alphabet in the order of its characters,
then pieces as they are learned (Unigram: by falling score). A word that holds a character outside the alphabet is
learned from on both sides of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import MillError
from pipeline.text.buffers import give_back, text_buffers
from pipeline.text.jit import njit
from pipeline.text.utf8 import decode
from pipeline.tokenization import alphabet
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.formats.export import Vocabulary, byte_alphabet
from pipeline.tokenization.training import bpe, merges, parity, superwords, unigram, wordpiece

VERSION = 2
#: Score of reserved and byte pieces: lower than that of their characters together, so that text which reads "</s>" or
#: "<0x41>" is never taken for one. Added to scores of ordinary pieces in double precision, it hides none of them.
NEVER = -100_000.0
_MOST = 700_000_000


def train_alike(
    groups: Mapping[str, pa.Table], config: TokenizerConfig, parallel: Mapping[str, tuple[pa.Table, int]] | None = None
) -> tuple[Vocabulary, dict[str, int]]:
    """The parity-aware vocabulary, and how many merges each group chose, from counts.COUNTS_SCHEMA of each group.

    ``parallel`` holds the counts of each group's part of a parallel text, and its lines.
    """
    room = alphabet.room(config)
    made = {
        name: parity.group(*_bytes(*_columns(table), config)[:3], _characters_of(table), room)
        for name, table in groups.items()
    }
    judged = made
    if parallel is not None:
        judged = {
            name: parity.group(*_bytes(*_columns(table), config)[:3], lines, room)
            for name, (table, lines) in parallel.items()
        }
    letters = [bytes([byte]) for byte in sorted(range(256), key=byte_alphabet().__getitem__)]
    pieces = _initial(letters, np.zeros(256, bool), room, config)
    longest = config.max_token_length or np.iinfo(np.int32).max
    learned, pieces, chosen = parity.learn(
        made, judged, pieces, room, config.min_frequency, longest, alphabet.forbidden(config)
    )
    names = byte_alphabet()
    written = ["".join(names[byte] for byte in piece) for piece in _parts(pieces)]
    named = [(written[left], written[right]) for left, right in learned.tolist()]
    return Vocabulary([*alphabet.fixed(config), *written], named), chosen


def _columns(counts: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    data, offsets = text_buffers(_whole(counts["word"]))
    return data, offsets, _whole(counts["count"]).to_numpy()


def _characters_of(counts: pa.Table) -> int:
    return int((pc.utf8_length(counts["word"]).to_numpy().astype(np.int64) * counts["count"].to_numpy()).sum())


def train(counts: pa.Table, config: TokenizerConfig, sequences: pa.Table | None = None) -> Vocabulary:
    """The vocabulary that ``config`` describes, from counts.COUNTS_SCHEMA in any order.

    Superwords need ``superwords.sequences`` of the same text as well.

    Raises alphabet.VocabularyTooSmall, or MillError above 700 million characters of distinct pre-tokens.
    """
    if config.superwords is not None:
        assert sequences is not None  # who has superwords has counted them
        return superwords.learn(train(counts, superwords.first_stage(config)), sequences, config)
    if config.algorithm == "unigram":
        counts = counts.sort_by("word")  # sums of floating-point numbers depend on the order; merges do not
    data, offsets = text_buffers(_whole(counts["word"]))
    frequency = _whole(counts["count"]).to_numpy()
    if len(data) > _MOST:
        raise MillError(
            f"tokenizer {config.name!r}: {len(data)} bytes of distinct pre-tokens, of {_MOST} at most; curate more"
            " strictly (long strings without spaces are what fills them), or train on fewer documents"
        )
    if config.algorithm == "unigram":
        return _train_unigram(data, offsets, frequency, config)
    give_back()  # else what sorting the counts has freed adds to the peak
    words = (_bytes if config.byte_level else _characters)(data, offsets, frequency, config)
    del data, offsets, frequency  # the words as symbols take their place
    prefix = config.continuing_subword_prefix if config.algorithm == "wordpiece" else ""
    learned, pieces, inner = learn(*words[:5], config)
    if config.byte_level:
        letters = byte_alphabet()
        written = ["".join(letters[byte] for byte in piece) for piece in pieces]
    else:
        marks = (prefix if inside else "" for inside in inner.tolist())
        written = [mark + piece.decode() for mark, piece in zip(marks, pieces, strict=True)]
    named = []
    if config.algorithm == "bpe":
        named = [(written[left], written[right]) for left, right in zip(*learned.T, strict=True)]
    return Vocabulary([*alphabet.fixed(config), *written], named, coverage=words.coverage)


class Words(NamedTuple):
    """What ``learn`` learns from: see there."""

    symbols: np.ndarray
    bounds: np.ndarray
    frequency: np.ndarray
    alphabet: list[bytes]
    inner: np.ndarray
    coverage: float = 1.0  # share of the text's characters that the alphabet writes


def _bytes(data: np.ndarray, offsets: np.ndarray, frequency: np.ndarray, _config: TokenizerConfig) -> Words:
    letters = byte_alphabet()
    inorder = sorted(range(256), key=letters.__getitem__)
    rank = np.empty(256, np.int32)
    rank[inorder] = np.arange(256)
    order = _by_count(frequency)
    symbols, bounds = _byte_symbols(data, offsets, order, rank)
    return Words(symbols, bounds, frequency[order], [bytes([byte]) for byte in inorder], np.zeros(256, bool))


def _characters(data: np.ndarray, offsets: np.ndarray, frequency: np.ndarray, config: TokenizerConfig) -> Words:
    has_prefix = config.algorithm == "wordpiece" and bool(config.continuing_subword_prefix)
    suffix = config.word_suffix
    points, coverage = alphabet.choose(data, offsets, frequency, config)
    rank = np.full(int(points.max(initial=0)) + 1, -1, np.int32)
    rank[points] = np.arange(len(points))
    order = _by_count(frequency)
    symbols, bounds = _character_symbols(data, offsets, order, rank, len(points), has_prefix, bool(suffix))
    letters = [chr(point).encode() for point in points]
    inner = np.zeros(len(points), bool)
    if alphabet.forms(config) == 2:  # each character has a second form: continuing a word, or ending one
        letters += [piece + suffix.encode() for piece in letters]
        inner = np.repeat([False, has_prefix], len(points))
    return Words(symbols, bounds, frequency[order], letters, inner, coverage)


def _by_count(frequency: np.ndarray) -> np.ndarray:
    """int64: the words in the order of their counts, in which ``merges.link`` keeps these in little memory."""
    return np.argsort(frequency)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """``column`` as one array, not copied where it is one already."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _train_unigram(data: np.ndarray, offsets: np.ndarray, frequency: np.ndarray, config: TokenizerConfig) -> Vocabulary:
    points, coverage = alphabet.choose(data, offsets, frequency, config)
    longest, forbidden = config.max_token_length or 16, alphabet.forbidden(config)
    pieces, scores = unigram.learn(data, offsets, frequency, points, alphabet.room(config), longest, forbidden)
    reserved = alphabet.fixed(config)
    return Vocabulary([*reserved, *pieces], scores=[NEVER] * len(reserved) + scores, coverage=coverage)


def learn(
    symbols: np.ndarray,
    bounds: np.ndarray,
    frequency: np.ndarray,
    letters: list[bytes],
    inner: np.ndarray,
    config: TokenizerConfig,
) -> tuple[np.ndarray, list[bytes], np.ndarray]:
    """Run the merging trainer that ``config`` names on words of ``symbols`` (int32, indices into ``letters``).

    Returns merges int32 [m, 2] (ids of pieces), the bytes of all pieces, and a bool a piece: if it continues words.
    ``symbols`` becomes the segmentation of the words by the finished vocabulary, negative where it was merged away.
    """
    room = alphabet.room(config)
    pieces = _initial(letters, inner, room, config)
    linked = merges.link(symbols, bounds, frequency)
    likelihood = config.algorithm == "wordpiece" and config.score == "likelihood"
    trainer = wordpiece.learn if likelihood else bpe.learn
    longest = config.max_token_length or np.iinfo(np.int32).max
    learned, pieces = trainer(linked, pieces, room, config.min_frequency, longest, *alphabet.forbidden(config))
    return learned, _parts(pieces), pieces.inner[: int(pieces.size[0])]


def _initial(letters: list[bytes], inner: np.ndarray, room: int, config: TokenizerConfig) -> merges.Pieces:
    """The alphabet as pieces. Raises VocabularyTooSmall."""
    if room < len(letters):
        raise alphabet.VocabularyTooSmall(
            f"tokenizer {config.name!r}: `vocab_size` {config.vocab_size} is less than its alphabet of {len(letters)} "
            f"and its special tokens together; raise it to more than {len(letters) + config.vocab_size - room}"
        )
    lengths = np.ones(len(letters), np.int32)
    piece_bounds = np.cumsum([0, *map(len, letters)])
    joined = np.frombuffer(b"".join(letters), np.uint8)
    return merges.collect_pieces(joined, piece_bounds, lengths, inner, room)


def _parts(pieces: merges.Pieces) -> list[bytes]:
    """The bytes of each piece."""
    raw, bounds = pieces.data.tobytes(), pieces.offsets
    return [raw[bounds[at] : bounds[at + 1]] for at in range(int(pieces.size[0]))]


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
            point, after = decode(data, at)
            second = (mark_inner and at > start) or (mark_last and after == end)
            symbols[size] = rank[point] if point < len(rank) else -1
            if second and symbols[size] >= 0:
                symbols[size] += n
            size += 1
            at = after
        bounds[i + 1] = size
    return symbols[:size], bounds

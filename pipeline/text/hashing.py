"""Every hash of the kernels.

- XXH64 over Arrow strings: the hash that every sampling decision is keyed by. Equal to
  ``xxhash.xxh64_intdigest(text, seed)`` (Collet's specification, https://github.com/Cyan4973/xxHash), so that all can
  recompute which half of a split a document falls in.
- FNV-1a of 64 bits (Fowler, Noll, Vo), which goes on from what came before: of words, over bytes or code points.
  ``mix`` after it spreads all bits, where some of them choose a slot or make part of a larger hash.
- ``span_hash``: of bytes eight at a time, for tables in memory only.
- ``uniform``: SplitMix64, draws by number.

- ``fasttext_hash``: FNV-1a of 32 bits as fastText's models need it.

Signatures and shingles that are stored depend on XXH64, FNV-1a and ``mix``: another constant is another format. KenLM's
tables are read by MurmurHash64A (``pipeline.stages.perplexity.tables``); files have XXH3 (the ``xxhash`` package).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy import uint32, uint64

from pipeline.text.buffers import text_buffers
from pipeline.text.jit import njit
from pipeline.text.kernels import load32, load64

_P1, _P2, _P3 = uint64(0x9E3779B185EBCA87), uint64(0xC2B2AE3D27D4EB4F), uint64(0x165667B19E3779F9)
_P4, _P5 = uint64(0x85EBCA77C2B2AE63), uint64(0x27D4EB2F165667C5)

#: What FNV-1a starts with, and its prime.
FNV_OFFSET, FNV_PRIME = uint64(0xCBF29CE484222325), uint64(0x100000001B3)
#: Those of 32 bits.
FASTTEXT_OFFSET, _FASTTEXT_PRIME = uint32(2166136261), uint32(16777619)
#: Odd, so that to multiply by one is a bijection: 2**64 over the golden ratio (Knuth; SplitMix64); that of ``mix``.
GOLDEN, MIX = uint64(0x9E3779B97F4A7C15), uint64(0xD6E8FEB86659FD93)
_SPAN = uint64(0xFF51AFD7ED558CCD)  # MurmurHash3's


def document_hash(ids: pa.StringArray, seed: int) -> np.ndarray:
    """uint64 [n]: XXH64 of each string under ``seed`` (0 <= seed < 2**64)."""
    data, offsets = text_buffers(ids)
    return hash_spans(data, offsets[:-1], offsets[1:], np.uint64(seed))


def unit_interval(hashes: np.ndarray) -> np.ndarray:
    """float64 [n] in [0, 1): the top 53 bits of each uint64, so that ``u < p`` selects a share p of documents."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53


@njit(cache=True, nogil=True)
def hash_spans(data: np.ndarray, starts: np.ndarray, ends: np.ndarray, seed: np.uint64) -> np.ndarray:
    """uint64 [n]: XXH64 of ``data[starts[i]:ends[i]]`` for each i."""
    hashes = np.empty(len(starts), np.uint64)
    for i in range(len(starts)):
        hashes[i] = xxh64(data, starts[i], ends[i], seed)
    return hashes


@njit(cache=True, nogil=True)
def xxh64(data: np.ndarray, start: int, end: int, seed: np.uint64) -> np.uint64:
    """XXH64 of the bytes ``data[start:end]``, on a machine whose numbers begin with the lowest byte."""
    at = start
    seed = uint64(seed)
    if end - start >= 32:
        a, b, c, d = uint64(seed + _P1 + _P2), uint64(seed + _P2), seed, uint64(seed - _P1)
        while at + 32 <= end:
            a, b = _round(a, load64(data, at)), _round(b, load64(data, at + 8))
            c, d = _round(c, load64(data, at + 16)), _round(d, load64(data, at + 24))
            at += 32
        h = uint64(_rotate(a, 1) + _rotate(b, 7) + _rotate(c, 12) + _rotate(d, 18))
        for lane in (a, b, c, d):
            h = uint64((h ^ _round(uint64(0), lane)) * _P1 + _P4)
    else:
        h = uint64(seed + _P5)
    h = uint64(h + uint64(end - start))
    while at + 8 <= end:
        h = uint64(_rotate(h ^ _round(uint64(0), load64(data, at)), 27) * _P1 + _P4)
        at += 8
    if at + 4 <= end:
        h = uint64(_rotate(h ^ uint64(uint64(load32(data, at)) * _P1), 23) * _P2 + _P3)
        at += 4
    while at < end:
        h = uint64(_rotate(h ^ uint64(uint64(data[at]) * _P5), 11) * _P1)
        at += 1
    h = uint64((h ^ (h >> uint64(33))) * _P2)
    h = uint64((h ^ (h >> uint64(29))) * _P3)
    return uint64(h ^ (h >> uint64(32)))


@njit(cache=True, nogil=True, inline="always")
def _rotate(x: np.uint64, bits: int) -> np.uint64:
    return uint64((uint64(x) << uint64(bits)) | (uint64(x) >> uint64(64 - bits)))


@njit(cache=True, nogil=True, forceinline=True)
def _round(accumulator: np.uint64, lane: np.uint64) -> np.uint64:
    return uint64(_rotate(uint64(accumulator + uint64(lane * _P2)), 31) * _P1)


@njit(cache=True, nogil=True, forceinline=True)
def fnv_step(h: np.uint64, value: int) -> np.uint64:
    """FNV-1a after one more byte or code point; ``h`` is FNV_OFFSET at the start."""
    return uint64((h ^ uint64(value)) * FNV_PRIME)


@njit(cache=True, nogil=True)
def fnv(data: np.ndarray, start: int, end: int) -> np.uint64:
    """FNV-1a of the bytes ``data[start:end]``."""
    h = FNV_OFFSET
    for at in range(start, end):
        h = fnv_step(h, data[at])
    return h


@njit(cache=True, nogil=True, forceinline=True)
def fasttext_step(h: np.uint32, byte: int) -> np.uint32:
    """FNV-1a of 32 bits as fastText has it: a byte above 127 sets the upper bits too."""
    return uint32((h ^ uint32(byte if byte < 128 else byte | 0xFFFFFF00)) * _FASTTEXT_PRIME)


@njit(cache=True, nogil=True)
def fasttext_hash(data: np.ndarray, start: int, end: int) -> np.uint32:
    """fastText's hash of the bytes ``data[start:end]``."""
    h = FASTTEXT_OFFSET
    for at in range(start, end):
        h = fasttext_step(h, data[at])
    return h


@njit(cache=True, nogil=True)
def mix(h: np.uint64) -> np.uint64:
    """A bijection of 64 bits in which all bits of ``h`` reach the low half."""
    h = uint64((h ^ (h >> uint64(32))) * MIX)
    return uint64(h ^ (h >> uint64(32)))


@njit(cache=True, nogil=True, forceinline=True)
def slot_of(key: np.uint64, mask: int) -> int:
    """Where to look first for ``key`` in a table of ``mask + 1`` slots, a power of two up to 2**32."""
    return np.int64((uint64(key * GOLDEN) >> uint64(32)) & uint64(mask))  # type: ignore[return-value]


@njit(cache=True, nogil=True, inline="always")
def tail64(data: np.ndarray, at: int | np.int64, size: int | np.int64) -> np.uint64:
    """The ``size`` < 8 bytes of ``data`` from ``at`` on as one number."""
    if at + 8 <= len(data):
        return load64(data, at) & ((uint64(1) << uint64(8 * size)) - uint64(1))
    word = uint64(0)
    for k in range(size):
        word |= uint64(data[at + k]) << uint64(8 * k)
    return word


@njit(cache=True, nogil=True, inline="always")
def span_hash(data: np.ndarray, start: int | np.int64, length: int | np.int64) -> np.uint64:
    """A hash of ``data[start:start + length]``, never to be stored: it depends on the machine's byte order."""
    h = uint64(uint64(length) * GOLDEN)
    at, end = start, start + length
    while at + 8 <= end:
        h = uint64((h ^ load64(data, at)) * _SPAN)
        h ^= h >> uint64(32)
        at += 8
    if at < end:
        h = uint64((h ^ tail64(data, at, end - at)) * _SPAN)
        h ^= h >> uint64(32)
    h = uint64(h * GOLDEN)
    return h ^ (h >> uint64(29))


@njit(cache=True, nogil=True)
def word_key(data: np.ndarray, start: int | np.int64, end: int | np.int64) -> np.uint64:
    """What words are told apart by: a hash of ``data[start:end]``, never to be stored."""
    return span_hash(data, start, end - start)


@njit(cache=True, nogil=True, forceinline=True)
def short_key(data: np.ndarray, start: int, size: int | np.int64) -> np.uint64:
    """``word_key`` of 1 to 8 bytes, without a branch; 8 must be inside ``data``."""
    word = load64(data, start) & (~uint64(0) >> uint64(64 - 8 * size))
    h = uint64((uint64(uint64(size) * GOLDEN) ^ word) * _SPAN)
    h = uint64((h ^ (h >> uint64(32))) * GOLDEN)
    return h ^ (h >> uint64(29))


@njit(cache=True, nogil=True, forceinline=True)
def uniform(key: np.uint64, number: int) -> float:
    """The draw in [0, 1) with this number, from 1 on, of SplitMix64 seeded by ``key`` (Steele, Lea and Flood 2014)."""
    h = uint64(uint64(key) + uint64(number) * GOLDEN)
    h = uint64((h ^ (h >> uint64(30))) * uint64(0xBF58476D1CE4E5B9))
    h = uint64((h ^ (h >> uint64(27))) * uint64(0x94D049BB133111EB))
    return np.float64((h ^ (h >> uint64(31))) >> uint64(11)) * 2.0**-53

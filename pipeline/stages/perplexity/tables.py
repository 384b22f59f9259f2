"""A language model as the hash tables that KenLM makes of it, in one array: a binary file's, or made of an ARPA file.

Heafield 2011, "KenLM: faster and smaller language model queries"; the layout is that of its binary files of type
``probing`` (lm/binary_format.cc, lm/vocab.cc, lm/search_hashed.hh, util/probing_hash_table.hh). They are memory-mapped,
so that all threads and processes of a machine share one copy.

A model in ``memory`` (uint32) is one table after another: the vocabulary, words by their hashes; the unigrams by their
numbers, log10 probability and backoff; then the n-grams of each order by their hashes, with the same two numbers,
the longest without a backoff. A table of hashes is probed from slot ``hash % slots`` on up to an empty one. A
probability's sign is clear if some longer n-gram ends in this one; a backoff is -0.0 if none begins with it.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import uint64

from pipeline import MillError
from pipeline.text.hashing import tail64
from pipeline.text.jit import njit
from pipeline.text.kernels import high64, load64, text_data

LONGEST_ORDER = 6
#: Slots of a table, whose numbers have 32 bits, and words, whose numbers go with two marks.
MOST, MOST_WORDS = 1 << 31, 1 << 30
#: Numbers of an entry: a hash takes two of them.
WORD, UNIGRAM, MIDDLE, LONGEST = 3, 2, 4, 3
#: Slots of a table to its entries, in tables that we make, as in KenLM.
SPACE = 1.5

_MAGIC = b"mmap lm http://kheafield.com/code format version 5\n".ljust(56, b"\0")
_BEGINS = b"mmap lm http://kheafield.com/code"
_SANITY = _MAGIC + struct.pack("<3f3IQ", 0, 1, -0.5, 1, 2**32 - 1, 0, 1)
_PARAMETERS = struct.Struct("<B3xfI?3xI")
_PROBING, _OTHER_KINDS = 0, range(1, 6)
_VOCABULARY = struct.Struct("<II")

_MURMUR = uint64(0xC6A4A7935BD1E995)
_HISTORY, _NEXT = uint64(8978948897894561157), uint64(17894857484156487943)


class Tables(NamedTuple):
    """``starts`` int64 are places in ``memory`` of the vocabulary, the unigrams and the tables of orders 2 and up;
    ``slots`` and ``reciprocals`` (2**64 / slots) uint64 are those of the same tables, the unigrams' without meaning;
    ``widths`` int64 the numbers of a slot. ``begin`` and ``end`` are the numbers of ``<s>`` and ``</s>``; 0 is that of
    all unknown words.
    """

    memory: np.ndarray
    starts: np.ndarray
    slots: np.ndarray
    reciprocals: np.ndarray
    widths: np.ndarray
    begin: int
    end: int


class Layout(NamedTuple):
    starts: np.ndarray
    slots: np.ndarray
    reciprocals: np.ndarray
    size: int  # of the memory in uint32


def layout(counts: Sequence[int], space: float, first: int = 0) -> Layout:
    """Where the tables of ``counts`` n-grams of each order lie, if the vocabulary's header is at ``first``."""
    slots = [max(count + 1, int(np.float32(space) * np.float32(count))) for count in counts]
    widths = [MIDDLE] * (len(counts) - 2) + [LONGEST]
    sizes = [slots[0] * WORD, (counts[0] + 1) * UNIGRAM, *map(int.__mul__, slots[1:], widths)]
    starts = np.cumsum([first + _VOCABULARY.size // 4, *sizes])
    slots.insert(1, 1)
    reciprocals = [min(2**64 // count, 2**64 - 1) for count in slots]
    return Layout(starts[:-1], np.array(slots, np.uint64), np.array(reciprocals, np.uint64), int(starts[-1]))


def tables(memory: np.ndarray, where: Layout) -> Tables:
    """The tables in ``memory``. Raises ValueError if sentences have no begin or end among its words."""
    memory = text_data(memory)
    begin, end = (_number_of(memory, where, np.frombuffer(name, np.uint8)) for name in (b"<s>", b"</s>"))
    if not begin or not end:
        raise ValueError("its vocabulary has no <s> or no </s>")
    widths = np.array([WORD, UNIGRAM, *[MIDDLE] * (len(where.starts) - 3), LONGEST])
    return Tables(memory, where.starts, where.slots, where.reciprocals, widths, begin, end)


def open_binary(path: str) -> Tables | None:
    """The model in KenLM's binary file ``path``; None for another kind of file, for other types of binaries (``trie``,
    ``probing`` with rest costs, quantised ones) and for ones beyond MOST. Raises MillError for a damaged file.
    """
    with Path(path).open("rb") as file:
        begins = file.read(len(_BEGINS))
        if begins != _BEGINS:
            return None
        try:
            return _binary(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (ValueError, struct.error) as error:
            raise MillError(
                f"{path}: a KenLM binary that cannot be read ({error}); make it from its ARPA file again, "
                "`build_binary probing`"
            ) from error


def _binary(data: mmap.mmap) -> Tables | None:
    if data[: len(_SANITY)] != _SANITY:
        raise ValueError("its header is not that of version 5, or it was not finished")
    order, space, kind, _, version = _PARAMETERS.unpack_from(data, len(_SANITY))
    at = len(_SANITY) + _PARAMETERS.size
    counts = struct.unpack_from(f"<{order}Q", data, at)
    if kind in _OTHER_KINDS:
        return None
    first = (at + 8 * order + 7) // 8 * 8
    if not 2 <= order <= LONGEST_ORDER or (kind, version) != (_PROBING, 0) or not 1 <= space < 1e6:
        raise ValueError(f"it states order {order}, type {kind}.{version}, {space:g} slots to an entry")
    if not counts[0] or sum(counts) > len(data):
        raise ValueError(f"it announces {sum(counts):,} n-grams in {len(data):,} bytes")
    if max(counts) * space > MOST or counts[0] >= MOST_WORDS:
        return None
    where = layout(counts, space, first // 4)
    if 4 * where.size > len(data):
        raise ValueError(f"it has {len(data):,} bytes of {4 * where.size:,}: it is cut")
    version, words = _VOCABULARY.unpack_from(data, first)
    memory = np.frombuffer(data, np.uint32, where.size)
    numbers = memory[where.starts[0] : where.starts[1]].reshape(-1, WORD)[:, 2]
    if version != 0 or not 0 < words <= counts[0] + 1 or numbers.max() >= words:
        raise ValueError("its vocabulary does not hold together")
    return tables(memory, where)


@njit(cache=True, nogil=True, forceinline=True)
def murmur(data, start, end):
    """MurmurHash64A with seed 0 of ``data[start:end]``."""
    h = uint64(uint64(end - start) * _MURMUR)
    at = start
    while at + 8 <= end:
        k = uint64(load64(data, at) * _MURMUR)
        h ^= uint64((k ^ (k >> uint64(47))) * _MURMUR)
        h = uint64(h * _MURMUR)
        at += 8
    if at < end:
        h = uint64((h ^ tail64(data, at, end - at)) * _MURMUR)
    h = uint64((h ^ (h >> uint64(47))) * _MURMUR)
    return uint64(h ^ (h >> uint64(47)))


@njit(cache=True, nogil=True, forceinline=True)
def longer(key, word):
    """The hash of an n-gram with ``word`` before it; that of a unigram is its number."""
    return uint64(uint64(key * _HISTORY) ^ uint64(uint64(1 + word) * _NEXT))


@njit(cache=True, nogil=True, forceinline=True)
def first_slot(key, slots, reciprocal):
    """``key % slots``, without a division."""
    rest = uint64(key - uint64(high64(key, reciprocal) * slots))
    return np.int64(rest - slots if rest >= slots else rest)


@njit(cache=True, nogil=True, forceinline=True)
def find(memory, start, width, slots, slot, key):
    """``(place in memory, whether it is there)`` of the entry with this key, or of the empty slot for it; place -1
    in a table without one."""
    at, end = start + slot * width, start + np.int64(slots) * width
    for _ in range(np.int64(slots)):
        other = load64(memory, at)
        if other == key:
            return at, True
        if other == 0:
            return at, False
        at += width
        if at == end:
            at = start
    return np.int64(-1), False


@njit(cache=True, nogil=True)
def _lookup(memory, start, slots, reciprocal, word):
    key = murmur(word, 0, len(word))
    at, known = find(memory, start, WORD, slots, first_slot(key, slots, reciprocal), key)
    return np.int64(memory[at + 2]) if known else np.int64(0)


def _number_of(memory: np.ndarray, where: Layout, word: np.ndarray) -> int:
    return int(_lookup(memory, where.starts[0], where.slots[0], where.reciprocals[0], text_data(word)))

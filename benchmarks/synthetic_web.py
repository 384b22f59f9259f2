"""Text with the statistics of a crawl, in any amount: the prose of the acceptance data, mutated.

Every document is a function of the seed and its number alone, so any part of the corpus can be made by itself.

- A document follows a base document: a piece of prose (``benchmarks.documents``). Each word is replaced with
  probability ``SWAPPED`` by one that follows, somewhere in the prose, the word just written (a bigram model, drawn from
  the places of that word); spaces and line ends stay. So lengths, frequencies, word pairs and lines are those of prose,
  and two documents of one base have few 5-grams of words in common (0.7 ** 10 = 3 %).
- ``COPIES`` of the documents are exact copies of an earlier one and ``NEAR`` are near copies, with ``EDITED`` of the
  words swapped. Lee et al. (2022), table 2: 3 % (C4) to 14 % (RealNews) of the documents are near copies. How far back
  the original stands is drawn evenly on a logarithmic scale, as copies come in clusters of all sizes.
- Hosts follow Zipf's law with exponent 1 over ``HOSTS`` hosts. Each host has a footer of its own, some 60 words, below
  ``FOOTERS`` of its documents; repeated substrings are cut from there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import uint64

from benchmarks.documents import prose
from pipeline.text.jit import njit

SWAPPED, EDITED = 0.3, 0.01
COPIES, NEAR = 0.05, 0.1
HOSTS, FOOTERS = 100_000, 0.1
FOOTER_WORDS = 60
#: Documents in a file; about 64 MB.
FILE_DOCUMENTS = 20_000

#: Characters of a word; JSON takes at most six bytes for one.
LONGEST = 60

_WORD = re.compile(r"(\S+)(\s*)")


class Model(NamedTuple):
    """``words``: int32, the number of each word of the prose, and ``gaps`` that of the space after it; base document
    ``i`` is the words ``starts[i]:starts[i + 1]``. ``followers``: int32, what follows each word where it stands, those
    of word ``w`` from ``first[w]`` on. ``text`` and ``edges``: the bytes of each word, as JSON holds them; so for gaps.
    ``hosts``: cumulated shares.
    """

    words: np.ndarray
    gaps: np.ndarray
    starts: np.ndarray
    followers: np.ndarray
    first: np.ndarray
    text: np.ndarray
    edges: np.ndarray
    gap_text: np.ndarray
    gap_edges: np.ndarray
    hosts: np.ndarray


def save(made_of: Model, folder: Path) -> None:
    """Write the model, for other processes to map."""
    folder.mkdir()
    for name, values in made_of._asdict().items():
        np.save(folder / f"{name}.npy", values)


@lru_cache(maxsize=1)
def load(folder: Path) -> Model:
    """The model that ``save`` wrote."""
    return Model(*(np.load(folder / f"{name}.npy") for name in Model._fields))


def model(megabytes: float = 30) -> Model:
    """The model of ``megabytes`` of prose, of all its domains."""
    known: dict[str, int] = {}
    known_gaps: dict[str, int] = {}
    words, gaps, starts = [], [], [0]
    for text in prose(megabytes).to_pylist():
        for word, gap in _WORD.findall(text):
            words.append(known.setdefault(word[:LONGEST], len(known)))
            gaps.append(known_gaps.setdefault(gap[:4], len(known_gaps)))
        starts.append(len(words))
    word_array = np.array(words, np.int32)
    shares = 1 / np.arange(1, HOSTS + 1)
    return Model(
        word_array,
        np.array(gaps, np.int32),
        np.array(starts, np.int64),
        np.roll(word_array, -1)[np.argsort(word_array, kind="stable")],
        np.concatenate([[0], np.cumsum(np.bincount(word_array, minlength=len(known)))]).astype(np.int32),
        *_joined(known),
        *_joined(known_gaps),
        np.cumsum(shares) / shares.sum(),
    )


def _joined(strings: Sequence[str] | dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    encoded = [json.dumps(string, ensure_ascii=False)[1:-1].encode() for string in strings]
    return np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([0, *map(len, encoded)]).astype(np.int32)


def write(path: Path, saved: Path, number: int, documents: int = FILE_DOCUMENTS, seed: int = 1) -> int:
    """Write file ``number`` of the corpus: JSON lines with ``text`` and ``url``, of the model in the folder ``saved``.
    Returns its bytes.
    """
    data = lines(load(saved), number * FILE_DOCUMENTS, documents, seed)
    path.write_bytes(data)
    return len(data)


def lines(made_of: Model, first: int, documents: int, seed: int) -> bytes:
    """The documents from number ``first`` on, a JSON line each."""
    return _lines(*made_of, first, documents, uint64(seed)).tobytes()


@njit(cache=True, nogil=True)
def _lines(
    words, gaps, starts, followers, first_follower, text, edges, gap_text, gap_edges, hosts, first, documents, seed
):
    out, size = np.empty(documents * 4096 + 65536, np.uint8), 0
    longest = 0
    for base in range(len(starts) - 1):
        longest = max(longest, starts[base + 1] - starts[base])
    written = np.empty(max(longest, FOOTER_WORDS), np.int32)
    for document in range(first, first + documents):
        origin, kind = _origin(seed, document)
        base = _draw(seed, origin, uint64(3)) % uint64(len(starts) - 1)
        start, end = np.int64(starts[base]), np.int64(starts[base + 1])
        room = 512 + (FOOTER_WORDS + end - start) * 400
        if size + room > len(out):
            more = np.empty(2 * len(out) + room, np.uint8)
            more[:size] = out[:size]
            out = more
        size = _put(out, size, b'{"text": "')
        _mutate(words, followers, first_follower, start, end, seed, origin, uint64(1 << 32), SWAPPED, written)
        if kind == 2:
            _swap_some(followers, first_follower, end - start, seed, document, written)
        for k in range(end - start):
            size = _word(out, size, text, edges, written[k])
            if k + 1 < end - start:
                size = _word(out, size, gap_text, gap_edges, gaps[start + k])
        host = np.searchsorted(hosts, _fraction(_draw(seed, document, uint64(4))))
        if _fraction(_draw(seed, origin, uint64(5))) < FOOTERS:
            size = _put(out, size, b"\\n\\n")
            at = np.int64(_draw(seed, host, uint64(6)) % uint64(len(words) - FOOTER_WORDS))
            _mutate(words, followers, first_follower, at, at + FOOTER_WORDS, seed, host, uint64(2 << 32), 1.0, written)
            for k in range(FOOTER_WORDS):
                size = _word(out, size, text, edges, written[k])
                out[size] = 32
                size += 1
        size = _put(out, size, b'", "url": "https://host-')
        size = _number(out, size, host)
        size = _put(out, size, b".example/")
        size = _number(out, size, document)
        size = _put(out, size, b'"}\n')
    return out[:size]


@njit(cache=True, nogil=True)
def _mix(x):
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = uint64((x ^ (x >> uint64(30))) * uint64(0xBF58476D1CE4E5B9))
    x = uint64((x ^ (x >> uint64(27))) * uint64(0x94D049BB133111EB))
    return uint64(x ^ (x >> uint64(31)))


@njit(cache=True, nogil=True)
def _draw(seed, number, purpose):
    """uint64: the draw of a document (or host) for a purpose."""
    mixed = _mix(uint64(seed) * uint64(0x9E3779B97F4A7C15) + uint64(number))
    return _mix(mixed + uint64(purpose) * uint64(0x9E3779B97F4A7C15))


@njit(cache=True, nogil=True)
def _fraction(draw):
    return (draw >> uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True)
def _origin(seed, document):
    """``(original, kind)``: 0 an original, itself; 1 an exact and 2 a near copy of an earlier original."""
    chance = _fraction(_draw(seed, document, uint64(1)))
    if document == 0 or chance >= COPIES + NEAR:
        return document, 0
    kind = 1 if chance < COPIES else 2
    origin = document
    while origin > 0:  # back to one that is no copy itself
        back = np.int64(origin ** _fraction(_draw(seed, origin, uint64(2))))
        origin = max(0, origin - max(1, back))
        if _fraction(_draw(seed, origin, uint64(1))) >= COPIES + NEAR:
            break
    return origin, kind


@njit(cache=True, nogil=True)
def _follower(followers, first_follower, word, draw):
    """A word that follows ``word`` somewhere in the prose; ``draw`` has 32 bits."""
    count = first_follower[word + 1] - first_follower[word]
    return followers[first_follower[word] + np.int64((draw * uint64(count)) >> uint64(32))]


@njit(cache=True, nogil=True)
def _mutate(words, followers, first_follower, start, end, seed, number, purpose, share, written):
    state = _draw(seed, number, purpose)
    for k in range(end - start):
        state = uint64(state + uint64(0x9E3779B97F4A7C15))
        draw = _mix(state)
        word = words[start + k]
        if k and (draw >> uint64(33)) * 2.0**-31 < share:
            word = _follower(followers, first_follower, written[k - 1], draw & uint64(0xFFFFFFFF))
        written[k] = word


@njit(cache=True, nogil=True)
def _swap_some(followers, first_follower, count, seed, document, written):
    state = _draw(seed, document, uint64(3 << 32))
    for k in range(1, count):
        state = uint64(state + uint64(0x9E3779B97F4A7C15))
        draw = _mix(state)
        if (draw >> uint64(33)) * 2.0**-31 < EDITED:
            written[k] = _follower(followers, first_follower, written[k - 1], draw & uint64(0xFFFFFFFF))


@njit(cache=True, nogil=True)
def _word(out, size, text, edges, number):
    for k in range(edges[number], edges[number + 1]):
        out[size] = text[k]
        size += 1
    return size


@njit(cache=True, nogil=True)
def _put(out, size, literal):
    for k in range(len(literal)):
        out[size] = literal[k]
        size += 1
    return size


@njit(cache=True, nogil=True)
def _number(out, size, number):
    digits = 1
    while number >= 10**digits:
        digits += 1
    for k in range(digits):
        out[size + k] = 48 + (number // 10 ** (digits - 1 - k)) % 10
    return size + digits

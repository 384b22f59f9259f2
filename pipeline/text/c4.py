"""The line rules of C4 (Raffel et al. 2020, section 2.2) in datatrove's order, and what they leave of a text.

A word is here a run without whitespace; one that holds characters of a script without spaces is as many words as it has
of these (of Thai, Lao, Khmer and Myanmar: syllables), where datatrove takes a whole Chinese line for one word.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy import uint64

from pipeline.text.characters import ALONE, CLUSTER, SPACE, TERMINAL, kind
from pipeline.text.jit import njit
from pipeline.text.kernels import ZERO, between32, frozen, trailing_zeros
from pipeline.text.lines import count_characters, find_byte, spells
from pipeline.text.utf8 import code_point, previous, width
from pipeline.text.words import unit_end


class LineRules(NamedTuple):
    """Which lines are dropped."""

    end_marks: int  # lines that do not end in one of these marks (NO_MARKS: none is), or that end in an ellipsis
    fewest_words: int  # lines with fewer words
    longest_word: int  # lines with a word of more characters
    citations: bool  # marks such as [12], [edit], [citation needed] are cut out
    javascript: bool  # lines with that word
    policies: bool  # lines that name cookies, terms of use or a privacy policy


#: Which marks end a line: . ? ! " ' as in C4; those of any script and closing quotation marks too; in Greek ; as well.
NO_MARKS, ENGLISH_MARKS, ANY_MARKS, GREEK_MARKS = 0, 1, 2, 3
#: Line rules as the kernels take them, one record for each set.
LINE_RULES = np.dtype([(name, np.int64) for name in LineRules._fields])
_QUOTES = np.array([ord(mark) for mark in "”“’‘»«›‹」』＂"], np.int64)  # the one that closes depends on the language

_UNSPACED = ALONE | CLUSTER
#: What is found in a line, as bits.
KEPT, LOREM_IPSUM, CURLY_BRACKET, _JAVASCRIPT, _POLICY, _BRACKET = 1, 2, 4, 8, 16, 32


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


_PHRASE_JAVASCRIPT, _PHRASE_LOREM_IPSUM = _bytes("javascript"), _bytes("lorem ipsum")
_PHRASE_PRIVACY, _PHRASE_TERMS = _bytes("privacy policy"), _bytes("terms of use")
_PHRASE_COOKIE = _bytes("cookie policy")
_PHRASES_COOKIES = (_bytes("uses cookies"), _bytes("use cookies"), _bytes("use of cookies"))
_EDIT, _NEEDED = _bytes("[edit]"), _bytes("[citation needed]")


@njit(cache=True, nogil=True)
def judge_line(data: np.ndarray, start: int, end: int, rules: Any, table: np.ndarray, scratch: np.ndarray) -> tuple:
    """``(flags, size)`` for the line ``data[start:end]``, whitespace at both ends excluded, by ``rules`` (LINE_RULES).

    ``flags`` has KEPT if the line stays, and LOREM_IPSUM and CURLY_BRACKET where the page is to be dropped: a line that
    an earlier rule drops is not looked at for them. If the line holds citation marks, ``size`` is its length without
    them and ``scratch[:size]`` (uint8 [>= end - start]) its text; otherwise ``size`` is -1.
    """
    if rules.end_marks and not _may_end_sentence(data, start, end, rules.end_marks, table):
        return 0, -1
    if _has_long_word(data, start, end, rules.longest_word, table):
        return 0, -1
    if _has_few_words(data, start, end, rules.fewest_words, table):
        return 0, -1
    flags = _phrases(data, start, end)
    if rules.citations and flags & _BRACKET:
        size = _clean(data, start, end, scratch)
        if size < end - start:
            cleaned = frozen(scratch)
            return _judge(cleaned, ZERO, size, _phrases(cleaned, ZERO, size), rules, table), size
    return _judge(data, start, end, flags, rules, table), -1


@njit(cache=True, nogil=True)
def _judge(data, start, end, flags, rules, table):
    if rules.end_marks and not _is_sentence_end(data, start, end, rules.end_marks, table):
        return 0
    if rules.javascript and flags & _JAVASCRIPT:
        return flags & LOREM_IPSUM
    if rules.policies and flags & _POLICY:
        return flags & (LOREM_IPSUM | CURLY_BRACKET)
    return flags & (LOREM_IPSUM | CURLY_BRACKET) | KEPT


@njit(cache=True, nogil=True)
def _may_end_sentence(data, start, end, marks, table):
    """False for most lines that are dropped for their end; citation marks may hide the end of others."""
    return start < end and (data[end - 1] == ord("]") or _is_sentence_end(data, start, end, marks, table))


@njit(cache=True, nogil=True)
def _is_sentence_end(data, start, end, marks, table):
    if start == end:
        return False
    last = data[end - 1]
    if last == ord("."):
        return not (end - start > 2 and data[end - 2] == ord(".") and data[end - 3] == ord("."))
    if last == ord("?") or last == ord("!") or last == ord('"') or last == ord("'"):
        return True
    if marks == ENGLISH_MARKS:
        return False
    if last < 0x80:
        return marks == GREEK_MARKS and last == ord(";")
    at = previous(data, end)
    if kind(data, at, table) & TERMINAL:
        return True
    mark = code_point(data, at)
    return bool(np.any(mark == _QUOTES))


@njit(cache=True, nogil=True)
def _has_few_words(data, start, end, fewest, table):
    words, at = 0, start
    while at < end and words < fewest:
        units = 0
        while at < end:
            this = kind(data, at, table)
            if this & SPACE:
                break
            if this & _UNSPACED:
                units += 1
                at = unit_end(data, at, end, table)
            else:
                at += width(data[at])
        words += max(units, 1)
        while at < end and kind(data, at, table) & SPACE:
            at += width(data[at])
    return words < fewest


@njit(cache=True, nogil=True)
def _has_long_word(data, start, end, longest, table):
    at = start
    while end - at > longest:  # else no word has room
        last = at + longest
        space = last
        while space > at and data[space] != ord(" "):
            space -= 1
        if space > at:  # no word before it is long
            at = space + 1
            continue
        while at <= last:
            begin = at
            while at < end and not kind(data, at, table) & (SPACE | _UNSPACED):
                at += width(data[at])
            if at - begin > longest and count_characters(data, begin, at) > longest:
                return True
            at += width(data[at]) if at < end else 1
    return False


@njit(cache=True, nogil=True)
def next_citation(data: np.ndarray, start: int, end: int) -> tuple[int, int]:
    """The first of ``[12]``, ``[]``, ``[edit]``, ``[citation needed]`` in ``data[start:end]``; (end, end) if none."""
    at = find_byte(data, start, end, ord("["))
    while at < end:
        stop = at + 1
        while stop < end and ord("0") <= data[stop] <= ord("9"):
            stop += 1
        if stop < end and data[stop] == ord("]"):
            return at, stop + 1
        for phrase in (_EDIT, _NEEDED):
            if at + len(phrase) <= end and _equal(data, at, phrase):
                return at, at + len(phrase)
        at = find_byte(data, at + 1, end, ord("["))
    return end, end


@njit(cache=True, nogil=True)
def _clean(data, start, end, scratch):
    size = 0
    while start < end:
        mark, resume = next_citation(data, start, end)
        for byte in data[start:mark]:
            scratch[size] = byte
            size += 1
        start = resume
    return size


@njit(cache=True, nogil=True)
def _phrases(data, start, end):
    """The phrases in the line, in any case; each is looked for at a rare pair of its letters."""
    flags, at = 0, start
    while at + 33 <= len(data) and at < end:
        places = between32(data, at, 32, ord("{"), ord("{"))  # the bit makes a [ of it, too
        places |= _pair32(data, at, ord("j"), ord("a"))
        places |= _pair32(data, at, ord("p"), ord("s")) | _pair32(data, at, ord("v"), ord("a"))
        places |= _pair32(data, at, ord("m"), ord("s")) | _pair32(data, at, ord("k"), ord("i"))
        while places:
            place = at + np.int64(trailing_zeros(places))
            places &= places - uint64(1)
            if place < end:
                flags |= _phrase_at(data, start, end, place)
        at += 32
    while at < end:
        flags |= _phrase_at(data, start, end, at)
        at += 1
    return flags


@njit(cache=True, nogil=True, inline="always")
def _pair32(data, at, first, second):
    return between32(data, at, 32, first, first) & between32(data, at + 1, 32, second, second)


@njit(cache=True, nogil=True)
def _phrase_at(data, start, end, at):
    byte = data[at]
    letter = byte | 32
    if byte == ord("{"):
        return CURLY_BRACKET
    if byte == ord("["):
        return _BRACKET
    if letter == ord("j"):
        return _JAVASCRIPT * spells(data, start, end, at, _PHRASE_JAVASCRIPT)
    if letter == ord("p"):
        return LOREM_IPSUM * spells(data, start, end, at - 7, _PHRASE_LOREM_IPSUM)
    if letter == ord("v"):
        return _POLICY * spells(data, start, end, at - 3, _PHRASE_PRIVACY)
    if letter == ord("m"):
        return _POLICY * spells(data, start, end, at - 3, _PHRASE_TERMS)
    if letter == ord("k"):
        named = spells(data, start, end, at - 3, _PHRASE_COOKIE)
        for phrase in _PHRASES_COOKIES:
            named |= spells(data, start, end, at + 4 - len(phrase), phrase)
        return _POLICY * named
    return 0


@njit(cache=True, nogil=True)
def _equal(data, at, phrase):
    k = 0
    while k < len(phrase) and data[at + k] == phrase[k]:
        k += 1
    return k == len(phrase)


@njit(cache=True, nogil=True)
def with_room(cuts: np.ndarray, count: int | np.int64, more: int) -> np.ndarray:
    """``cuts`` int64 [.., 2] with the first ``count`` rows, and room for at least ``more``."""
    larger = np.empty((2 * count + more, 2), np.int64)
    for k in range(count):
        larger[k, 0], larger[k, 1] = cuts[k, 0], cuts[k, 1]
    return larger


@njit(cache=True, nogil=True)
def keep(
    data: np.ndarray, start: int, end: int, begin: int, cursor: int, cuts: np.ndarray, count: int, table: np.ndarray
) -> tuple[int, int]:
    """``(cursor, count)`` after keeping ``data[start:end]`` of a text that starts at ``begin``.

    ``cursor`` is the end of what is kept so far (``begin``: nothing), ``cuts[:count]`` int64 [.., 2] the ranges cut
    before it. What lies between cursor and start is cut; a text does not start with whitespace.
    """
    if cursor == begin:
        while start < end and kind(data, start, table) & SPACE:
            start += width(data[start])
    if start == end:
        return cursor, count
    if start > cursor:
        cuts[count, 0], cuts[count, 1] = cursor, start
        count += 1
    return end, count


@njit(cache=True, nogil=True)
def keep_line(
    data: np.ndarray,
    start: int,
    end: int,
    citations: bool,
    begin: int,
    cursor: int,
    cuts: np.ndarray,
    count: int,
    table: np.ndarray,
) -> tuple[int, int]:
    """Keeps the line ``data[start:end]``, without its citation marks if ``citations``; see ``keep``."""
    while start < end:
        mark, resume = next_citation(data, start, end) if citations else (end, end)
        cursor, count = keep(data, start, mark, begin, cursor, cuts, count, table)
        start = resume
    return cursor, count


@njit(cache=True, nogil=True)
def finish(data: np.ndarray, begin: int, end: int, cursor: int, cuts: np.ndarray, count: int, table: np.ndarray) -> int:
    """Cuts what follows ``cursor`` up to the text's ``end``, and whitespace before it; the number of cuts."""
    while cursor > begin:
        kept = cuts[count - 1, 1] if count else begin  # start of the last range that is kept
        while cursor > kept and kind(data, previous(data, cursor), table) & SPACE:
            cursor = previous(data, cursor)
        if cursor > kept or count == 0:
            break
        count -= 1
        cursor = cuts[count, 0]
    if cursor < end:
        cuts[count, 0], cuts[count, 1] = cursor, end
        count += 1
    return count

"""Splits a run without whitespace into words by the rules of spaCy 3.8's English tokenizer.

In turn: an exception is taken as it is; an opening and a closing mark come off, until none is left; a web address stays
whole; what remains splits at hyphens, slashes, dots and symbols inside it. At last neighbours that make up an
exception together ("a" + ".", ")" + ":") are united.
"""

from __future__ import annotations

import numpy as np
from numpy import uint64

from pipeline.text.characters import (
    BEFORE_STOP,
    CLOSING,
    CURRENCY,
    DIGIT,
    ICON,
    LETTER,
    LOWER,
    OPENING,
    QUOTE,
    UPPER,
    kind,
)
from pipeline.text.english import EXCEPTION, LONGEST, UNIT, find
from pipeline.text.jit import njit
from pipeline.text.kernels import ZERO, between32, borrow
from pipeline.text.utf8 import code_point, previous, width

_UNITED = 4  # words that are united to one exception at most


@njit(cache=True, nogil=True)
def split_run(
    data: np.ndarray,
    start: int,
    end: int,
    table: np.ndarray,
    slots: np.ndarray,
    words: np.ndarray,
    count: int,
) -> int:
    """Puts the words of ``data[start:end]`` (not empty) at ``words[count]`` and after; returns the new count.

    ``words`` is a WORD array of which ``start`` and ``end`` are set; it needs room for 2 x (end - start) more entries,
    as its far end holds the closing marks for a while. ``table`` and ``slots`` as ``characters.table()`` and
    ``english.lookup()`` give them.
    """
    data, table, slots = borrow(data), borrow(table), borrow(slots)
    first, last_end, spare, closings = count, end, len(words) - 1, 0
    exception, solid = 0, False
    while start < end:
        exception, solid = find(data, start, end, slots) & EXCEPTION, is_solid(data, start, end)
        if exception or solid:
            break
        opening = _opening(data, start, end, table)
        if opening and start + opening < end:
            exception = find(data, start + opening, end, slots) & EXCEPTION
        closing = 0 if exception else _closing(data, start + opening, end, table, slots)
        if closing and end - closing > start:
            exception = find(data, start, end - closing, slots) & EXCEPTION
            opening = 0 if exception else opening
        if opening:
            words[count].start, words[count].end = start, start + opening
            count, start = count + 1, start + opening
        if closing:
            end -= closing
            words[spare - closings].start = end
            closings += 1
        if exception or opening + closing == 0:
            break
    if exception:
        count = _append_parts(data, start, end, slots, words, count)
    elif start < end and (solid or _is_address(data, start, end, table)):
        words[count].start, words[count].end = start, end
        count += 1
    elif start < end:
        count = _split_inside(data, start, end, table, words, count)
    for k in range(closings - 1, -1, -1):
        words[count].start = words[spare - k].start
        words[count].end = words[spare - k + 1].start if k else last_end
        count += 1
    return count if count - first < 2 else _unite(data, slots, words, first, count)


@njit(cache=True, nogil=True, forceinline=True)
def is_solid(data: np.ndarray, start: int, end: int) -> bool:
    """True for letters of ASCII alone, and for digits alone, of up to 32 bytes that are not the last of the data:
    nothing comes off them, and nothing splits them but an exception."""
    if end - start > 32 or start + 32 > len(data):
        return False
    inside = ~uint64(0) >> uint64(64 - (end - start))
    letters, digits = between32(data, start, 32, ord("a"), ord("z")), between32(data, start, 0, ord("0"), ord("9"))
    return inside & ~letters == 0 or inside & ~digits == 0


@njit(cache=True, nogil=True, forceinline=True)
def _append_parts(data, start, end, slots, words, count):
    """Appends the words that the exception ``data[start:end]`` stands for."""
    sizes = find(data, start, end, slots)
    for size in (sizes & 255, sizes >> 8 & 255):
        if size:
            words[count].start, words[count].end = start, start + size
            count, start = count + 1, start + size
    words[count].start, words[count].end = start, end
    return count + 1


@njit(cache=True, nogil=True, forceinline=True)
def _unite(data, slots, words, first, count):
    """Replaces neighbours in ``first..count`` that spell an exception by its words.

    Of a chain of overlapping exceptions (a row of apostrophes) only the first is united.
    """
    out, done, blocked = first, first, first
    for at in range(first, count):
        last = min(at + _UNITED, count) - 1
        while last > at and not _unites(data, slots, words[at].start, words[last].end, last - at + 1):
            last -= 1
        if last > at and at >= blocked:
            out = _append_parts(data, words[at].start, words[last].end, slots, words, out)
            done = last + 1
        elif at >= done:
            words[out].start, words[out].end = words[at].start, words[at].end
            out += 1
        if last > at:
            blocked = max(blocked, last + 1)
    return out


@njit(cache=True, nogil=True, forceinline=True)
def _unites(data, slots, start, end, parts):
    if end - start > LONGEST:
        return False
    entry = find(data, start, end, slots)
    return entry & EXCEPTION > 0 and 1 + (entry & 0xFF > 0) + (entry & 0xFF00 > 0) <= parts


@njit(cache=True, nogil=True, forceinline=True)
def _opening(data, at, end, table):
    """Bytes of the mark at the front of ``data[at:end]`` that is a word by itself, 0 if there is none."""
    byte = data[at]
    if byte == ord("."):
        dots = _dots(data, at, end)
        return dots if dots > 1 else 0
    if byte == ord("+"):
        return 0 if at + 1 < end and ord("0") <= data[at + 1] <= ord("9") else 1
    if byte == ord("U") and at + 2 < end and data[at + 1] == ord("S") and data[at + 2] == ord("$"):
        return 3
    if (byte == ord("C") or byte == ord("A")) and at + 1 < end and data[at + 1] == ord("$"):
        return 2
    return width(byte) if kind(data, at, table) & OPENING else 0


@njit(cache=True, nogil=True, forceinline=True)
def _closing(data, start, end, table, slots):
    """Bytes of the mark, possessive or unit at the end of ``data[start:end]``, 0 if there is none."""
    if start >= end:
        return 0
    last = previous(data, end)
    byte, size = data[last], end - last
    this = kind(data, last, table)
    before = 0
    if last > start:
        before = kind(data, previous(data, last), table)
    if byte == ord("."):
        return _closing_dots(data, start, end, before, table)
    if this & CLOSING:
        doubled = size == 3 and last - 3 >= start and _is_ellipsis(data, last) and _is_ellipsis(data, last - 3)
        return 6 if doubled else size
    if byte == ord("s") or byte == ord("S"):
        if last - 1 >= start and data[last - 1] == ord("'"):
            return 2
        if last - 3 >= start and data[last - 3] == 0xE2 and data[last - 2] == 0x80 and data[last - 1] == 0x99:
            return 4
    if byte == ord("+") or this & CURRENCY:
        return size if before & DIGIT else 0
    at = last
    for _ in range(4):  # the longest units have four characters
        if before & DIGIT:
            return end - at if find(data, at, end, slots) & UNIT else 0
        if this & DIGIT or at == start:
            return 0
        at = previous(data, at)
        this = before
        before = kind(data, previous(data, at), table) if at > start else 0
    return 0


@njit(cache=True, nogil=True, forceinline=True)
def _closing_dots(data, start, end, before, table):
    """Two dots or more come off together, one only if no abbreviation ends in it."""
    at = end
    while at > start and data[at - 1] == ord("."):
        at -= 1
    if end - at > 1 or at == start:
        return end - at if end - at > 1 else 0
    if before & BEFORE_STOP:
        return 1
    at = previous(data, at)
    if at == start:
        return 0
    second = kind(data, previous(data, at), table)
    return 1 if before & UPPER and second & UPPER else 0


@njit(cache=True, nogil=True)
def _split_inside(data, start, end, table, words, count):
    begin, at, before = start, start, ZERO
    while at < end:
        this = kind(data, at, table)
        size = 0 if this & (LETTER | DIGIT) else _inner(data, at, end, before, this, table)
        if size and at > start:
            if at > begin:
                words[count].start, words[count].end = begin, at
                count += 1
            begin = at + size
            words[count].start, words[count].end = at, begin
            count += 1
        at += size if size else width(data[at])
        before = this
    if begin < end:
        words[count].start, words[count].end = begin, end
        count += 1
    return count


@njit(cache=True, nogil=True)
def _inner(data, at, end, before, this, table):
    """Bytes of the mark at ``at``, after a character of class ``before``, that splits a word; 0 if it does not."""
    byte, size = data[at], width(data[at])
    after = kind(data, at + size, table) if at + size < end else 0
    if this & ICON or _is_ellipsis(data, at):
        return size
    if byte == ord("."):
        dots = _dots(data, at, end)
        if dots > 1:
            return dots
        return 1 if before & (LOWER | QUOTE) and after & (UPPER | QUOTE) else 0
    if byte == ord(","):
        return 1 if before & LETTER and after & LETTER else 0
    if not before & (LETTER | DIGIT):
        return 0
    if byte == ord(":") or byte == ord("<") or byte == ord(">") or byte == ord("=") or byte == ord("/"):
        return 1 if after & LETTER else 0
    if byte == ord("+") or byte == ord("-") or byte == ord("*") or byte == ord("^"):
        minus = at + 1 < end and data[at + 1] == ord("-")
        if before & DIGIT and (after & DIGIT or minus):
            return 1
    if not (byte == ord("-") or byte == ord("~") or code_point(data, at) in (0x2013, 0x2014)):
        return 0
    hyphens, longest = size, 3 if byte == ord("-") else 2 * size if code_point(data, at) == 0x2014 else size
    while hyphens < longest and at + hyphens < end and code_point(data, at + hyphens) == code_point(data, at):
        hyphens += size
    after = kind(data, at + hyphens, table) if at + hyphens < end else 0
    return hyphens if after & LETTER else 0


@njit(cache=True, nogil=True)
def _is_address(data, start, end, table):
    """Whether ``data[start:end]`` is [scheme://][user@]host.tld[:port][/path], the top-level domain in lower case."""
    dotted, at = False, start
    for place in range(start, end):
        dotted |= data[place] == ord(".")
    if not dotted:
        return False
    while at < end and (_is_host_letter(data, at) or data[at] in (ord("+"), ord("-"), ord("."), ord("_"))):
        at += width(data[at])
    if at - start > 1 and at + 3 < end and data[at] == ord(":") and data[at + 1] == data[at + 2] == ord("/"):
        start = at + 3
    if _is_host(data, start, end, table):
        return True
    is_address, at = False, start + 1
    while at < end - 1 and not is_address:
        is_address = data[at] == ord("@") and _is_host(data, at + 1, end, table)
        at += 1
    return is_address


@njit(cache=True, nogil=True)
def _is_host(data, start, end, table):
    label, at, dots, lower = start, start, 0, True
    while at < end:
        byte = data[at]
        if byte == ord("."):
            if at == label or at - label > 64 or not _is_host_letter(data, previous(data, at)):
                return False
            label, dots, lower = at + 1, dots + 1, True
        elif _is_host_letter(data, at):
            lower &= kind(data, at, table) & LOWER > 0
        elif (byte == ord("-") or byte == ord("_")) and at > label:
            lower = False
        else:
            break
        at += width(byte)
    if dots == 0 or not lower or not 2 <= at - label <= 63:
        return False
    if at < end and data[at] == ord(":"):
        port = at + 1
        while port < end and ord("0") <= data[port] <= ord("9"):
            port += 1
        if not 3 <= port - at <= 6:
            return False
        at = port
    return at == end or data[at] == ord("/") or data[at] == ord("?") or data[at] == ord("#")


@njit(cache=True, nogil=True)
def _is_host_letter(data, at):
    byte = data[at]
    if byte < 0x80:
        return ord("0") <= byte <= ord("9") or ord("a") <= byte | 32 <= ord("z")
    return 0xA1 <= code_point(data, at) <= 0xFFFF


@njit(cache=True, nogil=True, forceinline=True)
def _is_ellipsis(data, at):
    return data[at] == 0xE2 and data[at + 1] == 0x80 and data[at + 2] == 0xA6


@njit(cache=True, nogil=True)
def _dots(data, at, end):
    dots = 0
    while at + dots < end and data[at + dots] == ord("."):
        dots += 1
    return dots

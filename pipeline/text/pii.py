"""Personal data in texts, as byte ranges: one linear pass that looks closer at ``@ : + (`` and where a number begins.

No range splits a character. Ranges of a text do not overlap: what starts first is taken, and an e-mail address takes in
a number that it begins with.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit

from pipeline.text import characters
from pipeline.text.addresses import CLASSES, DIGIT, LOWER, UPPER, ipv4, ipv6, is_a
from pipeline.text.buffers import text_buffers
from pipeline.text.emails import email
from pipeline.text.kernels import borrow
from pipeline.text.numbers import card, iban
from pipeline.text.phones import phone

KINDS = ("email", "ip", "phone", "iban", "card")
_EMAIL, _IP, _PHONE, _IBAN, _CARD = range(5)
_FULL_WIDTH = 0xEF  # first byte of the full-width at sign


class Found(NamedTuple):
    """Range k of text i, ``offsets[i] <= k < offsets[i + 1]``, is ``[starts[k], ends[k])`` from the text's first byte
    and of kind ``KINDS[kinds[k]]``. All int64: offsets [n + 1], the others [offsets[n]]."""

    offsets: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    kinds: np.ndarray


def find(texts: pa.StringArray, reserved_ips: bool = False) -> Found:
    """The personal data in ``texts``; with ``reserved_ips`` also IP addresses that are not public."""
    data, offsets = text_buffers(texts)
    offsets, starts, ends, kinds = _find(data, offsets, _triggers(), characters.table(), reserved_ips)
    return Found(offsets, starts, ends, kinds)


def _triggers() -> np.ndarray:
    table = np.zeros(256, np.bool_)
    table[[ord(char) for char in "0123456789@:+("]] = True
    table[_FULL_WIDTH] = True
    return table


@njit(cache=True, nogil=True)
def _find(data, offsets, triggers, classes, reserved) -> tuple:
    data = borrow(data)  # pyright: ignore[reportCallIssue]
    out_offsets = np.zeros(len(offsets), np.int64)
    found, count = np.empty((1024, 3), np.int64), 0
    groups = np.zeros(8, np.int64)
    for text in range(len(offsets) - 1):
        start, end = offsets[text], offsets[text + 1]
        at, first = start, count
        while at < end:
            while at < end and not triggers[data[at]]:
                at += 1
            if at == end:
                break
            last = start + found[count - 1, 1] if count > first else start
            mail = last if count > first and found[count - 1, 2] == _EMAIL else start
            begin, stop, kind = _look(data, at, start, last, mail, end, classes, reserved, groups)
            if stop < 0:
                at += 1
                continue
            at = stop
            begin -= start
            while count > first and found[count - 1, 1] > begin:
                begin = min(begin, found[count - 1, 0])
                count -= 1
            if count == len(found):
                found = np.concatenate((found, np.empty_like(found)))
            found[count, 0], found[count, 1], found[count, 2] = begin, stop - start, kind
            count += 1
        out_offsets[text + 1] = count
    return out_offsets, found[:count, 0].copy(), found[:count, 1].copy(), found[:count, 2].copy()


@njit(cache=True, nogil=True)
def _look(data, at, start, last, mail, end, classes, reserved, groups):
    """``(begin, stop, kind)`` of what the byte at ``at`` gives away; stop is -1 for nothing.

    ``last``: where what was found before ends; ``mail``: where an e-mail address may begin.
    """
    byte = data[at]
    if byte == ord("@"):
        begin, stop = email(data, at, at + 1, mail, end, classes)
        return begin, stop, _EMAIL
    if byte == _FULL_WIDTH:
        if data[at + 1] != 0xBC or data[at + 2] != 0xA0:
            return at, -1, _EMAIL
        begin, stop = email(data, at, at + 3, mail, end, classes)
        return begin, stop, _EMAIL
    if byte == ord(":"):
        begin, stop = ipv6(data, at, start, end, reserved, groups)
        return begin, stop, _IP
    if byte == ord("+") or byte == ord("("):
        return at, phone(data, at, start, last, end) if is_a(data, at + 1, start, end, DIGIT) else -1, _PHONE
    if is_a(data, at - 1, start, end, DIGIT):
        return at, -1, _PHONE
    if at - 2 >= start and CLASSES[data[at - 1]] & CLASSES[data[at - 2]] & (UPPER | LOWER):
        return at - 2, iban(data, at - 2, start, end), _IBAN
    stop = ipv4(data, at, start, end, reserved)
    if stop >= 0:
        return at, stop, _IP
    stop = card(data, at, start, end)
    if stop >= 0:
        return at, stop, _CARD
    return at, phone(data, at, start, last, end), _PHONE


def places(texts: pa.StringArray, found: Found, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where to write ``sizes[kind]`` bytes over each range of ``found``, and what of it then is too much.

    Both int64 [m, 3]: number of the text, start and end, of whole characters, sorted and disjoint. What is written
    over is the beginning of the range, or as many of its first characters as come to that size.
    """
    data, offsets = text_buffers(texts)
    return _places(data, offsets, found.offsets, found.starts, found.ends, sizes[found.kinds])


@njit(cache=True, nogil=True)
def _places(data, offsets, found_offsets, starts, ends, sizes) -> tuple:
    written, cut = np.empty((1024, 3), np.int64), np.empty((1024, 3), np.int64)
    counts = np.zeros(2, np.int64)
    wanted = np.zeros(5, np.int64)
    for text in range(len(offsets) - 1):
        for k in range(found_offsets[text], found_offsets[text + 1]):
            begin, stop = offsets[text] + starts[k], offsets[text] + ends[k]
            _choose(data, begin, stop, sizes[k], wanted)
            at = begin
            while at < stop:
                size = characters.width(data[at])
                chosen = wanted[size] > 0
                wanted[size] -= chosen
                out, n = (written, counts[0]) if chosen else (cut, counts[1])
                start = at - offsets[text]
                if n > 0 and out[n - 1, 0] == text and out[n - 1, 2] == start and at > begin:
                    out[n - 1, 2] += size
                else:
                    if n == len(out):
                        longer = np.concatenate((out, np.empty_like(out)))
                        if chosen:
                            written = longer
                        else:
                            cut = longer
                        out = longer
                    out[n, 0], out[n, 1], out[n, 2] = text, start, start + size
                    counts[0 if chosen else 1] += 1
                at += size
    return written[: counts[0]].copy(), cut[: counts[1]].copy()


@njit(cache=True, nogil=True)
def _choose(data, begin, stop, size, wanted):
    """Fills ``wanted``: how many characters of one to four bytes to take so that they come to ``size`` bytes."""
    there = np.zeros(5, np.int64)
    for at in range(begin, stop):
        if data[at] & 0xC0 != 0x80:
            there[characters.width(data[at])] += 1
    for four in range(min(there[4], size // 4), -1, -1):
        for three in range(min(there[3], (size - 4 * four) // 3), -1, -1):
            rest = size - 4 * four - 3 * three
            for two in range(min(there[2], rest // 2), -1, -1):
                if rest - 2 * two <= there[1]:
                    wanted[4], wanted[3], wanted[2], wanted[1] = four, three, two, rest - 2 * two
                    return

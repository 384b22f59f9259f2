"""Personal data in texts, as byte ranges: one linear pass that looks closer at ``@ : + (`` and where a number begins.

No range splits a character. Ranges of a text do not overlap: what starts first is taken, and an e-mail address takes in
a number that it begins with. Full-width digits, letters and marks count as ASCII (``fullwidth``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.text import characters, fullwidth
from pipeline.text.addresses import CLASSES, DIGIT, LOWER, UPPER, ipv4, ipv6, is_a
from pipeline.text.buffers import text_buffers
from pipeline.text.emails import email
from pipeline.text.jit import njit
from pipeline.text.kernels import between32, borrow, trailing_zeros
from pipeline.text.numbers import card, iban
from pipeline.text.phones import phone

KINDS = ("email", "ip", "phone", "iban", "card")
_EMAIL, _IP, _PHONE, _IBAN, _CARD = range(5)


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
    found_offsets, places, kinds = _find(*fullwidth.fold(data, offsets), _triggers(), characters.table(), reserved_ips)
    fullwidth.unfold(data, offsets, found_offsets, places)
    return Found(found_offsets, places[:, 0], places[:, 1], kinds)


def _triggers() -> np.ndarray:
    table = np.zeros(256, np.bool_)
    table[[ord(char) for char in "0123456789@:+("]] = True
    return table


@njit(cache=True, nogil=True)
def _find(data, offsets, triggers, classes, reserved) -> tuple:
    data = borrow(data)  # pyright: ignore[reportCallIssue]
    out_offsets = np.zeros(len(offsets), np.int64)
    ranges, count = np.empty((1024, 3), np.int64), 0
    groups = np.zeros(8, np.int64)
    for text in range(len(offsets) - 1):
        start, end = offsets[text], offsets[text + 1]
        at, first = start, count
        while at < end:
            at = _next(data, at, end, triggers)
            if at == end:
                break
            last = start + ranges[count - 1, 1] if count > first else start
            mail = last if count > first and ranges[count - 1, 2] == _EMAIL else start
            begin, stop, kind = _look(data, at, start, last, mail, end, classes, reserved, groups)
            if stop < 0:
                at += 1
                continue
            at = stop
            begin -= start
            while count > first and ranges[count - 1, 1] > begin:
                begin = min(begin, ranges[count - 1, 0])
                count -= 1
            if count == len(ranges):
                ranges = np.concatenate((ranges, np.empty_like(ranges)))
            ranges[count, 0], ranges[count, 1], ranges[count, 2] = begin, stop - start, kind
            count += 1
        out_offsets[text + 1] = count
    return out_offsets, ranges[:count, :2].copy(), ranges[:count, 2].copy()


@njit(cache=True, nogil=True)
def _next(data, at, end, triggers):
    """The first place from ``at`` on that gives something away, ``end`` if there is none."""
    while at < end and at + 32 <= len(data):
        places = between32(data, at, 0, ord("0"), ord(":")) | between32(data, at, 0, ord("@"), ord("@"))
        places |= between32(data, at, 0, ord("("), ord("(")) | between32(data, at, 0, ord("+"), ord("+"))
        if places:
            return min(end, at + np.int64(trailing_zeros(places)))
        at += 32
    while at < end and not triggers[data[at]]:
        at += 1
    return min(at, end)


@njit(cache=True, nogil=True)
def _look(data, at, start, last, mail, end, classes, reserved, groups):
    """``(begin, stop, kind)`` of what the byte at ``at`` gives away; stop is -1 for nothing.

    ``last``: where what was found before ends; ``mail``: where an e-mail address may begin.
    """
    byte = data[at]
    if byte == ord("@"):
        begin, stop = email(data, at, mail, end, classes)
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


def places(texts: pa.StringArray, ranges: Found, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where to write ``sizes[kind]`` bytes, and what of it then is too much, for each range of ``ranges``.

    Both int64 [m, 2]: start and end. Written over is the beginning of the range, whole characters: up to three bytes
    more than the size. These, and the rest of the range, are too much.
    """
    data, offsets = text_buffers(texts)
    base = np.repeat(offsets[:-1], np.diff(ranges.offsets))
    written = ranges.starts + sizes[ranges.kinds]
    end = written.copy()
    for _ in range(3):
        inside = end < ranges.ends
        end[inside] += data[(base + end)[inside]] & 0xC0 == 0x80
    return np.stack([ranges.starts, end], 1), np.stack([written, ranges.ends], 1)

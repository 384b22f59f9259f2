"""Personal data in texts, as byte ranges: one linear pass that looks closer at ``@ : + (`` and where a number begins.

Every range is ASCII, so none splits a character. Ranges of a text do not overlap: what starts first is taken, and an
e-mail address takes in a number that it begins with.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit

from pipeline.text.addresses import CLASSES, DIGIT, UPPER, email, ipv4, ipv6, is_a
from pipeline.text.buffers import text_buffers
from pipeline.text.kernels import borrow
from pipeline.text.numbers import card, iban, phone

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
    offsets, starts, ends, kinds = _find(data, offsets, _triggers(), reserved_ips)
    return Found(offsets, starts, ends, kinds)


def _triggers() -> np.ndarray:
    table = np.zeros(256, np.bool_)
    table[[ord(char) for char in "0123456789@:+("]] = True
    return table


@njit(cache=True, nogil=True)
def _find(data, offsets, triggers, reserved) -> tuple:
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
            begin, stop, kind = _look(data, at, start, end, reserved, groups)
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
def _look(data, at, start, end, reserved, groups):
    """``(begin, stop, kind)`` of what the byte at ``at`` gives away; stop is -1 for nothing."""
    byte = data[at]
    if byte == ord("@"):
        begin, stop = email(data, at, start, end)
        return begin, stop, _EMAIL
    if byte == ord(":"):
        begin, stop = ipv6(data, at, start, end, reserved, groups)
        return begin, stop, _IP
    if byte == ord("+") or byte == ord("("):
        return at, phone(data, at, start, end) if is_a(data, at + 1, start, end, DIGIT) else -1, _PHONE
    if is_a(data, at - 1, start, end, DIGIT):
        return at, -1, _PHONE
    if at - 2 >= start and CLASSES[data[at - 1]] & CLASSES[data[at - 2]] & UPPER:
        return at - 2, iban(data, at - 2, start, end), _IBAN
    stop = ipv4(data, at, start, end, reserved)
    if stop >= 0:
        return at, stop, _IP
    stop = card(data, at, start, end)
    if stop >= 0:
        return at, stop, _CARD
    return at, phone(data, at, start, end), _PHONE

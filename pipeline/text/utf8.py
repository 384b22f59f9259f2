"""UTF-8, valid as Arrow has it, read and written by the kernels character by character."""

from __future__ import annotations

import numpy as np

from pipeline.text.jit import njit


@njit(cache=True, nogil=True, forceinline=True)
def width(byte: int) -> int:
    """Bytes of the character that starts with ``byte``."""
    return 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4


@njit(cache=True, nogil=True, inline="always")
def continues(byte: int | np.int64) -> bool:
    """Whether ``byte`` is one of a character, but not its first."""
    return byte & 0xC0 == 0x80


@njit(cache=True, nogil=True, forceinline=True)
def previous(data: np.ndarray, at: int) -> int:
    """Where the character before ``data[at]`` starts; there must be one."""
    at -= 1
    while continues(data[at]):
        at -= 1
    return at


@njit(cache=True, nogil=True, inline="always")
def following(data: np.ndarray, at: int, end: int) -> int:
    """Where the first character after ``data[at]`` starts, ``end`` if none does; ``at`` may lie inside a character."""
    at += 1
    while at < end and continues(data[at]):
        at += 1
    return at


@njit(cache=True, nogil=True, inline="always")
def decode(data: np.ndarray, at: int) -> tuple[int, int]:
    """``(code point, next)`` of the character that starts at ``data[at]``; the one after it starts at ``next``."""
    first = np.int64(data[at])
    if first < 0x80:
        return first, at + 1  # type: ignore[return-value]
    if first < 0xE0:
        return (first & 0x1F) << 6 | np.int64(data[at + 1]) & 0x3F, at + 2  # type: ignore[return-value]
    second = np.int64(data[at + 1]) & 0x3F
    if first < 0xF0:
        return (first & 0x0F) << 12 | second << 6 | np.int64(data[at + 2]) & 0x3F, at + 3  # type: ignore[return-value]
    high = (first & 0x07) << 18 | second << 12
    return high | (np.int64(data[at + 2]) & 0x3F) << 6 | np.int64(data[at + 3]) & 0x3F, at + 4  # type: ignore[return-value]


@njit(cache=True, nogil=True)
def code_point(data: np.ndarray, at: int) -> int:
    """The code point of the character that starts at ``data[at]``."""
    return decode(data, at)[0]


@njit(cache=True, nogil=True)
def encode(code: int | np.int64, out: np.ndarray, at: int) -> int:
    """Write the code point at ``out[at]``; returns the place after it."""
    if code < 0x80:
        out[at] = code
        return at + 1
    if code < 0x800:
        out[at], out[at + 1] = 0xC0 | code >> 6, 0x80 | code & 0x3F
        return at + 2
    if code < 0x10000:
        out[at], out[at + 1], out[at + 2] = 0xE0 | code >> 12, 0x80 | code >> 6 & 0x3F, 0x80 | code & 0x3F
        return at + 3
    out[at], out[at + 1] = 0xF0 | code >> 18, 0x80 | code >> 12 & 0x3F
    out[at + 2], out[at + 3] = 0x80 | code >> 6 & 0x3F, 0x80 | code & 0x3F
    return at + 4

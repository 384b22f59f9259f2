"""The raw buffers of an Arrow string array, as the kernels take them."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa


def text_buffers(texts: pa.StringArray | pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """``(data, offsets)``: uint8 bytes of all texts, and int64 offsets of length ``len(texts) + 1`` into them.

    Text ``i`` is ``data[offsets[i]:offsets[i + 1]]``, valid UTF-8. ``data`` is a view of the Arrow buffer (read-only,
    not copied, whatever made the buffer: kernels would be compiled once more for arrays that can be written to); nulls
    read as empty texts. Raises TypeError for an array of another type.
    """
    if pa.types.is_string(texts.type):
        width = np.int32
    elif pa.types.is_large_string(texts.type):
        width = np.int64
    else:
        raise TypeError(f"expected an Arrow string array, got {texts.type}")
    _, offset_buffer, data_buffer = texts.buffers()
    if len(texts) == 0 or offset_buffer is None:
        data, offsets = np.zeros(0, np.uint8), np.zeros(len(texts) + 1, np.int64)
    else:
        data = np.zeros(0, np.uint8) if data_buffer is None else np.frombuffer(data_buffer, np.uint8)
        offsets = np.frombuffer(offset_buffer, width)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    data.flags.writeable = False
    return data, offsets


def give_back() -> None:
    """Hand the memory that was freed, Arrow's and glibc's, back to the system.

    Each thread keeps its own otherwise: glibc takes larger and larger blocks from there once one was freed.
    """
    pa.default_memory_pool().release_unused()
    if glibc := _glibc():
        glibc.malloc_trim(0)


@cache
def _glibc() -> Any:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def strings(values: Sequence[str]) -> pa.StringArray:
    """``values`` as an Arrow array. ``pa.array`` would load pandas first, which takes longer than most answers."""
    data = [value.encode() for value in values]
    offsets = np.cumsum([0, *map(len, data)])
    return string_array(np.frombuffer(b"".join(data), np.uint8), offsets)


def string_array(data: np.ndarray, offsets: np.ndarray) -> pa.StringArray:
    """The inverse: ``data`` uint8 (valid UTF-8) and offsets [n + 1] as an Arrow string array, without copying the text.

    Raises OverflowError when the texts exceed the 2 GiB that 32-bit offsets reach.
    """
    if len(offsets) and int(offsets[-1]) > np.iinfo(np.int32).max:
        raise OverflowError(f"{int(offsets[-1])} bytes of text do not fit one Arrow string array")
    return pa.StringArray.from_buffers(
        len(offsets) - 1, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(np.ascontiguousarray(data))
    )

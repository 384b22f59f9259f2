"""What the kernels need besides ``njit``."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.text.jit import Intrinsic

#: A zero that numba does not take for a constant: for each constant argument it compiles the callee once more.
ZERO = np.int64(0)

#: ``borrow(array)``: the array without its reference count, for use inside a kernel that was handed the array. numba
#: counts references with an atomic operation at every call that passes an array on, which costs more than the small
#: functions of a text kernel themselves. Not for arrays made in the kernel: nothing would keep them alive.
borrow: Any = Intrinsic("borrow")

#: ``frozen(array)``: the array as one that cannot be written to. Texts come as such arrays; a kernel called with both
#: kinds would be compiled twice.
frozen: Any = Intrinsic("frozen")

#: ``words_at(address, count)``: that many uint64 from an address in memory on, as an array that cannot be written to.
#: Whoever calls the kernel keeps them alive. (numba's own list of arrays is compiled in each process that makes one.)
words_at: Any = Intrinsic("words_at")

#: ``load64(data, at)``: the eight bytes of the array from its number ``at`` on, all inside it, as one uint64 in the
#: machine's byte order.
load64: Any = Intrinsic("load64")

#: ``load32(data, at)``: the same of four bytes.
load32: Any = Intrinsic("load32")

#: ``load_float(data, at)``: the same of four bytes, as float32: a matrix within a file can begin anywhere.
load_float: Any = Intrinsic("load_float")

#: ``copy16(out, at, data, start, fold)``: the 16 bytes of one uint8 array from ``start`` on, the bits ``fold`` set in
#: them, to another from ``at`` on, all inside them.
copy16: Any = Intrinsic("copy16")

#: ``lower16(out, at, data, start)``: the same with the ASCII capitals among them in lower case.
lower16: Any = Intrinsic("lower16")

#: ``add16(into, at, data, byte)``: adds the 16 float32 that ``data``, whatever its type, holds from that byte on to
#: those of the float32 array ``into`` from number ``at`` on, each to its own.
add16: Any = Intrinsic("add16")

#: ``prefetch(data, at)``: has the processor fetch that number of the array from memory, and goes on without it.
prefetch: Any = Intrinsic("prefetch")

#: ``high64(a, b)``: the upper half of the product of two uint64.
high64: Any = Intrinsic("high64")

#: ``ones(word)``: the bits that are set in a uint64.
ones: Any = Intrinsic("ones")

#: ``trailing_zeros(word)``: the zero bits of a uint64 below its lowest one, 64 if it has none.
trailing_zeros: Any = Intrinsic("trailing_zeros")

#: ``leading_zeros(word)``: those above its highest one.
leading_zeros: Any = Intrinsic("leading_zeros")

#: ``between16(data, at, fold, first, last)``: bit k of a uint64 says whether the byte ``at + k`` of the uint8 array,
#: the bits ``fold`` set in it, is from ``first`` to ``last``, for the 16 bytes from ``at`` on, all inside the array.
between16: Any = Intrinsic("between16")

#: ``between32`` and ``between64``: the same of 32 and 64 bytes.
between32: Any = Intrinsic("between32")
between64: Any = Intrinsic("between64")

#: ``equal8(data, at, word)``: bit k of a uint64 says whether number ``at + k`` of the uint32 array is ``word``, for the
#: 8 numbers from ``at`` on, all inside the array.
equal8: Any = Intrinsic("equal8")


def text_data(data: np.ndarray) -> np.ndarray:
    """``data`` as the kernels take texts: read-only whatever it was, for the reason that ``frozen`` has."""
    view = data.view()
    view.flags.writeable = False
    return view

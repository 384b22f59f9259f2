"""What the kernels need of numba besides ``njit``."""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic


@intrinsic
def borrow(typing_context, array):  # noqa: ARG001
    """The array without its reference count, for use inside a kernel that was handed the array.

    numba counts references with an atomic operation at every call that passes an array on, which costs more than the
    small functions of a text kernel themselves. Not for arrays made in the kernel: nothing would keep them alive.
    """

    def build(context, builder, signature, arguments):
        value = context.make_array(signature.args[0])(context, builder, arguments[0])
        value.meminfo = context.get_constant_null(types.MemInfoPointer(array.dtype))
        value.parent = context.get_constant_null(types.pyobject)
        return value._getvalue()

    return array(array), build

"""What the kernels need of numba besides ``njit``."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array


def _borrow(_context, array):
    def build(context, builder, signature, arguments):
        value = context.make_array(signature.args[0])(context, builder, arguments[0])
        value.meminfo = context.get_constant_null(types.MemInfoPointer(array.dtype))
        value.parent = context.get_constant_null(types.pyobject)
        return value._getvalue()

    return array(array), build


def _frozen(_context, array):
    def build(_context, _builder, _signature, arguments):
        return arguments[0]

    return array.copy(readonly=True)(array), build


def _words_at(_context, _address, _count):
    kind = types.Array(types.uint64, 1, "C", readonly=True)

    def build(context, builder, _signature, arguments):
        array = context.make_array(kind)(context, builder)
        size = context.get_constant(types.intp, 8)
        data = builder.inttoptr(arguments[0], array.data.type)
        populate_array(array, data=data, shape=[arguments[1]], strides=[size], itemsize=size, meminfo=None)
        return array._getvalue()

    return kind(types.int64, types.int64), build


def _load64(_context, data, at):
    def build(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), ir.IntType(64).as_pointer())
        return builder.load(place, align=1)

    return types.uint64(data, at), build


def _load32(_context, data, at):
    def build(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), ir.IntType(32).as_pointer())
        return builder.load(place, align=1)

    return types.uint32(data, at), build


def _load_float(_context, data, at):
    def build(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), ir.FloatType().as_pointer())
        return builder.load(place, align=1)

    return types.float32(data, at), build


def _prefetch(_context, array, at):
    def build(context, builder, signature, arguments):
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.bitcast(builder.gep(view.data, [arguments[1]]), ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind)
        builder.call(function, [place, word(0), word(3), word(1)])  # to read, into every cache, data
        return context.get_dummy_value()

    return types.void(array, at), build


def _high64(_context, _a, _b):
    def build(_context, builder, _signature, arguments):
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
        return builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), build


def _ones(_context, word):
    def build(_context, builder, _signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(word), build


def _add16(_context, into, at, data, byte):
    def build(context, builder, signature, arguments):
        several = ir.VectorType(ir.FloatType(), 16)
        sums = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.bitcast(builder.gep(sums.data, [arguments[1]]), several.as_pointer())
        array = context.make_array(signature.args[2])(context, builder, arguments[2])
        start = builder.gep(builder.bitcast(array.data, ir.IntType(8).as_pointer()), [arguments[3]])
        added = builder.load(builder.bitcast(start, several.as_pointer()), align=1)
        builder.store(builder.fadd(builder.load(place, align=4), added), place, align=4)
        return context.get_dummy_value()

    return types.void(into, at, data, byte), build


def _trailing_zeros(_context, word):
    def build(_context, builder, _signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(word), build


def _between(lanes):
    def typed(_context, data, at, fold, first, last):
        def build(context, builder, signature, arguments):
            array = context.make_array(signature.args[0])(context, builder, arguments[0])
            several = ir.VectorType(ir.IntType(8), lanes)

            def all_of(value):
                byte = builder.trunc(value, ir.IntType(8))
                lane = builder.insert_element(ir.Constant(several, None), byte, ir.IntType(32)(0))
                every = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
                return builder.shuffle_vector(lane, lane, every)

            place = builder.bitcast(builder.gep(array.data, [arguments[1]]), several.as_pointer())
            folded = builder.or_(builder.load(place, align=1), all_of(arguments[2]))
            past = builder.sub(folded, all_of(arguments[3]))
            inside = builder.icmp_unsigned("<=", past, all_of(builder.sub(arguments[4], arguments[3])))
            return builder.zext(builder.bitcast(inside, ir.IntType(lanes)), ir.IntType(64))

        return types.uint64(data, at, fold, first, last), build

    return typed


def _copy16(_context, out, at, data, start, fold):
    def build(context, builder, signature, arguments):
        several = ir.VectorType(ir.IntType(8), 16)
        places = []
        for k in (0, 2):
            array = context.make_array(signature.args[k])(context, builder, arguments[k])
            places.append(builder.bitcast(builder.gep(array.data, [arguments[k + 1]]), several.as_pointer()))
        byte = builder.trunc(arguments[4], ir.IntType(8))
        lane = builder.insert_element(ir.Constant(several, None), byte, ir.IntType(32)(0))
        lanes = builder.shuffle_vector(lane, lane, ir.Constant(ir.VectorType(ir.IntType(32), 16), [0] * 16))
        builder.store(builder.or_(builder.load(places[1], align=1), lanes), places[0], align=1)
        return context.get_dummy_value()

    return types.void(out, at, data, start, fold), build


def _lower16(_context, out, at, data, start):
    def build(context, builder, signature, arguments):
        several = ir.VectorType(ir.IntType(8), 16)
        places = []
        for k in (0, 2):
            array = context.make_array(signature.args[k])(context, builder, arguments[k])
            places.append(builder.bitcast(builder.gep(array.data, [arguments[k + 1]]), several.as_pointer()))
        letters = builder.load(places[1], align=1)
        past = builder.sub(letters, ir.Constant(several, [ord("A")] * 16))
        capital = builder.icmp_unsigned("<", past, ir.Constant(several, [26] * 16))
        small = builder.or_(letters, ir.Constant(several, [32] * 16))
        builder.store(builder.select(capital, small, letters), places[0], align=1)
        return context.get_dummy_value()

    return types.void(out, at, data, start), build


#: A zero that numba does not take for a constant: for each constant argument it compiles the callee once more.
ZERO = np.int64(0)

#: ``borrow(array)``: the array without its reference count, for use inside a kernel that was handed the array. numba
#: counts references with an atomic operation at every call that passes an array on, which costs more than the small
#: functions of a text kernel themselves. Not for arrays made in the kernel: nothing would keep them alive.
borrow: Any = intrinsic(_borrow)

#: ``frozen(array)``: the array as one that cannot be written to. Texts come as such arrays; a kernel called with both
#: kinds would be compiled twice.
frozen: Any = intrinsic(_frozen)

#: ``words_at(address, count)``: that many uint64 from an address in memory on, as an array that cannot be written to.
#: Whoever calls the kernel keeps them alive. (numba's own list of arrays is compiled in each process that makes one.)
words_at: Any = intrinsic(_words_at)

#: ``load64(data, at)``: the eight bytes of the array from its number ``at`` on, all inside it, as one uint64 in the
#: machine's byte order.
load64: Any = intrinsic(_load64)

#: ``load32(data, at)``: the same of four bytes.
load32: Any = intrinsic(_load32)

#: ``load_float(data, at)``: the same of four bytes, as float32: a matrix within a file can begin anywhere.
load_float: Any = intrinsic(_load_float)

#: ``copy16(out, at, data, start, fold)``: the 16 bytes of one uint8 array from ``start`` on, the bits ``fold`` set in
#: them, to another from ``at`` on, all inside them.
copy16: Any = intrinsic(_copy16)

#: ``lower16(out, at, data, start)``: the same with the ASCII capitals among them in lower case.
lower16: Any = intrinsic(_lower16)

#: ``add16(into, at, data, byte)``: adds the 16 float32 that ``data``, whatever its type, holds from that byte on to
#: those of the float32 array ``into`` from number ``at`` on, each to its own.
add16: Any = intrinsic(_add16)

#: ``prefetch(data, at)``: has the processor fetch that number of the array from memory, and goes on without it.
prefetch: Any = intrinsic(_prefetch)

#: ``high64(a, b)``: the upper half of the product of two uint64.
high64: Any = intrinsic(_high64)

#: ``ones(word)``: the bits that are set in a uint64.
ones: Any = intrinsic(_ones)

#: ``trailing_zeros(word)``: the zero bits of a uint64 below its lowest one, 64 if it has none.
trailing_zeros: Any = intrinsic(_trailing_zeros)

#: ``between16(data, at, fold, first, last)``: bit k of a uint64 says whether the byte ``at + k`` of the uint8 array,
#: the bits ``fold`` set in it, is from ``first`` to ``last``, for the 16 bytes from ``at`` on, all inside the array.
between16: Any = intrinsic(_between(16))

#: ``between32``: the same of 32 bytes.
between32: Any = intrinsic(_between(32))


def text_data(data: np.ndarray) -> np.ndarray:
    """``data`` as the kernels take texts: read-only whatever it was, for the reason that ``frozen`` has."""
    view = data.view()
    view.flags.writeable = False
    return view

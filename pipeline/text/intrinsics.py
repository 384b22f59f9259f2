"""What ``pipeline/text/kernels.py`` names and explains: the signature of each, and what is written for it."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array


@intrinsic
def borrow(_context, array):
    def build(context, builder, signature, arguments):
        value = context.make_array(signature.args[0])(context, builder, arguments[0])
        value.meminfo = context.get_constant_null(types.MemInfoPointer(array.dtype))
        value.parent = context.get_constant_null(types.pyobject)
        return value._getvalue()

    return array(array), build


@intrinsic
def frozen(_context, array):
    def build(_context, _builder, _signature, arguments):
        return arguments[0]

    return array.copy(readonly=True)(array), build


@intrinsic
def words_at(_context, _address, _count):
    kind = types.Array(types.uint64, 1, "C", readonly=True)

    def build(context, builder, _signature, arguments):
        array = context.make_array(kind)(context, builder)
        size = context.get_constant(types.intp, 8)
        data = builder.inttoptr(arguments[0], array.data.type)
        populate_array(array, data=data, shape=[arguments[1]], strides=[size], itemsize=size, meminfo=None)
        return array._getvalue()

    return kind(types.int64, types.int64), build


@intrinsic
def load64(_context, data, at):
    def build(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), ir.IntType(64).as_pointer())
        return builder.load(place, align=1)

    return types.uint64(data, at), build


@intrinsic
def load32(_context, data, at):
    def build(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), ir.IntType(32).as_pointer())
        return builder.load(place, align=1)

    return types.uint32(data, at), build


@intrinsic
def load_float(_context, data, at):
    def build(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), ir.FloatType().as_pointer())
        return builder.load(place, align=1)

    return types.float32(data, at), build


@intrinsic
def prefetch(_context, array, at):
    def build(context, builder, signature, arguments):
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.bitcast(builder.gep(view.data, [arguments[1]]), ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind)
        builder.call(function, [place, word(0), word(3), word(1)])  # to read, into every cache, data
        return context.get_dummy_value()

    return types.void(array, at), build


@intrinsic
def high64(_context, _a, _b):
    def build(_context, builder, _signature, arguments):
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
        return builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), build


@intrinsic
def ones(_context, word):
    def build(_context, builder, _signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(word), build


@intrinsic
def add16(_context, into, at, data, byte):
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


@intrinsic
def trailing_zeros(_context, word):
    def build(_context, builder, _signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(word), build


@intrinsic
def leading_zeros(_context, word):
    def build(_context, builder, _signature, arguments):
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

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


@intrinsic
def copy16(_context, out, at, data, start, fold):
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


@intrinsic
def lower16(_context, out, at, data, start):
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


between16 = intrinsic(_between(16))
between32 = intrinsic(_between(32))
between64 = intrinsic(_between(64))


@intrinsic
def equal8(_context, data, at, _word):
    def build(context, builder, signature, arguments):
        several = ir.VectorType(ir.IntType(32), 8)
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), several.as_pointer())
        lane = builder.insert_element(ir.Constant(several, None), arguments[2], ir.IntType(32)(0))
        lanes = builder.shuffle_vector(lane, lane, ir.Constant(several, [0] * 8))
        same = builder.icmp_unsigned("==", builder.load(place, align=4), lanes)
        return builder.zext(builder.bitcast(same, ir.IntType(8)), ir.IntType(64))

    return types.uint64(data, at, types.uint32), build

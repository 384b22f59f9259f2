"""Conditions over signals, as a recipe writes them: ``word_count < 80 and (perplexity > 900 or domain == "forum")``.

The syntax is Python's, read by its own parser and never run: every node of the tree is one of those below, or the
expression is refused. What it may hold: names of signals, numbers, texts; ``and or not``; ``< <= > >= == !=`` (chained,
too), ``in`` and ``not in`` a list of constants; ``"shop" in url``; ``is None``; ``+ - * /``; ``abs log min max``.

Nulls are unknown, as in SQL: what is computed from one is null, ``and`` and ``or`` answer where the other side decides
alone, and a condition that comes to null does not hold. So does a division by zero.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import MillError

Kind = Literal["number", "text", "truth"]

LONGEST = 2000
DEEPEST = 50
_COMPARISONS: dict[type, Any] = {
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
}
_ARITHMETIC: dict[type, Any] = {ast.Add: pc.add, ast.Sub: pc.subtract, ast.Mult: pc.multiply, ast.Div: pc.divide}
_FUNCTIONS: dict[str, tuple[Any, range]] = {
    "abs": (pc.abs, range(1, 2)),
    "log": (lambda value: pc.ln(_where(pc.greater(value, 0.0), value)), range(1, 2)),
    "min": (lambda *values: pc.min_element_wise(*values, skip_nulls=False), range(2, 10)),
    "max": (lambda *values: pc.max_element_wise(*values, skip_nulls=False), range(2, 10)),
}
_KNOWN = "`and or not`, comparisons, `in [...]`, `is None`, `+ - * /`, abs, log, min, max"


class WrongExpression(MillError):
    """The message says what is wrong, and what to write instead."""


@dataclass(frozen=True)
class Limit:
    """A condition that is one comparison: it holds where ``signal`` is below ``minimum`` or above ``maximum``."""

    signal: str
    minimum: float | None = None
    maximum: float | None = None


_NODES = (ast.Name, ast.Load, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp, ast.Compare)
_NODES += (ast.In, ast.NotIn, ast.Is, ast.IsNot, ast.List, ast.Tuple, ast.Set, *_COMPARISONS, *_ARITHMETIC)


def _allowed(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=value):
            return value is None or type(value) in (int, float, str)
        case ast.Call(func=ast.Name(id=name), args=_, keywords=[]):
            return name in _FUNCTIONS
    return isinstance(node, _NODES)


def parse(text: str) -> ast.expr:
    """The tree of ``text``; raises WrongExpression unless it is a condition made of what may stand in one."""
    if len(text) > LONGEST:
        raise WrongExpression(f"an expression of {len(text)} characters; the most is {LONGEST}: make it two rules")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise WrongExpression(f"not an expression ({said}); write a condition such as `word_count < 80`") from error
    level: list[ast.AST] = [tree]
    for _ in range(DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if level:
        raise WrongExpression(f"nested more than {DEEPEST} deep: make it two rules")
    for node in ast.walk(tree):
        if not _allowed(node):
            said = ast.unparse(node) if isinstance(node, ast.expr) else text.strip()
            raise WrongExpression(f"`{said}` is not allowed in an expression, which may hold {_KNOWN}")
    return tree


def canonical(tree: ast.expr) -> str:
    """The expression, written one way however it was spaced."""
    return ast.unparse(tree)


def names(tree: ast.expr) -> list[str]:
    """The signals that ``tree`` reads, in their order."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    used = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called]
    return list(dict.fromkeys(used))


def check(tree: ast.expr, signals: Mapping[str, pa.DataType]) -> None:
    """Raises WrongExpression if ``tree`` names a signal that is not among ``signals``, or mixes kinds of values."""
    empty = {name: _plain(pa.array([], kind)) for name, kind in signals.items() if name in names(tree) and _kind(kind)}
    for name in names(tree):
        if name not in signals:
            near = difflib.get_close_matches(name, signals, n=3)
            remedy = f"did you mean {', '.join(near)}?" if near else f"there are: {', '.join(sorted(signals))}"
            raise WrongExpression(f"no signal {name!r} is measured before this rule; {remedy}")
        if name not in empty:
            raise WrongExpression(f"{name}: a {signals[name]} cannot be compared; use a number or a text")
    if not names(tree):
        raise WrongExpression(f"`{canonical(tree)}` names no signal; there are: {', '.join(sorted(signals))}")
    if _kind(_value(tree, empty).type) != "truth":
        raise WrongExpression(f"`{ast.unparse(tree)}` is no condition; compare it with something")


def holds(tree: ast.expr, columns: Mapping[str, pa.Array]) -> pa.Array:
    """Bool: where the checked condition ``tree`` holds; null where it is unknown."""
    return _value(tree, {name: _plain(columns[name]) for name in names(tree)})


def number(text: str, columns: Mapping[str, pa.Array]) -> pa.Array:
    """float64: the values of an arithmetic expression, such as the signal of a ``Limit``."""
    tree = parse(text)
    return _value(tree, {name: _plain(columns[name]) for name in names(tree)})


def limit(tree: ast.expr) -> Limit | None:
    """``tree`` as a limit on a number, if it is ``x < constant`` or ``x > constant``, or the same from the other side.

    ``<=`` and ``>=`` are not: a ledger's rules keep a value that equals the threshold.
    """
    if not isinstance(tree, ast.Compare) or len(tree.ops) != 1 or type(tree.ops[0]) not in (ast.Lt, ast.Gt):
        return None
    left, right = tree.left, tree.comparators[0]
    below = isinstance(tree.ops[0], ast.Lt)
    if not names(left):
        left, right, below = right, left, not below
    if names(right) or not names(left):
        return None
    values = _value(right, {})
    if _kind(values.type) != "number" or not values.is_valid:
        return None
    bound = values.as_py()
    return Limit(ast.unparse(left), minimum=bound) if below else Limit(ast.unparse(left), maximum=bound)


def _kind(kind: pa.DataType) -> Kind | None:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_boolean(kind):
        return "truth"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    return "text" if pa.types.is_string(kind) else None


def _plain(values: pa.Array) -> pa.Array:
    """Numbers as float64, texts as strings."""
    return values.cast({"number": pa.float64(), "text": pa.string(), "truth": pa.bool_()}[_kind(values.type)])  # type: ignore[index]


def _where(condition: Any, values: Any) -> Any:
    """``values``, null where not ``condition``."""
    return pc.if_else(condition, values, pa.scalar(None, values.type))


def _value(node: ast.expr, columns: Mapping[str, pa.Array]) -> Any:
    """An array as long as the columns, or a scalar for what names no signal."""
    match node:
        case ast.Name(id=name):
            return columns[name]
        case ast.Constant(value=int() | float() as value):
            return pa.scalar(float(str(value)), pa.float64())  # an integer too large for a float is infinite
        case ast.Constant(value=str() as value):
            return pa.scalar(value, pa.string())
        case ast.BoolOp(op=op, values=values):
            join = pc.and_kleene if isinstance(op, ast.And) else pc.or_kleene
            return reduce(join, [_of_kind(value, columns, "truth") for value in values])
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return pc.invert(_of_kind(operand, columns, "truth"))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return pc.negate(_of_kind(operand, columns, "number"))
        case ast.BinOp(left=left, op=op, right=right):
            one, other = (_of_kind(side, columns, "number") for side in (left, right))
            if isinstance(op, ast.Div):
                other = _where(pc.not_equal(other, 0.0), other)
            return _ARITHMETIC[type(op)](one, other)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            function, counts = _FUNCTIONS[name]
            if len(arguments) not in counts:
                raise WrongExpression(f"`{ast.unparse(node)}`: {name} takes {counts.start} to {counts.stop - 1} values")
            return function(*[_of_kind(argument, columns, "number") for argument in arguments])
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            sides = [left, *comparators]
            pairs = zip(sides, ops, sides[1:], strict=False)
            return reduce(pc.and_kleene, [_compared(one, op, other, columns) for one, op, other in pairs])
    raise WrongExpression(f"`{ast.unparse(node)}` is not allowed here; an expression may hold {_KNOWN}")


def _of_kind(node: ast.expr, columns: Mapping[str, pa.Array], kind: Kind) -> Any:
    value = _value(node, columns)
    if _kind(value.type) != kind:
        wanted = {"number": "a number", "text": "a text", "truth": "a condition"}
        raise WrongExpression(f"`{ast.unparse(node)}` is {wanted[_kind(value.type)]}, not {wanted[kind]}")  # type: ignore[index]
    return value


def _compared(one: ast.expr, op: ast.cmpop, other: ast.expr, columns: Mapping[str, pa.Array]) -> Any:
    if isinstance(op, ast.Is | ast.IsNot) and isinstance(other, ast.Constant) and other.value is None:
        absent = pc.is_null(_value(one, columns))
        return absent if isinstance(op, ast.Is) else pc.invert(absent)
    left = _value(one, columns)
    kind = _kind(left.type)
    assert kind is not None
    if isinstance(op, ast.In | ast.NotIn):
        result = _member(one, left, kind, other, columns)
        return result if isinstance(op, ast.In) else pc.invert(result)
    if isinstance(op, ast.Is | ast.IsNot):
        raise WrongExpression(f"`{ast.unparse(other)}` is not allowed after `is`, only `None`")
    if kind != "number" and not isinstance(op, ast.Eq | ast.NotEq):
        raise WrongExpression(f"`{ast.unparse(ast.Compare(one, [op], [other]))}`: only numbers have an order")
    return _COMPARISONS[type(op)](left, _of_kind(other, columns, kind))


def _member(one: ast.expr, left: Any, kind: Kind, other: ast.expr, columns: Mapping[str, pa.Array]) -> Any:
    if isinstance(other, ast.List | ast.Tuple | ast.Set):
        if any(names(entry) for entry in other.elts) or not other.elts:
            raise WrongExpression(f"`{ast.unparse(other)}`: a list here holds numbers or texts, at least one")
        members = [_of_kind(entry, {}, kind).as_py() for entry in other.elts]
        return _where(pc.is_valid(left), pc.is_in(left, pa.array(members)))
    if not isinstance(one, ast.Constant) or kind != "text":
        raise WrongExpression(f"`{ast.unparse(other)}`: after `in` stands a list, or a text signal after a text")
    return pc.match_substring(_of_kind(other, columns, "text"), left.as_py())

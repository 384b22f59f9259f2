"""YAML as recipes use it: values as they are written, every mistake named by its line.

Beside YAML 1.1, which PyYAML reads, a recipe is stricter and plainer. A key occurs once. Only ``true`` and ``false``
are truth values, so that ``no`` is Norwegian; a number is decimal, so that ``010`` is ten; a date is a text; all this
as YAML 1.2 has it. Anchors are refused, for a few lines of them expand without bound.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from pipeline import MillError


class WrongRecipe(MillError):
    """A recipe that cannot be built; the message lists every mistake with line, field and remedy."""


class Misfit(MillError):
    """A value of one section that does not fit another; ``field`` leads to it from where the check was made."""

    def __init__(self, message: str, *field: str | int):
        super().__init__(message)
        self.field = field


#: Levels of nesting; a recipe needs a dozen.
DEEPEST = 50

#: A character beyond the first 65,536, as JSON writes it: two escapes, which YAML reads as two characters.
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
#: Halves of such a pair; those that Python makes of a path's bytes that are no UTF-8 are none.
_HALF = re.compile("[\ud800-\udc7f\udd00-\udfff]")


class _Mistake(yaml.MarkedYAMLError):
    """What is refused here though it is YAML."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the rules of this module."""

    def __init__(self, text: str):
        super().__init__(text)
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise _mistake(f"YAML aliases (*{event.anchor}) are not allowed", event.start_mark)
        self.depth += 1
        if self.depth > DEEPEST:
            raise _mistake(f"nested more than {DEEPEST} levels deep", self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if not isinstance(value, str):
            return value
        value = _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), value)
        if half := _HALF.search(value):
            raise _mistake(f"\\u{ord(half[0]):04x} is half of a character: give both halves", node.start_mark)
        return value

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # such as a date of no calendar
            if isinstance(error, MillError):
                raise
            raise _mistake(f"{str(node.value)[:20]!r} cannot be read ({error})", node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                continue
            name = self.construct_object(key, deep=True)
            if name in lines:
                raise _mistake(f"`{name}` is here twice, first in line {lines[name]}; keep one", key.start_mark)
            lines[name] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in ("bool", "int", "timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(?:true|True|TRUE|false|False|FALSE)$"), [*"tTfF"])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+$"), [*"-+0123456789"])
_Loader.add_implicit_resolver(  # PyYAML wants a point and a sign in it, which YAML 1.2 does not
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)[eE][-+]?[0-9]+$"), [*"-+.0123456789"]
)


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> int:
    value = loader.construct_scalar(node)
    if len(value) > 30:
        raise _mistake(f"a whole number of {len(value)} digits is too long", node.start_mark)
    return int(value)


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


def _mistake(what: str, mark: yaml.Mark) -> _Mistake:
    return _Mistake(problem=what, problem_mark=mark)


def read_file(path: Path) -> str:
    """The text of the YAML file ``path``. Raises WrongRecipe if it is not UTF-8."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise WrongRecipe(
            f"{path}, line {line}: not UTF-8 (byte 0x{data[error.start]:02x}); save the file as UTF-8"
        ) from error


def read(text: str, name: str) -> tuple[yaml.Node | None, Any]:
    """The tree of a YAML text, for lines, and its values. ``name`` stands for the file in messages, "" for none.

    Raises WrongRecipe, with the line, for a text that is not valid.
    """
    place = f"{name}, line" if name else "line"
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return node, None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = error.problem if isinstance(error, _Mistake) else f"not valid YAML: {error.problem}"
        raise WrongRecipe(f"{place} {line}: {problem}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        raise WrongRecipe(f"{place} {line}: the control character U+{int(error.character):04X}: remove it") from error


class Config(BaseModel):
    """Base of every part of a recipe: unknown fields are refused, values do not change after checking."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

"""What imports what, and which section is read where, can be seen in the lines: no name is built for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("corpusmill", "flows", "pipeline", "training")
IMPORTING = {"import_module", "__import__"}


def built_names(source: str) -> Iterator[tuple[int, str]]:
    """Calls, with their lines, that import a module or read a recipe's section by a name made while running.

    A name that a table of the module holds (``_HOMES[name]``) is written down there.
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=func, args=[module, *_]) if ast.unparse(func).rpartition(".")[2] in IMPORTING:
                if not isinstance(module, ast.Constant | ast.Subscript):
                    yield node.lineno, ast.unparse(node)
            case ast.Call(func=ast.Name(id="getattr"), args=[owner, name, *_]):
                if ast.unparse(owner).rpartition(".")[2] == "recipe" and not isinstance(name, ast.Constant):
                    yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize(
    ("line", "is_built"),
    [
        ("importlib.import_module(f'pipeline.stages.{name}')", True),
        ("import_module('pipeline.stages.' + name)", True),
        ("__import__(name)", True),
        ("import_module('peft')", False),
        ("import_module(_HOMES[name])", False),
        ("getattr(self.build.recipe, name)", True),
        ("getattr(recipe, name, None)", True),
        ("getattr(recipe, 'model_extra')", False),
        ("getattr(recipe.section(name), bound)", False),
    ],
)
def test_a_built_name_is_seen(line, is_built):
    assert bool(list(built_names(line))) == is_built


def test_no_name_of_a_module_or_of_a_recipes_section_is_built():
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(modules) > 300
    assert [
        f"{path.relative_to(ROOT)}:{line}: {call}"
        for path in sorted(modules)
        if any(word in (source := path.read_text("utf-8")) for word in (*IMPORTING, "getattr"))
        for line, call in built_names(source)
    ] == []

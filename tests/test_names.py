"""Names say what a thing is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "corpusmill", "deploy", "docs", "flows", "pipeline", "training")
#: Participles and adverbs, which say where a thing was or what happened to it.
NO_NOUNS = {"found", "gone", "held", "there", "told"}


def given(source: str) -> Iterator[tuple[int, str]]:
    """The names that a module gives to variables, parameters, attributes and functions, with their lines."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name


def test_every_kind_of_name_is_seen():
    source = """
def f(a, *b, c=1, **d):
    (e, [h, *i]), k.m = n
    p: int = 0
    p += (q := 1)
    with r as s: t = [u for u in v]
    async for w in x: y = lambda z: z
"""
    assert {name for _, name in given(source)} == set("fabcdehimpqstuwyz")


def test_names_are_nouns():
    modules = {path: path.read_text("utf-8") for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert len(modules) > 300
    anywhere = re.compile(rf"\b({'|'.join(NO_NOUNS)})\b")
    assert [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path, source in sorted(modules.items())
        if anywhere.search(source)  # the others need no parsing
        for line, name in given(source)
        if name in NO_NOUNS
    ] == []

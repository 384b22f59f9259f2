"""What a user reads is plain English: the strings of the program, the help of its commands, its documents."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperGroup

from flows import cli

ROOT = Path(__file__).parents[3]
#: Words that a reader stumbles over, with what says the same.
STILTED = re.compile(r"\b(shall|anew|reckon\w*|told|so many|so much|upon|beware)\b", re.IGNORECASE)


#: Files beside the modules and the documents, which a user reads as they are.
OTHERS = ("*.yaml", "data/recipes/*", "deploy/*", ".github/**/*.yml", "pipeline/report/*.html", "pipeline/report/*.js")


def strings(path: Path, docstrings: bool) -> Iterator[tuple[int, str]]:
    """The strings of a module with their lines, with or without its docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif docstrings:
            continue
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value.value = ""  # walked after its statement


def helps() -> list[tuple[str, str]]:
    """The commands of `mill`, those within a command too, with what their help says they do."""

    def within(group: TyperGroup, before: str) -> Iterator[tuple[str, str]]:
        for name, command in group.commands.items():
            yield before + name, command.help or ""
            if isinstance(command, TyperGroup):
                yield from within(command, f"{before}{name} ")

    group = typer.main.get_command(cli.app)
    assert isinstance(group, TyperGroup)
    return list(within(group, ""))


def test_no_string_document_or_page_is_stilted():
    texts = [
        (f"{path.relative_to(ROOT)}:{line}", text)
        for folder in ("benchmarks", "corpusmill", "flows", "pipeline", "training")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in strings(path, docstrings=folder == "corpusmill")  # docs/api.md shows these
    ]
    others = [path for pattern in OTHERS for path in ROOT.glob(pattern)]
    assert len(others) > 15
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *others):
        lines = path.read_text("utf-8").splitlines()
        texts += [(f"{path.relative_to(ROOT)}:{number}", line) for number, line in enumerate(lines, 1)]
    texts += [(f"mill {name}", text) for name, text in helps()]
    assert len(texts) > 1000
    assert [f"{place}: {found[0]!r} in {text!r}" for place, text in texts if (found := STILTED.search(text))] == []


def test_no_command_begins_with_say():
    assert len(helps()) > 20
    assert [(name, text) for name, text in helps() if text.startswith(("Say ", "Tell "))] == []

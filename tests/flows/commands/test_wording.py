"""What a user reads is plain English: the strings of the program, the help of its commands, its documents."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
#: Words that a reader stumbles over, with what says the same.
STILTED = re.compile(r"\b(shall|anew|reckon\w*|told|so many|so much|upon|beware)\b", re.IGNORECASE)


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """The strings of a module with their lines; of docstrings those of commands, which are their help."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value.value = ""  # walked after its statement
        elif isinstance(node, ast.FunctionDef) and any(
            "app.command" in ast.unparse(one) for one in node.decorator_list
        ):
            yield node.lineno, ast.get_docstring(node) or ""


def test_no_string_document_or_page_is_stilted():
    texts = [
        (f"{path.relative_to(ROOT)}:{line}", text)
        for folder in ("pipeline", "training", "flows")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in strings(path)
    ]
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("pipeline/report/*.html")):
        lines = path.read_text("utf-8").splitlines()
        texts += [(f"{path.relative_to(ROOT)}:{number}", line) for number, line in enumerate(lines, 1)]
    assert len(texts) > 1000
    assert [f"{place}: {found[0]!r} in {text!r}" for place, text in texts if (found := STILTED.search(text))] == []


def test_no_command_begins_with_say():
    helps = [text for _, text in strings(ROOT / "flows" / "cli.py")]
    assert [text for text in helps if text.startswith(("Say ", "Tell "))] == []

"""Lines of parallel text: the same texts in each group, by which parity-aware BPE finds the group written worst."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline import MillError
from pipeline.store import files


def read(path: str, names: Iterable[str] = ()) -> dict[str, list[str]]:
    """The texts of each group of a UTF-8 file of tab-separated group and text, by its name.

    Raises MillError, with the line, where the file is no such file, where one of ``names`` has no line in it, and where
    two groups have unequal numbers of lines, so that they cannot be the same texts.
    """
    lines: dict[str, list[str]] = {}
    with files.opened(path) as handle:
        for number, raw in enumerate(handle, 1):
            try:
                name, tab, text = raw.decode().rstrip("\r\n").partition("\t")
            except UnicodeDecodeError:
                raise MillError(f"{path}, line {number}: not UTF-8; convert the file") from None
            if tab:
                lines.setdefault(name, []).append(text)
            elif name.strip():
                raise MillError(f"{path}, line {number}: no tab; a line is a group, a tab and a text")
    if lacking := [name for name in names if name not in lines]:
        raise MillError(
            f"{path}: no line of {', '.join(sorted(lacking))}, which the text of the tokenizer holds; add them, or"
            " leave `parallel` out"
        )
    if len({len(texts) for texts in lines.values()}) > 1:
        counted = ", ".join(f"{name} {len(texts):,}" for name, texts in sorted(lines.items()))
        raise MillError(f"{path}: the groups must have the same texts, and have unequal numbers of lines: {counted}")
    return lines

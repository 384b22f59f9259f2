"""Line-parallel files: ``train.en`` and ``train.de``, or ``source.txt`` and ``target.txt`` in a folder.

What stands in the same line of each belongs together. A file's ending (in a folder its name) is the name of its column.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pipeline.sources.base import File
from pipeline.sources.reading import COMPRESSED, open_file, read_lines
from pipeline.store import files
from training.labelled.rows import WrongRows


def columns(stem: str) -> dict[str, File]:
    """The files that ``stem`` stands for, by the names of their columns; none where there are not two or more."""
    path = files.local(stem)
    if path.is_dir():
        candidates = [(_plain(file).removesuffix(".txt"), file) for file in path.iterdir()]
    else:
        begin = f"{path.name}."
        siblings = path.parent.iterdir() if path.parent.is_dir() else ()
        candidates = [(_plain(file).removeprefix(begin), file) for file in siblings if file.name.startswith(begin)]
    named: dict[str, File] = {}
    for name, file in sorted(candidates):
        if not file.is_file() or not name or file.name.startswith("."):
            continue
        if name in named:
            raise WrongRows(f"{file} and {named[name].path} are both the column {name!r}; keep one of them")
        named[name] = File(str(file), file.name, file.stat().st_size)
    return named if len(named) > 1 else {}


def _plain(file: Path) -> str:
    name = file.name
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return name


def read(stem: str, most_bytes: int, max_ratio: float) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines with their numbers. Raises WrongRows for files of unequal length, and lines that are no UTF-8."""
    given = columns(stem)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(open_file(file, max_ratio)) for file in given.values()]
        numbered = [_lines(stream, file, most_bytes) for stream, file in zip(streams, given.values(), strict=True)]
        for number, row in enumerate(zip_longest(*numbered), 1):
            if None in row:
                ended = [file.path for file, line in zip(given.values(), row, strict=True) if line is None]
                longer = [file.path for file, line in zip(given.values(), row, strict=True) if line is not None]
                raise WrongRows(
                    f"{ended[0]}: ends after {number - 1:,} lines, and {longer[0]} goes on; lines of one number belong"
                    " together, so give both as many"
                )
            yield number, dict(zip(given, row, strict=True))


def _lines(stream: Any, file: File, most_bytes: int) -> Iterator[str]:
    at = 0
    for line in read_lines(stream, most_bytes):
        if line.damage is not None:
            raise line.damage
        for part in line.data.split(b"\n"):  # blank lines come together
            at += 1
            try:
                yield part.decode("utf-8-sig" if at == 1 else "utf-8").rstrip("\r")
            except UnicodeDecodeError as error:
                raise WrongRows(f"{file.path}:{at}: invalid UTF-8; write the file in UTF-8") from error

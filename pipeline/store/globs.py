"""Globs on mounted disks that follow symbolic links, and an account of what they leave out.

``*``, ``?``, ``[ab]`` and ``[!ab]`` stand for parts of one name, ``**`` for any number of folders. As in a shell, a
name that begins with a dot is matched only where the pattern has the dot, too. ``**`` enters each folder once, by
whatever links it is reached, so that no loop is endless; folders come before links to them.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_MAGIC = re.compile(r"[*?\[]")
_ANY_FOLDERS = "**"


@dataclass
class Matches:
    """Paths that a pattern matches, by what they are, and what it might have matched."""

    files: dict[str, int] = field(default_factory=dict)  # with their sizes in bytes
    folders: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)  # files with a part that begins with a dot
    special: set[str] = field(default_factory=set)  # devices, pipes, sockets
    dangling: dict[str, str] = field(default_factory=dict)  # links, with the targets that are not there
    unlisted: dict[str, str] = field(default_factory=dict)  # folders, with the reason
    repeated: set[str] = field(default_factory=set)  # linked folders that ``**`` had entered already

    def update(self, other: Matches) -> None:
        for name in vars(self):
            getattr(self, name).update(getattr(other, name))
        self.hidden.difference_update(self.files)


@dataclass(frozen=True)
class _Place:
    """A path that the first ``depth`` parts of the pattern match."""

    path: str
    depth: int
    hidden: bool = False
    linked: bool = False


def is_pattern(path: str) -> bool:
    return _MAGIC.search(path) is not None


def escaped(pattern: str) -> str:
    """``pattern`` with its brackets taken as they are written."""
    return pattern.replace("[", "[[]")


def match(pattern: str) -> Matches:
    """What the absolute ``pattern`` matches."""
    parts = pattern.strip("/").split("/")
    matches = Matches()
    entered: set[tuple[int, int, int]] = set()
    plain, linked, hidden = queues = deque([_Place("", 0)]), deque[_Place](), deque[_Place]()
    while queue := next(filter(None, queues), None):
        for place in _beyond(queue.popleft(), parts, entered, matches):
            (hidden if place.hidden else linked if place.linked else plain).append(place)
    matches.hidden.difference_update(matches.files)
    matches.repeated.difference_update(matches.unlisted)
    return matches


def _beyond(place: _Place, parts: list[str], entered: set[tuple[int, int, int]], result: Matches) -> Iterator[_Place]:
    """Places one part further; a place at the end of the pattern is noted in ``result``."""
    path = place.path or "/"
    try:
        info = Path(path).stat()
    except OSError as error:
        if Path(path).is_symlink():
            result.dangling[path] = str(Path(path).readlink())
        elif not isinstance(error, FileNotFoundError | NotADirectoryError):
            result.unlisted[path] = error.strerror or str(error)
        return
    open_end = place.depth < len(parts) and parts[place.depth] == _ANY_FOLDERS
    if place.depth == len(parts) or (open_end and place.depth == len(parts) - 1):
        _note(path, info, place.hidden, result)
    if place.depth == len(parts) or not stat.S_ISDIR(info.st_mode):
        return
    part = parts[place.depth]
    if not is_pattern(part):
        yield _Place(f"{place.path}/{part}", place.depth + 1, place.hidden, place.linked)
        return
    if open_end:
        key = (place.depth, info.st_dev, info.st_ino)
        if key in entered:
            result.repeated.add(path)
            return
        entered.add(key)
        if place.depth + 1 < len(parts):
            yield _Place(place.path, place.depth + 1, place.hidden, place.linked)
    try:
        with os.scandir(path) as listing:
            entries = sorted(
                (entry.name, entry.is_symlink(), entry.is_file(follow_symlinks=False)) for entry in listing
            )
    except OSError as error:
        result.unlisted[path] = error.strerror or str(error)
        return
    matches = re.compile(fnmatch.translate(part.replace("[^", "[!"))).match
    for name, is_link, is_file in entries:
        inner = f"{place.path}/{name}"
        is_hidden = place.hidden or (name.startswith(".") and not part.startswith("."))
        if open_end:
            if not is_file or place.depth == len(parts) - 1:
                yield _Place(inner, place.depth, is_hidden, place.linked or is_link)
        elif matches(name):
            yield _Place(inner, place.depth + 1, is_hidden, place.linked or is_link)


def _note(path: str, info: os.stat_result, hidden: bool, matches: Matches) -> None:
    if stat.S_ISDIR(info.st_mode):
        matches.folders.add(path)
    elif not stat.S_ISREG(info.st_mode):
        matches.special.add(path)
    elif hidden:
        matches.hidden.add(path)
    else:
        matches.files[path] = info.st_size

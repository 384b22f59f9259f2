"""Checksums of outputs, so that damage on disk is seen when a file is used, not in the model that it went into.

Beside ``folder/name`` stands ``folder/.checksums/name.xxh3``. Its lines are XXH3-128 and bytes: first of the content
that is about to be renamed to ``name``, then of those before it. It is written before that rename; so whenever a
process is killed, the file is one of those it states.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import xxhash

FOLDER = ".checksums"
#: Files that people edit have no checksum.
EDITED = frozenset({"README.md"})
#: Files that no run makes again.
LASTING = frozenset({"forgotten.json"})
SUFFIX = ".xxh3"
#: How many earlier contents are stated: as often a write may be killed just before its rename, each with new content.
_KEPT = 8
#: Path to what ``stat`` said of it when it was found whole.
_whole: dict[Path, tuple[int, int, int]] = {}


def sidecar(path: Path) -> Path:
    return path.parent / FOLDER / f"{path.name}{SUFFIX}"


def note(path: Path, content: Path) -> None:
    """State that ``path`` is about to hold what the file ``content`` holds."""
    if path.name not in EDITED:
        _state(path, [digest(content)])


def note_as(path: Path, source: Path, content: Path) -> None:
    """State that ``path`` is about to hold ``content``, another name of ``source``, as that was written.

    So what has been damaged since then is seen under the new name, too.
    """
    stated = _stated(source)
    _state(path, [digest(content)] if stated is None else stated)


def _state(path: Path, new: list[str]) -> None:
    """Put the lines ``new`` before those that the checksums of ``path`` hold."""
    lines = [*new, *(line for line in _stated(path) or [] if line not in new)]
    copy(path, lines[: _KEPT + len(new) - 1])


def copy(path: Path, lines: list[str]) -> None:
    """Make ``lines`` the checksums of ``path``."""
    target = sidecar(path)
    target.parent.mkdir(exist_ok=True)
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with aside.open("w", encoding="ascii") as handle:
            handle.writelines(f"{line}\n" for line in lines)
            handle.flush()
            os.fsync(handle.fileno())
        aside.replace(target)
    except OSError as error:
        error.filename = error.filename or str(path)  # the system does not say where the disk was full
        raise
    finally:
        aside.unlink(missing_ok=True)


def is_whole(path: Path) -> bool:
    """Whether ``path`` is as it was written, or not stated, or not there. A link stands for the file it leads to."""
    path = path.resolve()
    try:
        status = path.stat()
        stamp = status.st_ino, status.st_size, status.st_mtime_ns
        if _whole.get(path) == stamp:
            return True
        stated: list[str] | None = None
        while stated != (now := _stated(path)):  # once more if it was written meanwhile
            stated = now
            if stated is None or digest(path) in stated:
                _whole[path] = stamp
                return True
    except FileNotFoundError:
        return True
    return stated is None


def found_whole(path: Path) -> None:
    """Note that ``path`` has just been compared with its checksums."""
    path = path.resolve()
    status = path.stat()
    _whole[path] = status.st_ino, status.st_size, status.st_mtime_ns


def mark(path: Path) -> None:
    """Note that ``path`` was found damaged: no content is what it states any more."""
    with sidecar(path).open("w") as handle:
        os.fsync(handle.fileno())


def marked(root: Path) -> Iterator[Path]:
    """The files below ``root`` that were found damaged, in order."""
    return (path for path in noted(root) if not sidecar(path).stat().st_size)


def noted(root: Path) -> Iterator[Path]:
    """The files below ``root`` whose checksums are noted, there or not, in order."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name == FOLDER or not name.startswith("."))
        if Path(folder).name == FOLDER:
            yield from (Path(folder).parent / name.removesuffix(SUFFIX) for name in sorted(names) if name[0] != ".")


def unnoted(root: Path) -> Iterator[Path]:
    """The files below ``root`` that have no checksum, in order; links, and what begins with a dot, are passed over."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(folder, name) for name in sorted(names) if not name.startswith("."))
        yield from (path for path in paths if not path.is_symlink() and not sidecar(path).exists())


def sweep(root: Path) -> None:
    """Remove checksums of files below ``root`` that are not there: what needs them makes them again.

    Those of ``LASTING`` stay, so that it is seen that the file was lost.
    """
    for path in noted(root):
        if path.name not in LASTING and not path.exists():
            sidecar(path).unlink()


def _stated(path: Path) -> list[str] | None:
    """What the checksums of ``path`` say; None if it has none."""
    try:
        return sidecar(path).read_text(encoding="ascii", errors="replace").split("\n")[:-1]
    except FileNotFoundError:
        return None


def digest(path: Path) -> str:
    """The line that states what the file ``path`` holds."""
    content, size = xxhash.xxh3_128(), 0
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            content.update(block)
            size += len(block)
    return f"{content.hexdigest()} {size}"

"""Checksums of outputs, so that damage on disk is seen when a file is used, not in the model that it went into.

Beside ``folder/name`` stands ``folder/.checksums/name.xxh3``. Its lines are XXH3-128 and bytes: first of the content
that is about to be renamed to ``name``, then of those before it. It is written before that rename; so whenever a
process is killed, the file is one of those it states.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
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
#: Path to what ``stat`` said of it, or of the file that a link leads to, when that was found whole.
_whole: dict[str, tuple[int, ...]] = {}


def sidecar(path: Path) -> Path:
    return Path(_sidecar(str(path)))


def _sidecar(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, FOLDER, f"{name}{SUFFIX}")  # noqa: PTH118 - a Path takes ten times as long


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


def is_whole(path: Path | str) -> bool:
    """Whether ``path`` is as it was written, or not stated, or not there. A link stands for the file it leads to."""
    name = str(path)
    try:
        return _is_known(name) or _is_stated(name, lambda: digest(name))
    except FileNotFoundError:
        return True


def read(path: str) -> tuple[bytes, bool]:
    """What ``path`` holds, and whether that is as it was written, or not stated; it is read once for both.

    Raises FileNotFoundError.
    """
    content: list[bytes] = []

    def line() -> str:
        content[:] = [_content(path)]
        return f"{xxhash.xxh3_128(content[0]).hexdigest()} {len(content[0])}"

    whole = _is_known(path) or _is_stated(path, line)
    return content[0] if content else _content(path), whole


def _content(path: str) -> bytes:
    with open(path, "rb", buffering=0) as handle:  # noqa: PTH123 - read for each file of a build
        return handle.read()


def _is_known(path: str) -> bool:
    """Whether ``path`` was found whole and has not changed since."""
    return _whole.get(path) == _stamp(path)


def _is_stated(path: str, line: Callable[[], str]) -> bool:
    """Whether ``line``, which states what ``path`` holds, is one of its checksums, or it has none."""
    stamp, target = _stamp(path), os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114
    stated: list[str] | None = None
    while stated != (now := _stated(target)):  # once more if it was written meanwhile
        stated = now
        if stated is None or line() in stated:
            _whole[path] = stamp
            return True
    return stated is None


def found_whole(path: Path) -> None:
    """Note that ``path`` has just been compared with its checksums."""
    _whole[str(path)] = _stamp(str(path))


def _stamp(path: str) -> tuple[int, ...]:
    status = os.stat(path)  # noqa: PTH116 - asked for each file of a build
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def mark(path: Path) -> None:
    """Note that ``path`` was found damaged: no content is what it states any more."""
    with sidecar(path).open("w") as handle:
        os.fsync(handle.fileno())


def marked(root: Path) -> Iterator[Path]:
    """The files below ``root`` that were found damaged, in order."""
    return (Path(path) for path, entry in _noted(str(root)) if not entry.stat().st_size)


def noted(root: Path) -> Iterator[Path]:
    """The files below ``root`` whose checksums are noted, there or not, in order."""
    return (Path(path) for path, _ in _noted(str(root)))


def _noted(folder: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Of each of these files its path and the entry of its checksums. What cannot be listed is passed over."""
    try:
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError:
        return
    above, _, name = folder.rpartition("/")
    for entry in entries:
        hidden, is_folder = entry.name.startswith("."), entry.is_dir(follow_symlinks=False)
        if name == FOLDER and not hidden and not is_folder:
            yield f"{above}/{entry.name.removesuffix(SUFFIX)}", entry
        if is_folder and (not hidden or entry.name == FOLDER):
            yield from _noted(entry.path)


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
    for path, entry in _noted(str(root)):
        if not os.path.exists(path) and os.path.basename(path) not in LASTING:  # noqa: PTH110, PTH119
            Path(entry.path).unlink()


def _stated(path: Path | str) -> list[str] | None:
    """What the checksums of ``path`` say; None if it has none."""
    try:
        return _content(_sidecar(str(path))).decode("ascii", "replace").split("\n")[:-1]
    except FileNotFoundError:
        return None


def digest(path: Path | str) -> str:
    """The line that states what the file ``path`` holds."""
    content, size = xxhash.xxh3_128(), 0
    with open(path, "rb") as handle:  # noqa: PTH123
        while block := handle.read(1 << 20):
            content.update(block)
            size += len(block)
    return f"{content.hexdigest()} {size}"

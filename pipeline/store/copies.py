"""The local copies of objects: where they lie, which version each holds, and which go when they take too much room."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from pipeline import MillError
from pipeline.store import checksums

#: Share of the bytes allowed that is left after files were removed.
LEFT = 0.8
#: Seconds for which a file stays after it was asked for.
GRACE = 60.0
_GIGABYTE = 10**9


def cache() -> str:
    """The folder of the local copies: CORPUSMILL_CACHE, or one in the user's cache."""
    return _resolved(os.environ.get("CORPUSMILL_CACHE") or "", os.environ.get("XDG_CACHE_HOME") or "~/.cache")


@lru_cache(maxsize=8)
def _resolved(given: str, base: str) -> str:
    return str(Path(given or Path(base, "corpusmill", "stores")).expanduser().resolve())


def limit() -> int:
    """Bytes that the local copies may take: CORPUSMILL_CACHE_GB, or half of the disk's free space at the start."""
    given = os.environ.get("CORPUSMILL_CACHE_GB")
    try:
        return int(float(given) * _GIGABYTE) if given else _half_free(cache())
    except ValueError:
        raise MillError(f"CORPUSMILL_CACHE_GB is {given!r}; set it to a number of gigabytes, such as 50") from None


@lru_cache(maxsize=8)
def _half_free(folder: str) -> int:
    place = Path(folder)
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free // 2


def note_of(local: Path) -> Path:
    """Where it is noted which version of an object ``local`` holds."""
    root = Path(cache())
    return root / ".noted" / local.relative_to(root)


def noted(local: Path) -> str | None:
    """The version of the object that ``local`` holds; None if it is not here, or not as it was put here."""
    try:
        version, *stamp = json.loads(note_of(local).read_text())
        return version if stamp == _stamp(local) else None
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return None


def _stamp(local: Path) -> list[int]:
    status = local.stat()
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def write_note(local: Path, version: str) -> None:
    """Note that ``local`` holds this version, as it is now."""
    note = note_of(local)
    note.parent.mkdir(parents=True, exist_ok=True)
    aside = note.with_name(f".{note.name}.{uuid.uuid4().hex[:8]}.partial")
    aside.write_text(json.dumps([version, *_stamp(local)]))
    aside.replace(note)


def forget(local: Path) -> None:
    """Remove the local file and what is noted of it."""
    for path in (note_of(local), checksums.sidecar(local), local):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def trim(most: int) -> int:
    """Remove the files that were asked for longest ago until the cache takes less than ``most`` bytes, if it takes
    more; returns the bytes that it takes. Only what is in a store is removed.
    """
    kept, total = [], 0
    for local, asked in _all_noted():
        with contextlib.suppress(OSError):
            size = local.stat().st_size
            kept.append((asked, size, local))
            total += size
    if total <= most:
        return total
    now = time.time()
    for asked, size, local in sorted(kept, key=lambda entry: entry[0]):
        if total <= most * LEFT or 0 <= now - asked < GRACE:  # the clock may have gone back
            break
        forget(local)
        total -= size
    return total


def _all_noted() -> Iterator[tuple[Path, float]]:
    root = Path(cache())
    notes = root / ".noted"
    for folder, _, names in os.walk(notes):
        for name in names:
            note = Path(folder, name)
            if name[:1] != "." or note.parent.name == checksums.FOLDER:
                with contextlib.suppress(OSError):
                    yield root / note.relative_to(notes), note.stat().st_mtime

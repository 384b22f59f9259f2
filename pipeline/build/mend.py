"""Damaged files of a build are set aside, so that the steps that made them make them again.

What is set aside lies beside its place under a hidden name until it has been made again: damaged is better than nothing
where the source is gone meanwhile.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.store import checksums, files

#: Files that each run writes again before it does anything else.
_FIRST = ("build.json", "recipe.json")


def marked(root: str) -> list[Path]:
    """Set aside what `mill verify` found damaged in the build in ``root``; returns where it was. Needs its lock."""
    if files.is_mirrored(root):  # there a file is found damaged when it is read
        return []
    folder = files.local(root)
    paths = [path for path in checksums.marked(folder) if path.name not in checksums.LASTING]
    paths += [path for name in _FIRST if not checksums.is_whole(path := folder / name)]
    return [unit for unit in dict.fromkeys(map(unit_of, paths)) if _set_aside(unit)]


def damaged(root: str, error: files.DamagedFile | files.LostFile) -> Path | None:
    """Set aside the file that ``error`` is about; None where no run of the build in ``root`` makes it again."""
    if error.path is None or not files.is_local(error.path):
        return None
    path = files.local_name(error.path).resolve()
    if path.name in checksums.LASTING or not path.is_relative_to(files.local_name(root).resolve()):
        return None
    unit = unit_of(path)
    return unit if _set_aside(unit) else None


def clear(units: list[Path]) -> None:
    """Delete what was set aside at ``units``: it has been made again, or nothing asks for it."""
    for unit in units:
        aside = _aside(unit)
        if aside.is_dir():
            shutil.rmtree(aside)
        else:
            aside.unlink(missing_ok=True)


def unit_of(path: Path) -> Path:
    """What is made in one piece with ``path``: a checkpoint's folder; of anything else the file."""
    return path.parent if path.parent.name.startswith("step-") else path


def _aside(unit: Path) -> Path:
    return unit.with_name(f".{unit.name}.damaged")


def _set_aside(unit: Path) -> bool:
    """Whether there was something to set aside, or a checksum of it. In an object store it is removed."""
    if files.is_mirrored(str(unit)):
        if not (files.exists(str(unit)) or files.is_noted(str(unit))):
            return False
        if unit.name.startswith("step-"):
            files.remove_folder(str(unit))
        else:
            files.remove(str(unit))
        return True
    sidecar = checksums.sidecar(unit)
    noted = sidecar.exists()
    sidecar.unlink(missing_ok=True)
    if not unit.exists():
        return noted
    clear([unit])
    unit.replace(_aside(unit))
    return True

"""Whether the files of a build are still as they were written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline import MillError
from pipeline.curation import forget_list
from pipeline.store import checksums, files


@dataclass(frozen=True)
class Verified:
    """What was found: files with a checksum and the bytes read of them, a sentence for each that is damaged or not
    there, and the files that have no checksum."""

    files: int
    bytes: int
    faults: list[str]
    unchecked: list[Path]


def verify(root: str) -> Verified:
    """Read every file of the build in ``root`` that has a checksum. Raises MillError if there is no build."""
    folder = files.local(root)
    count, size, faults = 0, 0, []
    for path in checksums.noted(folder):
        count += 1
        if not path.exists():
            faults.append(f"{path}: not there. {_remedy(path, False)}")
            continue
        size += path.stat().st_size
        if not checksums.is_whole(path):
            faults.append(f"{path}: not as it was written: damaged or changed since. {_remedy(path, True)}")
    unchecked = list(checksums.unnoted(folder))
    if not count and not (folder / "recipe.json").exists():
        raise MillError(f"{root}: no build here; give a recipe or the folder of a build, such as data/builds/demo")
    return Verified(count, size, faults, unchecked)


def _remedy(path: Path, present: bool) -> str:
    if path.name == "forgotten.json":
        return forget_list.REMEDY
    if path.parent.name.startswith("step-"):
        return "Delete the folder of this checkpoint and run the same command again."
    made = "run the command that made it again"
    return f"Delete it and {made}." if present else f"{made.capitalize()}."

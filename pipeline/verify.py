"""Whether the files of a build are still as they were written."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline import MillError
from pipeline.store import checksums, files


@dataclass(frozen=True)
class Verified:
    """How many files were read, their bytes, and a sentence for each that is damaged or not there."""

    files: int
    bytes: int
    faults: list[str]


def verify(root: str) -> Verified:
    """Read every file of the build in ``root`` whose checksum is noted. Raises MillError if there is none."""
    count, size, faults = 0, 0, []
    for path in checksums.noted(files.local(root)):
        count += 1
        if not path.exists():
            faults.append(f"{path}: not there. {_remedy(path.name, path.parent.name, False)}")
        elif not checksums.is_whole(path):
            faults.append(f"{path}: not as it was written. {_remedy(path.name, path.parent.name, True)}")
        else:
            size += path.stat().st_size
    if not count:
        raise MillError(f"{root}: no file here whose checksum is noted; give a recipe or the folder of a build")
    return Verified(count, size, faults)


def _remedy(name: str, folder: str, there: bool) -> str:
    if name == "forgotten.json":
        return "Put back a whole copy: without this list the documents on it come back."
    if folder.startswith("step-"):
        return "Delete the folder of this checkpoint and run the same command again."
    return "Delete it and run the same command again." if there else "Run the same command again."

"""Whether the files of a build are still as they were written."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipeline import MillError
from pipeline.build.machine import cores
from pipeline.curation import forget_list
from pipeline.store import checksums, files, mirror, objects


@dataclass(frozen=True)
class Verified:
    """What was found: files with a checksum and the bytes read of them, a sentence for each that is damaged or not
    there, and the files that have no checksum."""

    files: int
    bytes: int
    faults: list[str]
    unchecked: list[Path]


def verify(root: str) -> Verified:
    """Read every file of the build in ``root`` that has a checksum, in as many threads as there are cores.

    The damaged ones are marked, so that the next build makes them again, unless its folder cannot be written or lies in
    an object store. Raises MillError if there is no build.
    """
    if files.is_mirrored(files.here(root)):
        return _verify_store(files.here(root))
    folder = files.local(root)
    paths = list(checksums.noted(folder))
    if not paths and not (folder / "recipe.json").exists():
        raise MillError(f"{root}: no build here; give a recipe or the folder of a build, such as data/builds/demo")
    with ThreadPoolExecutor(cores()) as pool:
        sizes = list(pool.map(_size_if_whole, paths))
    damaged = [path for path, size in zip(paths, sizes, strict=True) if size is None and path.exists()]
    marked = _mark(folder, damaged)
    faults = []
    for path, size in zip(paths, sizes, strict=True):
        if path in marked:
            faults.append(f"{path}: not as it was written: damaged or changed since. `mill build` makes it again.")
        elif size is None:
            what = "not as it was written: damaged or changed since" if path in damaged else "not there"
            faults.append(f"{path}: {what}. {_remedy(path, path in damaged)}")
    size = sum(size or 0 for size in sizes) + sum(path.stat().st_size for path in damaged)
    return Verified(len(paths), size, faults, list(checksums.unnoted(folder)))


def _size_if_whole(path: Path) -> int | None:
    """Bytes of ``path``; None if it is damaged or not there."""
    try:
        return path.stat().st_size if checksums.is_whole(path) else None
    except FileNotFoundError:
        return None


def _mark(folder: Path, damaged: list[Path]) -> set[Path]:
    """Those of the ``damaged`` that the next build makes again."""
    if not (folder / "build.json").exists():
        return set()  # not the folder of a build but a part or a copy of one
    marked = set()
    with contextlib.suppress(OSError):
        for path in damaged:
            if path.name not in checksums.LASTING:
                checksums.mark(path)
                marked.add(path)
    return marked


def _verify_store(root: str) -> Verified:
    """The same for a build in an object store: every object is fetched, also where a copy of it is here."""
    sizes = mirror.tree(root)
    summed = {
        name: mirror.summed(name)
        for name in sorted(sizes)
        if mirror.is_sum(name) and not _is_hidden(mirror.summed(name))
    }
    present = [name for name in summed.values() if name in sizes]
    lost = [name for name in summed.values() if name not in sizes]
    with ThreadPoolExecutor(objects.PARALLEL) as pool:
        whole = list(pool.map(lambda name: mirror.is_whole(files.join(root, name)), present))
    wrong = [name for name, good in zip(present, whole, strict=True) if not good]
    address = files.url_of(root)
    faults = [f"{address}/{name}: not there. {_remedy(Path(name), False)}" for name in lost]
    faults += [
        f"{address}/{name}: not as it was written: damaged or changed since. {_remedy(Path(name), True)}"
        for name in wrong
    ]
    unchecked = sorted(sizes.keys() - set(present) - summed.keys())
    if not summed and "recipe.json" not in sizes:
        raise MillError(f"{address}: no build here; give a recipe or the address of a build")
    size = sum(sizes[name] for name in present)
    return Verified(len(summed), size, sorted(faults), [Path(root, name) for name in unchecked if not _is_hidden(name)])


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _remedy(path: Path, present: bool) -> str:
    if path.name == "forgotten.json":
        return forget_list.REMEDY
    if path.parent.name.startswith("step-"):
        return "Delete the folder of this checkpoint and run the same command again."
    made = "run the command that made it again"
    return f"Delete it and {made}." if present else f"{made.capitalize()}."

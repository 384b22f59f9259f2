"""Where numba keeps compiled kernels: a folder for each state of the sources that they are compiled from.

numba compares the file of a cached kernel with the one it was compiled from, but not the files of the kernels and
constants that it calls and uses. A kernel whose own file is unchanged would go on as it was, wrong, after an update of
another. So the folder is named by a digest of all modules with kernels and of everything that these import of ours.

``NUMBA_CACHE_DIR``, where it is set, is left as it is: whoever sets it looks after the folder.

A kernel is compiled by one process at a time; others that need it wait and load what that one made.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

_VARIABLE = "NUMBA_CACHE_DIR"
_FOLDER = "corpusmill-kernels"
_WINGS = ("pipeline", "training", "flows")

#: A folder goes when no process has started with it for so long.
_UNUSED_SECONDS = 7 * 24 * 3600

#: Imports of ours at the left margin: what a kernel names must be there when its module has been loaded.
_IMPORT = re.compile(rf"^(?:from|import) +((?:{'|'.join(_WINGS)})\b[\w.]*)(?: +import +(\([^)]*\)|.*))?", re.M)


#: The folder of the wings.
_ROOT = Path(__file__).parents[2]


def use(root: Path = _ROOT) -> None:
    """Have numba keep the kernels of the wings under ``root`` in the folder for their sources as they are now.

    Beside the sources, or in the user's cache folder where these cannot be written to, or else for the time of this
    process. Must come before numba makes the first kernel. Worker processes come to the same folder.
    """
    given = os.environ.get(_VARIABLE)
    if given and Path(given).parent.name != _FOLDER:
        return
    name = digest(root)
    if given and Path(given).name == name and Path(given).is_dir():
        return  # a parent's, of the same sources
    os.environ[_VARIABLE] = str(_folder(_places(root), name))
    if numba := sys.modules.get("numba"):
        numba.config.reload_config()  # it read the environment when it was imported


@contextlib.contextmanager
def compiling(kernel: str) -> Iterator[None]:
    """Waits while another process has ``kernel`` in such a block. Where the system has no locks nobody waits."""
    place = int.from_bytes(hashlib.blake2b(kernel.encode(), digest_size=7).digest())
    locks = _locks()
    try:
        if locks is not None:
            fcntl.lockf(locks, fcntl.LOCK_EX, 1, place)
    except OSError:
        locks = None
    try:
        yield
    finally:
        if locks is not None:
            fcntl.lockf(locks, fcntl.LOCK_UN, 1, place)


@cache
def _locks() -> int | None:
    """A file of which each byte stands for a kernel. The system lets go of what a killed process had locked."""
    folder = Path(os.environ[_VARIABLE])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / "locks", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        return None


def has_kernels() -> bool:
    """Whether some kernels are compiled already; where none are, the first run of each takes its time for that."""
    use()
    return any(Path(os.environ[_VARIABLE]).rglob("*.nbi"))


def digest(root: Path) -> str:
    """32 hexadecimal digits that name the content of every module with kernels and of the modules these depend on."""
    sources = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path.read_bytes()
        for wing in _WINGS
        for path in (root / wing).rglob("*.py")
    }
    pending = [name for name, source in sources.items() if b"njit" in source or b"numba" in source]
    names = set(pending)
    while pending:
        for name in _imported(sources[pending.pop()].decode()):
            if name in sources and name not in names:
                names.add(name)
                pending.append(name)
    content = hashlib.blake2b(digest_size=16)
    for name in sorted(names):
        content.update(f"{name} {len(sources[name])}\n".encode() + sources[name])
    return content.hexdigest()


def _imported(source: str) -> Iterable[str]:
    for module, names in _IMPORT.findall(source):
        yield module
        yield from (f"{module}.{name}" for name in re.findall(r"\w+", names))


def _places(root: Path) -> Iterator[Path]:
    yield root / "pipeline" / "__pycache__" / _FOLDER
    with contextlib.suppress(RuntimeError):  # a user without a home
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / _FOLDER


def _folder(places: Iterable[Path], name: str) -> Path:
    for place in places:
        folder = place / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            os.utime(folder)
        except OSError:
            continue
        _clear(place)
        return folder
    temporary = Path(tempfile.mkdtemp(prefix="corpusmill-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    folder = temporary / _FOLDER / name
    folder.mkdir(parents=True)
    return folder


def _clear(place: Path) -> None:
    """Remove the folders of sources that nobody has had for a while."""
    for folder in place.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process was first
            if time.time() - folder.stat().st_mtime > _UNUSED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)

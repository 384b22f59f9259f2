"""Paths, whole-file writes and fingerprints.

A path is a string that fsspec understands (``/data/x``, ``s3://bucket/x``). No file is visible before it is
complete: it is written aside, flushed and renamed; an object store gives the same on close. A local path may stand for
an object in a store (``mirror``): then it is fetched before it is read, and put there before it has its name here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Annotated, Any

from pydantic import PlainSerializer

from pipeline import MillError
from pipeline.store import checksums, copies, messages, opens

#: In a block of ``looking`` the folder of the local copies of objects; None outside of one.
_looking: ContextVar[str | None] = ContextVar("looking", default=None)

#: Packages whose errors mean that an object store or a web server did not give what was asked for.
_STORES = frozenset({"aiobotocore", "aiohttp", "adlfs", "azure", "botocore", "gcsfs", "google", "s3fs"})


class DamagedFile(MillError):
    """A file is not what was written: unreadable, incomplete or changed. ``path``: the file, where another run of what
    made it makes it again.
    """

    def __init__(self, message: str, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class LostFile(MillError, FileNotFoundError):
    """A file that was written is not there. ``path`` as in ``DamagedFile``."""

    def __init__(self, message: str, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


#: An address that may carry credentials, the part of it before the host (an AWS secret may hold slashes), and the
#: parameters by which stores and web servers are given them.
_REMOTE = re.compile(r"\b(?!file:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_USER = re.compile(r"(?<=://)(?:[A-Z0-9]{16,}:[^\s@]+|[^/\s@]+)@")
_PARAMETER = re.compile(
    r"([?&](?:[a-z_-]*token|sig|signature|[a-z_-]*key|key[-_]?id|awsaccesskeyid|password|passwd|pwd|[a-z_-]*secret"
    r"|credentials?|auth|x-(?:amz|goog|ms)-[a-z-]+)=)[^&#\s]*",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """``text``, a path or a message with paths, with ``***`` for the credentials of every address in it."""
    return _PARAMETER.sub(r"\1***", _USER.sub("***@", text)) if _REMOTE.search(text) else text


Address = Annotated[str, PlainSerializer(masked, return_type=str, when_used="json")]
"""A path in a recipe: what is stored, shown or part of a fingerprint does not hold its credentials."""


def is_local(path: str) -> bool:
    """Whether ``path`` lies on a mounted file system, so that it can be memory-mapped and renamed."""
    return "://" not in path or path.startswith("file://")


def here(path: str) -> str:
    """The absolute local path that is, or stands for, the file or folder ``path``."""
    return str(local_name(path).resolve()) if is_local(path) else _mirror().here(path)


def local_name(path: str) -> Path:
    """The ``pathlib`` form of a path that is local, or stands for an object; nothing is fetched."""
    return Path(path.removeprefix("file://") if is_local(path) else _mirror().here(path))


def local(path: str) -> Path:
    """The local file or folder ``path``, or what stands here for it, fetched from its store if need be."""
    name = local_name(path)
    if is_mirrored(str(name)):
        mirror = _mirror()
        if mirror.kind(str(name)) == "folder":
            mirror.ensure_folder(str(name))
        else:
            mirror.ensure(str(name))
    return name


def own_name(path: str) -> str | None:
    """``path`` as the system knows it, if it is local and stands for itself; asked for each file of a build, and a
    ``Path`` would take ten times as long.
    """
    name = path.removeprefix("file://")
    return None if "://" in name or is_mirrored(name) else name


def is_mirrored(path: str) -> bool:
    """Whether the local ``path`` stands for an object or a folder of a store."""
    if (copied := _looking.get()) is not None and not path.startswith(copied):
        return False  # the usual case, without asking the environment where the copies are
    return "/" in path and _mirror().url_of(path) is not None


def url_of(path: str) -> str:
    """What people and other machines call the local ``path``: an address, where it stands for one."""
    return _mirror().url_of(path) or path


def uri(path: str) -> str:
    """``path`` as an address that begins with its protocol."""
    if not is_local(path):
        return path
    return _mirror().url_of(path) or local_name(path).resolve().as_uri()


def _mirror() -> Any:
    from pipeline.store import mirror  # which needs this module

    return mirror


def join(base: str, *names: str) -> str:
    """``base/name/...`` with single slashes."""
    return "/".join([base.rstrip("/"), *[name.strip("/") for name in names]])


@contextlib.contextmanager
def reaching(path: str) -> Iterator[None]:
    """Errors of the block name ``path``: the system's, which do not say where the disk was full, and those of object
    stores, which become MillError.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None and path not in str(error):
            error.filename = path
        if error.errno is None and masked(str(error)) != str(error):
            raise type(error)(masked(str(error))) from None
        raise
    except BaseException as error:
        if number := messages.system_error(error):  # a library's, which does not say where
            raise OSError(number, os.strerror(number), path) from error
        if type(error).__module__.partition(".")[0] not in _STORES:
            raise
        sentence = masked(f"{path}: not reached ({error}); check its address and your credentials")
        raise MillError(sentence) from (None if masked(path) != path else error)


def filesystem_of(path: str) -> tuple[Any, str]:
    """The file system that ``path`` lies in, and the path there. Raises MillError if it is of no kind known here."""
    import fsspec  # slow to load, and needed only where a path is no local one

    try:
        return fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise MillError(masked(f"{path}: {error}")) from error


class NotRegular(MillError):
    """A path leads to a pipe, a device or a socket, whose reading may never end."""


def regular(path: str) -> str:
    """``path``. Raises NotRegular if it leads to something local that is neither a file nor a folder."""
    if is_local(path):
        place = local(path)
        if not place.is_file() and not place.is_dir() and place.exists():
            raise NotRegular(f"{path}: a pipe, a device or a socket; give a regular file")
    return path


@contextlib.contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """``path`` open for reading bytes, wherever it lies. Raises NotRegular."""
    if is_mirrored(path):
        local(path)
    regular(path)
    opens.counted["read"] += 1
    if is_local(path):
        with reaching(path), local_name(path).open("rb") as handle:
            yield handle
        return
    filesystem, inner = filesystem_of(path)
    with reaching(path), filesystem.open(inner, "rb") as handle:
        yield handle


def remove(path: str) -> None:
    """Delete one file, and its checksum before it; an absent one is no error."""
    if is_mirrored(path):
        _mirror().remove(path)
        return
    if is_local(path):
        checksums.sidecar(local(path)).unlink(missing_ok=True)
    filesystem, inner = filesystem_of(path)
    with reaching(path), contextlib.suppress(FileNotFoundError):
        filesystem.rm_file(inner)


class NotCurrent(Exception):
    """In a ``looking`` block: something has to be made first."""


@contextlib.contextmanager
def looking() -> Iterator[None]:
    """In the block work only looks whether its outputs are current: where one is not, NotCurrent is raised."""
    token = _looking.set(copies.cache())
    try:
        yield
    finally:
        _looking.reset(token)


def current(is_current: bool) -> bool:
    """``is_current``, whether an output is there and made by exactly this; all work that may be skipped asks here."""
    if not is_current and _looking.get() is not None:
        raise NotCurrent
    return is_current


def exists(path: str) -> bool:
    if (name := own_name(path)) is not None:
        try:
            os.stat(name)  # noqa: PTH116
        except OSError:
            return Path(name).exists()  # which raises what is none of absence
        return True
    if is_mirrored(path):
        return _mirror().kind(path) is not None
    filesystem, inner = filesystem_of(path)
    with reaching(path):
        return filesystem.exists(inner)


def list_files(folder: str, suffix: str = "") -> list[str]:
    """Names (not paths) of the files directly in ``folder`` that end in ``suffix``, sorted; [] if it is absent."""
    if is_mirrored(folder):
        names = _mirror().names(folder)
    elif is_local(folder):
        root = local(folder)
        if not root.is_dir():
            return []
        names = [entry.name for entry in root.iterdir() if entry.is_file()]
    else:
        filesystem, inner = filesystem_of(folder)
        with reaching(folder):
            listed = filesystem.ls(inner) if filesystem.exists(inner) else []
        names = [item["name"].rsplit("/", 1)[-1] for item in listed if item["type"] == "file"]
    return sorted(name for name in names if name.endswith(suffix) and not name.startswith("."))


def list_folders(folder: str) -> list[str]:
    """Names of the folders directly in the local ``folder``, in order; what begins with a dot is passed over."""
    if is_mirrored(folder):
        return _mirror().folders(folder)
    root = local(folder)
    return (
        sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[:1] != ".")
        if (root.is_dir())
        else []
    )


@contextlib.contextmanager
def replacing(path: str, summed: bool = True) -> Iterator[IO[bytes]]:
    """Open ``path`` for writing; it appears, complete and on disk, only if the block ends without an error.

    Unless ``summed`` is false, for a file that goes on growing, its checksum is noted: see ``checksums``.
    """
    opens.counted["write"] += 1
    if not is_local(path):
        filesystem, inner = filesystem_of(path)
        with reaching(path), filesystem.transaction, filesystem.open(inner, "wb") as handle:
            yield handle
        return
    target, stored = local_name(path), is_mirrored(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with reaching(path), aside.open("wb") as handle:
            yield handle
            handle.flush()
            if not stored:
                os.fsync(handle.fileno())
        if stored:
            _into_store(path, aside, summed)
            return
        # noted but absent is lost to one of these, so at first it is there before it is noted
        new = target.name in checksums.LASTING and not checksums.sidecar(target).exists()
        if summed and not new:
            checksums.note(target, aside)
        aside.replace(target)
        if summed and new:
            checksums.note(target, target)
    finally:
        aside.unlink(missing_ok=True)


def _into_store(path: str, aside: Path, summed: bool) -> None:
    """Put the local file ``aside`` into the store as what ``path`` stands for, and then in its place here."""
    mirror, target = _mirror(), local_name(path)
    if summed:
        mirror.prepare(path)
        checksums.note(target, aside)
    mirror.put(path, aside, summed)
    aside.replace(target)
    mirror.written(path)


def keep(path: str) -> None:
    """Have in the store, too, what was appended to the local file ``path`` that stands for an object."""
    if is_mirrored(path) and local_name(path).exists():
        _mirror().put(path, local_name(path), False)
        _mirror().written(path)


def take_name(source: str, path: str, wanted: Callable[[str], bool]) -> bool:
    """Make ``path`` a second name of the local file ``source`` if that is ``wanted``, without copying it.

    False where it is not there, not wanted, or where the disk knows no second names (hard links). ``wanted`` is given a
    name of the file that nobody else replaces.
    """
    if not (is_local(source) and exists(source)):
        return False
    target, stored = local_name(path), is_mirrored(path)
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        aside.hardlink_to(local(source))
        name = wanted(str(aside))
        if name and stored:
            check(source)  # what is damaged here is not to go into the store with a new checksum
            _into_store(path, aside, True)
        elif name:
            checksums.note_as(target, local(source), aside)
            aside.replace(target)
    except OSError:
        return False
    finally:
        aside.unlink(missing_ok=True)
    return name


@contextlib.contextmanager
def replacing_folder(path: str) -> Iterator[Path]:
    """A fresh local folder that takes the place of ``path`` only if the block ends without an error."""
    import shutil

    target, stored = local_name(path), is_mirrored(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    aside.mkdir()
    try:
        with reaching(path):
            yield aside
            for file in [file for file in aside.rglob("*") if file.is_file() and file.parent.name != checksums.FOLDER]:
                checksums.note(file, file)
        if stored:
            _mirror().put_folder(path, aside)
        if target.exists():
            old = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
            target.replace(old)
            aside.replace(target)
            shutil.rmtree(old)
        else:
            aside.replace(target)
        if stored:
            _mirror().folder_written(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remove_folder(path: str) -> None:
    """Remove a local folder; it is gone at once and never there in part. In a store what closes it goes first."""
    import shutil

    target = local_name(path)
    if is_mirrored(path):
        _mirror().remove_folder(path)
        shutil.rmtree(target, ignore_errors=True)
        return
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    target.replace(aside)
    shutil.rmtree(aside)


def write_json(path: str, value: Any) -> None:
    """Write ``value`` with sorted keys; a file that holds just this already is left as it is.

    In ASCII, because a path among the values may hold bytes that are not UTF-8.
    """
    content = json.dumps(value, indent=2, sort_keys=True).encode("ascii") + b"\n"
    if exists(path):
        with opened(path) as handle:
            if handle.read() == content:
                return
    with replacing(path) as handle:
        handle.write(content)


def read_json(path: str, remedy: str = "Delete it and run the same command again.") -> Any:
    """The value in ``path``. Raises LostFile, or DamagedFile with the place and the remedy."""
    content = read_whole(path, remedy)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # JSON's and UTF-8's own, and what is nested too deeply
        raise DamagedFile(f"{path}: not readable as JSON ({error}). {remedy}", path) from error


def read_whole(path: str, remedy: str) -> bytes:
    """What ``path`` holds. Raises LostFile, or DamagedFile if it is not as it was written."""
    name = own_name(path)
    if name is None:
        check(path, remedy)
        with finding(path), opened(path) as handle:
            return handle.read()
    opens.counted["read"] += 1
    with finding(path), reaching(path):
        if not os.path.isfile(name):  # noqa: PTH113
            regular(path)
        content, whole = checksums.read(name)
    if not whole:
        raise _damaged(path, remedy)
    return content


@contextlib.contextmanager
def finding(path: str, remedy: str = "Run the build again, which makes what is missing.") -> Iterator[None]:
    """That ``path`` is absent is raised in the block as LostFile, with the remedy."""
    try:
        yield
    except FileNotFoundError as error:
        raise LostFile(f"{path}: not there. {remedy}", path) from error


def check(path: str, remedy: str = "Delete it and run the same command again.") -> None:
    """Raise DamagedFile if ``path`` is not as it was written; its content is read once a process and version.

    Files without a noted checksum pass: those of other programs and of earlier versions. So does an absent one.
    What is damaged here and not in its store is fetched again.
    """
    name = own_name(path)
    if name is None and is_mirrored(path) and _mirror().ensure(path) and not checksums.is_whole(local_name(path)):
        _mirror().fetch_again(path)
    if is_local(path) and not checksums.is_whole(name or local(path)):
        raise _damaged(path, remedy)


def _damaged(path: str, remedy: str) -> DamagedFile:
    return DamagedFile(f"{path}: not as it was written, its checksum differs: damaged or changed since. {remedy}", path)


def is_noted(path: str) -> bool:
    """Whether ``path`` has been written, so that its absence is a loss."""
    if is_mirrored(path):
        return _mirror().is_noted(path)
    return is_local(path) and checksums.sidecar(local(path)).exists()


def check_folder(folder: str) -> None:
    """``check`` for each file of a model's folder; raises LostFile for one that was written and is not there."""
    remedy = "Delete the model's folder and run the command that made it again."
    for path in local(folder).glob("*"):
        regular(str(path))
    for name in list_files(folder):
        check(join(folder, name), remedy)
    for path in checksums.noted(local(folder)):
        if not path.exists():
            raise LostFile(f"{path}: not there. {remedy}", str(path))


def sizes(folder: str, names: Iterable[str]) -> dict[str, int]:
    """Bytes of each of the files ``names`` in ``folder``. Raises FileNotFoundError."""
    by_name = {}
    for name in names:
        path = join(folder, name)
        if is_mirrored(path):
            by_name[name] = _mirror().size(path)
            continue
        filesystem, inner = filesystem_of(path)
        with reaching(path):
            by_name[name] = filesystem.size(inner)
    return by_name


def are_there(folder: str, stated: Mapping[str, int]) -> bool:
    """Whether ``folder`` holds the files that ``stated`` names, with these sizes."""
    try:
        return sizes(folder, stated) == stated
    except FileNotFoundError:
        return False


def head(path: str) -> bytes | None:
    """While it is only looked what is current: the first bytes of an object that is not here; None otherwise."""
    return _mirror().head(path) if _looking.get() is not None else None


def stamp(path: str) -> Any:
    """Something that differs once ``path`` has been written again. Raises FileNotFoundError."""
    if is_local(path):
        status = os.stat(own_name(path) or local(path))  # noqa: PTH116
        return status.st_ino, status.st_size, status.st_mtime_ns
    filesystem, inner = filesystem_of(path)
    return filesystem.ukey(inner)


def fingerprint(*parts: Any) -> str:
    """32 hexadecimal digits that name what made an output: BLAKE2b-128 of the parts as canonical JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} cannot be part of a fingerprint")


def file_digest(path: str) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with opened(path) as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

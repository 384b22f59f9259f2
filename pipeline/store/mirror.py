"""A local copy of what is used of object stores, so that everything else works with files.

The store is the truth. Each folder ``s3://bucket/x`` stands for a local one in the cache of this machine, and a path in
there for the object of the same name: ``files`` asks here whether it is there, fetches it whole before it is read, and
puts it there before the local file takes its name. So a local file that is noted here is in the store, too.

Listings are remembered while this process holds a build's lock, up to the end of a step (``step``) in which others had
a part, and in these during a step, whose items do not read what its other items write; otherwise for some seconds. A
file is fetched again when the listing states another version than it was fetched with. What a hidden folder or file
holds (a name that begins with a dot, but for checksums) is never in the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline import MillError
from pipeline.store import checksums, copies, files, objects
from pipeline.store.objects import Entry

#: Seconds for which a listing is believed outside of a step.
LISTING_SECONDS = 5.0
#: Variables that say which server or account is meant: those of S3, which stand for other stores, too, and by protocol.
_OF_S3 = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_PROFILE")
_ENDPOINTS = {
    ("az", "abfs", "abfss"): ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_NAME"),
    ("gs", "gcs"): ("STORAGE_EMULATOR_HOST",),
}
#: Bytes of a file's beginning that are fetched where only what made it is asked for; smaller files are fetched whole.
HEAD = 64 << 10
#: A version that is not yet known from a listing: followed by the checksum of what was put there.
_OURS = "ours "
#: Names of the files that say that their folder is whole; they are put there last and removed first.
_CLOSING = frozenset({"manifest.json", "state.json", "summary.json", "config.json"})


def here(url: str) -> str:
    """The local folder or file that stands for ``url``. Raises MillError for an address that is none of a store."""
    protocol, _, inner = url.partition("://")
    parts = inner.strip("/").split("/")
    if "::" in protocol or not parts[0] or any(part in ("", ".", "..") for part in parts) or "?" in inner:
        raise MillError(files.masked(f"{url}: not the address of a folder in an object store, such as s3://bucket/x"))
    if "@" in parts[0]:
        raise MillError(files.masked(f"{url}: give credentials by the store's own settings, not in the address"))
    return str(Path(copies.cache(), f"{protocol}-{_account(protocol, *_endpoint(protocol))}", *parts))


def _endpoint(protocol: str) -> tuple[str, ...]:
    """What of the environment says which server or account names of ``protocol`` belong to."""
    names = next((names for protocols, names in _ENDPOINTS.items() if protocol in protocols), _OF_S3)
    return tuple(os.environ.get(name, "") for name in names)


@lru_cache(maxsize=8)
def _account(protocol: str, *endpoint: str) -> str:
    """Eight digits that differ between servers where equal names stand for different objects."""
    from fsspec.config import conf

    settings = [protocol, endpoint, conf.get(protocol, {})]
    return hashlib.blake2b(json.dumps(settings, sort_keys=True, default=str).encode(), digest_size=4).hexdigest()


def url_of(path: str) -> str | None:
    """The address in an object store that the local ``path`` stands for; None if it stands for itself."""
    root = copies.cache()
    if not path.startswith(root) or path[len(root) : len(root) + 1] != "/":
        return None
    store, _, inner = path[len(root) + 1 :].rstrip("/").partition("/")
    if not inner or any(part[:1] == "." and part != checksums.FOLDER for part in (store, *inner.split("/"))):
        return None
    return f"{store.rpartition('-')[0]}://{inner}"


def shown(text: str) -> str:
    """``text`` with the addresses of objects in place of the local paths that stand for them."""
    root = copies.cache()
    if root not in text:
        return text
    first, *others = text.split(f"{root}/")
    return first + "".join(
        f"{store.rpartition('-')[0]}://{inner}" for store, _, inner in (other.partition("/") for other in others)
    )


@dataclass
class _Listing:
    taken: float
    entries: dict[str, Entry]


@dataclass
class _State:
    """What this process knows of the stores."""

    lock: Any = field(default_factory=threading.RLock)
    epoch: str | None = None
    others: bool = False
    locked: bool = False  # this process holds the lock of a build
    asking: dict[str, threading.Lock] = field(default_factory=dict)
    listings: dict[str, _Listing] = field(default_factory=dict)
    changes: dict[str, dict[str, tuple[float, Entry | None]]] = field(default_factory=dict)
    heads: dict[tuple[str, str], bytes] = field(default_factory=dict)
    lost: str | None = None
    fetched: int = 0  # bytes since the cache was last looked over


_state = _State()


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """In the block this process holds the lock of a build in a store."""
    forget_listings()
    _state.locked = True
    try:
        yield
    finally:
        _state.locked = False


def lost_lock(why: str | None) -> None:
    """Let nothing more be put into a store, and no step begin, because of ``why``; None: let it again."""
    _state.lost = why


def _require_lock() -> None:
    if _state.lost is not None:
        raise MillError(_state.lost)


def begin(epoch: str) -> None:
    """In a worker: forget the listings unless they are of ``epoch``, the step of a build that it works for."""
    if epoch != _state.epoch:
        _state.epoch = epoch
        forget_listings()


@contextlib.contextmanager
def step() -> Iterator[None]:
    """In the block, a step of a build, nothing that this process reads of a store is changed by others."""
    _require_lock()
    _state.epoch, _state.others = uuid.uuid4().hex, False
    try:
        yield
    finally:
        _state.epoch = None
        if _state.others:
            forget_listings()


def others_work() -> None:
    """Note that other processes have a part in this step: what they write is seen here after it."""
    _state.others = True


def forget_listings() -> None:
    """Ask the stores again what they hold."""
    with _state.lock:
        _state.listings.clear()
        _state.changes.clear()
        _state.heads.clear()


def epoch() -> str:
    """The step that is being carried out; "" if none is."""
    return _state.epoch or ""


def _entries(url: str) -> dict[str, Entry]:
    """What lies in the folder ``url``, by name."""
    with _state.lock:
        asking = _state.asking.setdefault(url, threading.Lock())
    with asking:  # threads that want the same listing make one request
        known = _state.listings.get(url)
        if known is not None and (_is_ours() or time.monotonic() - known.taken < LISTING_SECONDS):
            return known.entries
        began = time.monotonic()
        return _noted_listing(url, began, objects.listed(url))


def _is_ours() -> bool:
    """Whether nobody but this process changes what it reads of a store at the moment."""
    return _state.locked or _state.epoch is not None


def _noted_listing(url: str, began: float, entries: dict[str, Entry]) -> dict[str, Entry]:
    with _state.lock:
        for name, (at, entry) in _state.changes.get(url, {}).items():
            if at >= began:  # by another thread, meanwhile
                _set(entries, name, entry)
        _state.listings[url] = _Listing(began, entries)
    return entries


def _changed(url: str, entry: Entry | None) -> None:
    """Note that the object ``url`` is what ``entry`` says, or absent for None."""
    parent, _, name = url.rpartition("/")
    with _state.lock:
        _state.changes.setdefault(parent, {})[name] = time.monotonic(), entry
        if (known := _state.listings.get(parent)) is not None:
            _set(known.entries, name, entry)
    above = parent.rpartition("/")[0]
    if entry is not None and (known := _state.listings.get(above)) is not None:
        known.entries.setdefault(parent.rpartition("/")[2], Entry(0, "", folder=True))


def _set(entries: dict[str, Entry], name: str, entry: Entry | None) -> None:
    if entry is None:
        entries.pop(name, None)
    else:
        entries[name] = entry


def _entry(url: str) -> Entry | None:
    parent, _, name = url.rpartition("/")
    return _entries(parent).get(name)


def kind(path: str) -> str | None:
    """``"file"``, ``"folder"``, or None where the store has neither."""
    entry = _entry(_url(path))
    return None if entry is None else "folder" if entry.folder else "file"


def names(folder: str) -> list[str]:
    """Names of the files directly in ``folder``."""
    return [name for name, entry in _entries(_url(folder)).items() if not entry.folder]


def folders(folder: str) -> list[str]:
    """Names of the folders directly in ``folder``, in order; what begins with a dot is passed over."""
    return sorted(name for name, entry in _entries(_url(folder)).items() if entry.folder and name[:1] != ".")


def size(path: str) -> int:
    """Bytes of a file. Raises FileNotFoundError."""
    entry = _entry(_url(path))
    if entry is None:
        raise FileNotFoundError(f"{_url(path)}: not there")
    return entry.size


def ensure(path: str) -> bool:
    """Have the file ``path`` here as it is in the store now; False if it is not there, and then it is not here either.

    Raises DamagedFile if what is there is not what was written.
    """
    url, local = _url(path), Path(path)
    entry = _entry(url)
    if entry is None:
        if copies.noted(local) is not None:
            copies.forget(local)
        return False
    if entry.folder:
        return False
    note = copies.noted(local)
    if note == entry.version:
        os.utime(copies.note_of(local))
        return True
    if note is not None and note.startswith(_OURS) and local.stat().st_size == entry.size:
        lines = _stated(url)
        if lines and lines[0] == note.removeprefix(_OURS):  # it is what this machine put there
            copies.write_note(local, entry.version)
            return True
    _fetch(url, local, entry)
    return True


def _fetch(url: str, local: Path, entry: Entry) -> None:
    local.parent.mkdir(parents=True, exist_ok=True)
    aside = local.with_name(f".{local.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        for again in (True, False):
            lines = _stated(url)
            objects.fetch(url, aside, entry.size)
            if lines is None or checksums.digest(aside) in lines:
                break
            if not again:
                raise files.DamagedFile(
                    f"{url}: not as it was written, its checksum differs: damaged or changed since. Delete it and run "
                    "the same command again.",
                    str(local),
                )
            begin_folder_again(url)  # it may have been written between the two requests
            entry = _entry(url) or entry
        if lines is not None:
            checksums.copy(local, lines)
        aside.replace(local)
        if lines is not None:
            checksums.found_whole(local)
        copies.write_note(local, entry.version)
    finally:
        aside.unlink(missing_ok=True)
    _grown(entry.size)


def fetch_again(path: str) -> None:
    """Fetch the file ``path``, which is not here as it was fetched."""
    copies.forget(Path(path))
    ensure(path)


def begin_folder_again(url: str) -> None:
    """Forget the listing of the folder of ``url``."""
    with _state.lock:
        for folder in (url.rpartition("/")[0], _sidecar(url).rpartition("/")[0]):
            _state.listings.pop(folder, None)


def head(path: str) -> bytes | None:
    """The first bytes of the file ``path`` where all of it is not here and larger; None where it is, or not there."""
    url, local = _url(path), Path(path)
    entry = _entry(url)
    if entry is None or entry.folder or entry.size <= 4 * HEAD or copies.noted(local) is not None:
        return None
    key = (url, entry.version)
    if key not in _state.heads:
        _state.heads[key] = objects.read(url, 0, HEAD)
    return _state.heads[key]


def put(path: str, content: Path, summed: bool) -> None:
    """Put the file ``content`` into the store as ``path``; if it is ``summed``, its checksum before it."""
    url = _url(path)
    if summed and Path(path).name not in checksums.EDITED:
        _put(checksums.sidecar(Path(path)), _sidecar(url))
    _put(content, url)


def _put(content: Path, url: str) -> None:
    _require_lock()
    objects.put(content, url)
    _changed(url, Entry(content.stat().st_size, _OURS + checksums.digest(content)))


def written(path: str) -> None:
    """Note that the local file ``path`` is what was put there last."""
    if (entry := _entry(_url(path))) is not None:
        copies.write_note(Path(path), entry.version)
        _grown(entry.size)


def prepare(path: str) -> None:
    """Have the checksums of ``path`` here, which a new one is added to."""
    sidecar = checksums.sidecar(Path(path))
    lines = _stated(_url(path))
    if lines is None:
        sidecar.unlink(missing_ok=True)
    else:
        checksums.copy(Path(path), lines)


def is_noted(path: str) -> bool:
    """Whether ``path`` has a checksum in the store."""
    return _entry(_sidecar(_url(path))) is not None


def remove(path: str) -> None:
    """Delete the object of the file ``path``, and its checksum before it."""
    url = _url(path)
    for one in (_sidecar(url), url):
        if _entry(one) is not None:
            objects.remove(one)
            _changed(one, None)
    copies.forget(Path(path))


def ensure_folder(path: str) -> bool:
    """Have all that is in the folder ``path`` here, and nothing else; False if it is not there."""
    names = sorted(_tree(_url(path)))
    wanted = [f"{path}/{name}" for name in names]
    root = Path(path)
    for file in [file for file in root.rglob("*") if file.is_file() and url_of(str(file)) is not None]:
        if file.parent.name != checksums.FOLDER and str(file) not in wanted:
            copies.forget(file)
    _each(ensure, [file for file in wanted if f"/{checksums.FOLDER}/" not in file])
    for file in wanted:
        if f"/{checksums.FOLDER}/" in file and not Path(file).exists():  # of a file that is lost
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_bytes(objects.read(_url(file)))
    return bool(names)


def put_folder(path: str, aside: Path) -> None:
    """Put the files of the local folder ``aside`` there as the folder ``path``, in place of what is there.

    What says that the folder is whole is removed first and put there last.
    """
    url = _url(path)
    new = {file.relative_to(aside).as_posix(): file for file in aside.rglob("*") if file.is_file()}
    old = set(_tree(url))
    order = sorted(new, key=_closes)
    remove_all(f"{url}/{name}" for name in old if _closes(name)[0] and not is_sum(name))
    first = [name for name in order if is_sum(name)]
    body = [name for name in order if not is_sum(name) and not _closes(name)[0]]
    last = [name for name in order if not is_sum(name) and _closes(name)[0]]
    for group in (first, body, last):
        _each(lambda name: _put(new[name], f"{url}/{name}"), group)
    remove_all(f"{url}/{name}" for name in old - new.keys())


def folder_written(path: str) -> None:
    """Note that the local folder ``path`` is what was put there last."""
    for file in Path(path).rglob("*"):
        if file.is_file() and file.parent.name != checksums.FOLDER:
            written(str(file))


def is_sum(name: str) -> bool:
    """Whether ``name``, a place in a folder, is that of checksums."""
    return checksums.FOLDER in name.split("/")


def summed(name: str) -> str:
    """The place of the file whose checksums are at ``name``."""
    folder, _, last = name.rpartition("/")
    return (folder.removesuffix(checksums.FOLDER) + last).removesuffix(checksums.SUFFIX)


def is_whole(path: str) -> bool:
    """Whether the object of ``path`` is as it was written; it is fetched, whatever is here."""
    url = _url(path)
    lines, aside = _stated(url), Path(path).with_name(f".{uuid.uuid4().hex[:8]}.partial")
    aside.parent.mkdir(parents=True, exist_ok=True)
    try:
        objects.fetch(url, aside, size(path))
        return lines is None or checksums.digest(aside) in lines
    finally:
        aside.unlink(missing_ok=True)


def _closes(name: str) -> tuple[bool, str]:
    return name.rpartition("/")[2] in _CLOSING, name


def remove_folder(path: str) -> None:
    """Delete all objects of the folder ``path``, those that say that it is whole first."""
    url = _url(path)
    inside = sorted(_tree(url), key=lambda name: (not _closes(name)[0], name))
    remove_all(f"{url}/{name}" for name in inside)
    shutil.rmtree(copies.note_of(Path(path)), ignore_errors=True)
    with _state.lock:
        for known in [known for known in _state.listings if known == url or known.startswith(f"{url}/")]:
            del _state.listings[known]
    _changed(url, None)


def remove_all(urls: Iterable[str]) -> None:
    """Delete each object, in order."""
    for url in urls:
        objects.remove(url)
        _changed(url, None)


def tree(path: str) -> dict[str, int]:
    """Bytes of each file below the folder ``path``, by its place in there; checksums among them."""
    return {name: entry.size for name, entry in _tree(_url(path)).items()}


def _tree(url: str) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for name, entry in list(_entries(url).items()):
        if entry.folder:
            entries |= {f"{name}/{inner}": value for inner, value in _tree(f"{url}/{name}").items()}
        else:
            entries[name] = entry
    return entries


def _each(work: Any, items: Iterable[str]) -> None:
    """``work`` on each item, several at a time."""
    items = list(items)
    if len(items) < 2:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(min(len(items), objects.PARALLEL)) as pool:
        contexts = [copy_context() for _ in items]
        list(pool.map(lambda pair: pair[0].run(work, pair[1]), zip(contexts, items, strict=True)))


def _url(path: str) -> str:
    url = url_of(path)
    assert url is not None, path
    return url


def _sidecar(url: str) -> str:
    folder, _, name = url.rpartition("/")
    return f"{folder}/{checksums.FOLDER}/{name}{checksums.SUFFIX}"


def _stated(url: str) -> list[str] | None:
    """The checksums of the object ``url``, the newest first; None if it has none."""
    sidecar = _sidecar(url)
    if url.rpartition("/")[2] in checksums.EDITED or _entry(sidecar) is None:
        return None
    with contextlib.suppress(FileNotFoundError):
        return objects.read(sidecar).decode("ascii", "replace").split("\n")[:-1]
    return None


def _grown(size: int) -> None:
    """Look the cache over once it may have grown past its limit."""
    most = copies.limit()
    with _state.lock:
        _state.fetched += size
        if _state.fetched < most * (1 - copies.LEFT) / 2:
            return
        _state.fetched = 0
    copies.trim(most)

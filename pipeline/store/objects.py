"""Requests to object stores, through fsspec: whole objects, bounded in number, asked again where a store is busy, and
counted.

An object is there whole or not at all: a store shows it when its upload has ended. Nothing is renamed.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pipeline import MillError
from pipeline.store import files
from pipeline.store.retries import passing

#: Requests of this process at a time.
PARALLEL = 16
#: Bytes up to which an object is fetched by one request; a larger one by several for parts of _PART bytes each.
WHOLE = 32 << 20
_PART = 16 << 20
_PARTS_AT_A_TIME = 4
#: Bytes of a part of an upload, and the object size from which s3fs uploads parts.
_UPLOADED_PART = 50 << 20
#: How often a request is made before it fails, and the seconds before the second time; they double each time.
ATTEMPTS = 7
FIRST_WAIT = 0.25
_LONGEST_WAIT = 20.0
#: Names in one page of a listing.
_PAGE = 1000
#: What a store says of an object that changes whenever the object does.
_VERSION_KEYS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime", "created")

T = TypeVar("T")


class StoreBusy(MillError):
    """An object store did not answer, however often it was asked."""


class NoConditionalWrites(MillError):
    """The object store cannot create an object only where there is none."""


@dataclass(frozen=True)
class Entry:
    """An object, or a folder of objects: its size in bytes, and something that changes whenever it does."""

    size: int
    version: str
    folder: bool = False


class Requests:
    """How many requests this process has made, by kind, how many had to be repeated, and bytes sent and received."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, **counts: int) -> None:
        with self._lock:
            self._counts.update(counts)

    def taken(self) -> dict[str, int]:
        """The counts since this was last asked."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return dict(counts)


requests = Requests()
_opened: list[Any] = []
_slots = threading.BoundedSemaphore(PARALLEL)


def is_shared(url: str) -> bool:
    """Whether other processes see what is written to ``url``."""
    return not url.startswith("memory://")


@lru_cache(maxsize=32)
def _filesystem(protocol: str) -> Any:
    import fsspec
    from fsspec.config import conf

    options: dict[str, Any] = {"use_listings_cache": False}
    if protocol in ("s3", "s3a"):  # what is asked again is asked again here, and counted
        given = conf.get(protocol, {}).get("config_kwargs", {})
        own = {"retries": {"total_max_attempts": 1}, "max_pool_connections": 2 * PARALLEL}
        # more at a time costs a HEAD for every GET
        options |= {"max_concurrency": 1, "config_kwargs": {**own, **given}}
    try:
        filesystem = fsspec.filesystem(protocol, **options)
    except ImportError as error:
        extra = " (pip install 'corpusmill[s3]')" if protocol in ("s3", "s3a") else ""
        raise MillError(f"{protocol}://: {error}{extra}") from error
    except ValueError as error:
        raise MillError(f"{protocol}://: {error}") from error
    if protocol in ("s3", "s3a"):
        filesystem.retries = 1
    _opened.append(filesystem)
    return filesystem


def forget_stores() -> None:
    """Connect to every store again, with the settings of the environment as they are now."""
    import fsspec

    _filesystem.cache_clear()
    fsspec.AbstractFileSystem.clear_instance_cache()
    for known in {type(store) for store in _opened}:
        known.clear_instance_cache()
    _opened.clear()


def _store(url: str) -> tuple[Any, str]:
    protocol, _, inner = url.partition("://")
    return _filesystem(protocol), inner


def _asked(kind: str, url: str, call: Callable[[], T], count: int = 1) -> T:
    """What ``call`` returns, which makes ``count`` requests; again after a while where the store is busy or cut off."""
    wait = FIRST_WAIT
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _slots:
                requests.add(**{kind: count})
                return call()
        except Exception as error:  # what does not pass goes on, with the address
            if isinstance(error, FileNotFoundError | FileExistsError):
                raise
            if not passing(error):
                _refuse(url, error)
            if attempt == ATTEMPTS:
                raise StoreBusy(
                    files.masked(
                        f"{url}: no answer after {ATTEMPTS} attempts ({type(error).__name__}: {error}); run the same "
                        "command later: it goes on from here"
                    )
                ) from None
        requests.add(retried=1)
        time.sleep(wait * random.uniform(0.5, 1.5))  # not all at the same moment
        wait = min(2 * wait, _LONGEST_WAIT)
    raise AssertionError


def _refuse(url: str, error: BaseException) -> None:
    """Raise ``error`` with the address it belongs to."""
    if isinstance(error, PermissionError):
        raise MillError(
            files.masked(f"{url}: access refused ({error}); check its address and your credentials")
        ) from None
    with files.reaching(url):
        raise error


def listed(url: str) -> dict[str, Entry]:
    """What lies directly in the folder ``url``, by name; {} if it is not there. One request for 1000 names."""
    filesystem, inner = _store(url)

    def names() -> list[dict[str, Any]]:
        try:
            return filesystem.ls(inner, detail=True, refresh=True)
        except FileNotFoundError:
            requests.add(LIST=int(url.startswith("s3")))  # s3fs has asked for the folder above, too
            return []

    items = _asked("LIST", url, names)
    requests.add(LIST=max(0, math.ceil(len(items) / _PAGE) - 1))
    entries = {}
    for item in items:
        name = item["name"].rstrip("/").rpartition("/")[2]
        if item["name"].strip("/") != inner.strip("/"):  # a marker of the folder itself
            version = next((str(item[key]) for key in _VERSION_KEYS if item.get(key)), "")
            size = int(item.get("size") or 0)
            entries[name] = Entry(size, f"{version} {size}", item["type"] == "directory")
    return entries


def fetch(url: str, into: Path, size: int) -> None:
    """Write the object ``url`` of ``size`` bytes to the file ``into``. Raises FileNotFoundError."""
    filesystem, inner = _store(url)
    if size <= WHOLE:
        _asked("GET", url, lambda: _fetched(filesystem, inner, into, size))
    else:
        with into.open("wb") as handle, ThreadPoolExecutor(_PARTS_AT_A_TIME) as pool:
            number = handle.fileno()

            def part(start: int) -> None:
                end = min(start + _PART, size)

                def bytes_of_part() -> bytes:
                    content = filesystem.cat_file(inner, start=start, end=end)
                    if len(content) != end - start:
                        raise ConnectionResetError(f"{len(content)} bytes came where {end - start} were asked for")
                    return content

                os.pwrite(number, _asked("GET", url, bytes_of_part), start)

            list(pool.map(part, range(0, size, _PART)))
    requests.add(received=size)


def _fetched(filesystem: Any, inner: str, into: Path, size: int) -> None:
    filesystem.get_file(inner, str(into))
    if (came := into.stat().st_size) < size:
        raise ConnectionResetError(f"{came} bytes came where {size} were asked for")


def read(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """The content of the object ``url``, or its bytes from ``start`` to ``end``. Raises FileNotFoundError."""
    filesystem, inner = _store(url)
    content = _asked("GET", url, lambda: filesystem.cat_file(inner, start=start, end=end))
    requests.add(received=len(content))
    return content


def put(file: Path, url: str) -> None:
    """Make the content of ``file`` the object ``url``; it appears when it is complete."""
    filesystem, inner = _store(url)
    size = file.stat().st_size
    parts = 1
    if size >= 2 * _UPLOADED_PART and url.startswith("s3"):
        parts = math.ceil(size / _UPLOADED_PART) + 2
    with _bucket(url):
        _asked("PUT", url, lambda: filesystem.put_file(str(file), inner), parts)
    requests.add(sent=size)


def write(url: str, content: bytes) -> None:
    """Make ``content`` the object ``url``."""
    filesystem, inner = _store(url)
    with _bucket(url):
        _asked("PUT", url, lambda: filesystem.pipe_file(inner, content))
    requests.add(sent=len(content))


def create(url: str, content: bytes) -> bool:
    """Make ``content`` the object ``url`` if there is none; False if there is another one.

    Raises NoConditionalWrites where the store refuses the condition.
    """
    filesystem, inner = _store(url)

    def created() -> bool:
        try:
            filesystem.pipe_file(inner, content, mode="create")
        except FileExistsError:
            return False
        except NotImplementedError as error:
            raise NoConditionalWrites(_no_condition(url)) from error
        except OSError as error:
            code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
            if code in ("PreconditionFailed", "412"):
                return False
            if code in ("NotImplemented", "501"):
                raise NoConditionalWrites(_no_condition(url)) from error
            raise
        return True

    with _bucket(url):
        # a repeated request finds what the first one wrote before its answer was cut
        return _asked("PUT", url, created) or read(url) == content


def require_conditional_writes(url: str) -> None:
    """Raise NoConditionalWrites if the store overwrites the existing object ``url`` where it is to create one."""
    if create(url, b"{}"):
        raise NoConditionalWrites(_no_condition(url))


def _no_condition(url: str) -> str:
    return files.masked(
        f"{url}: this store does not create an object only where there is none (If-None-Match), so that two builds "
        "could not be kept apart; use a store that does, or a local folder"
    )


def remove(url: str) -> None:
    """Delete the object ``url``; an absent one is no error."""
    filesystem, inner = _store(url)
    with contextlib.suppress(FileNotFoundError):
        _asked("DELETE", url, lambda: filesystem.rm_file(inner))


@contextlib.contextmanager
def _bucket(url: str) -> Iterator[None]:
    """That something is absent where an object is written, is that its bucket is."""
    try:
        yield
    except FileNotFoundError as error:
        bucket = "/".join(url.split("/")[:3])
        raise MillError(files.masked(f"{url}: {bucket} is not there ({error}); make it first")) from None

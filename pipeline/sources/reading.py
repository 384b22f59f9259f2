"""Bytes of a file, decompressed, in bounded memory, and cut into lines.

Damage in a compressed file is raised only after everything before it has been read. Compressed data is fed to the
decompressor in small steps, so that no input can make it hold more than some 64 MB at once.
"""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

import fsspec
import xxhash
import zstandard

from pipeline.sources.base import File, SourceConfig
from pipeline.store import files

#: Bytes fed to a decompressor at once. zstd makes 128 KiB of 4 bytes at most, so one step gives 64 MiB at most.
_STEP = 2048
#: A small file may expand to this size whatever its ratio.
FREE = 16 << 20
EXPANDS = "expands beyond max_compression_ratio"

_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.decompressobj(wbits=31),
    ".zst": lambda: zstandard.ZstdDecompressor().decompressobj(),
}
#: Endings of the names of compressed files.
COMPRESSED = tuple(_DECOMPRESSORS)


class Damaged(ValueError):
    """A compressed file cannot be read beyond some point; the message is a short reason."""


@contextlib.contextmanager
def open_raw(file: File) -> Iterator[IO[bytes]]:
    """The bytes of ``file`` as they are stored."""
    opened = files.local(file.path).open("rb") if files.is_local(file.path) else fsspec.open(file.path, "rb")
    with opened as handle:
        yield handle  # type: ignore[misc]


def identity(_config: SourceConfig, file: File) -> str:
    """Changes whenever the file's content does: a hash of the content, or what an object store knows of it.

    mtime alone misses what a copy or a checkout keeps; hashing runs at the disk's speed, far above parsing.
    """
    if not files.is_local(file.path):
        filesystem, inner = fsspec.core.url_to_fs(file.path)
        info = filesystem.info(inner)
        keys = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime", "created")
        if known := {key: str(info[key]) for key in keys if info.get(key)}:
            return files.fingerprint(known)
    digest = xxhash.xxh3_128()
    with open_raw(file) as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def open_file(file: File, max_ratio: float) -> Iterator[io.BufferedReader]:
    """The content of ``file``, decompressed by its ending. Reading raises Damaged where it is broken."""
    new = _DECOMPRESSORS.get("." + file.name.lower().rpartition(".")[2])
    with open_raw(file) as handle:
        raw: Any = handle if new is None else _Decompressed(handle, new, max_ratio)  # type: ignore[arg-type]
        yield io.BufferedReader(raw, 1 << 18)


class _Decompressed(io.RawIOBase):
    """The bytes of all members (frames) of a compressed stream, at most ``max_ratio`` for each byte read."""

    def __init__(self, raw: IO[bytes], new: Callable[[], Any], max_ratio: float):
        self._raw = io.BufferedReader(raw, 1 << 18)  # type: ignore[arg-type]
        self._new, self._max_ratio = new, max_ratio
        self._allowed: float = FREE
        self._member: Any = None
        self._input = b""
        self._output = memoryview(b"")
        self._position = 0

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._output:
            chunk, self._input = self._input or self._raw.read(_STEP), b""
            if not chunk:
                if self._member is not None:
                    raise Damaged("the compressed file ends in mid stream")
                return 0
            self._output = memoryview(self._decompress(chunk))
            self._allowed += (len(chunk) - len(self._input)) * self._max_ratio - len(self._output)
            if self._allowed < 0:
                raise Damaged(EXPANDS)
        size = min(len(buffer), len(self._output))
        buffer[:size] = self._output[:size]
        self._output = self._output[size:]
        self._position += size
        return size

    def _decompress(self, chunk: bytes) -> bytes:
        if self._member is None:
            chunk = chunk.lstrip(b"\0")  # padding between members, as tar and tapes leave it
            if not chunk:
                return b""
            self._member = self._new()
        try:
            data = self._member.decompress(chunk)
        except (zlib.error, zstandard.ZstdError) as error:
            raise Damaged(f"the compressed data is damaged ({type(error).__name__})") from error
        if self._member.eof:
            self._input = self._member.unused_data
            self._member = None
        return data


class Line(NamedTuple):
    """``number`` counts from 1; ``offset`` is its first byte in the uncompressed file.

    ``data`` lacks the line's end. Where ``fault`` is set the line could not be read, and ``data`` is its beginning.
    """

    number: int
    offset: int
    data: bytes
    fault: str | None = None


def read_lines(stream: io.BufferedReader, limit: int) -> Iterator[Line]:
    r"""The lines of ``stream``, which end at ``\n`` and nowhere else; the last need not.

    A line longer than ``limit`` bytes is passed over and comes with a fault. Damage ends the lines with one fault, at
    the offset of the first byte that is lost.
    """
    number = offset = 0
    while True:
        number += 1
        try:
            data = stream.readline(limit + 1)
            if not data:
                return
            size = len(data)
            if size > limit and not data.endswith(b"\n"):
                while (more := stream.readline(1 << 20)) and not more.endswith(b"\n"):
                    size += len(more)
                size += len(more)
                yield Line(number, offset, data[:1000], "longer than max_document_bytes")
            else:
                yield Line(number, offset, data.removesuffix(b"\n"))
            offset += size
        except Damaged as error:
            yield Line(number, offset, b"", str(error))
            return

"""Bytes of a file, decompressed, in bounded memory, and cut into lines.

Damage in a compressed file is raised only after everything before it has been read; where another member (frame) of the
file follows, reading may go on and gives what stands in that. Compressed data is fed to the decompressor in small
steps, so that no input can make it hold more than some 64 MB at once.
"""

from __future__ import annotations

import bz2
import contextlib
import functools
import io
import lzma
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import IO, Any, NamedTuple, NoReturn

import pyarrow as pa
import xxhash
import zstandard

from pipeline import MillError
from pipeline.sources.base import Document, File, PassedOver, Record, Rejected, SourceConfig, Unread, printable
from pipeline.store import files

#: Bytes fed to a decompressor at once. zstd makes 128 KiB of 4 bytes at most, so one step gives 64 MiB at most.
_STEP = 2048
#: Bytes that bzip2 and xz, which can be asked for less than all, give at once.
_OUTPUT = 1 << 22
_XZ_MEMORY = 256 << 20
#: A small file may expand to this size whatever its ratio.
FREE = 16 << 20
TORN = "follows a stretch that was not read"
EXPANDS = "expands beyond max_compression_ratio"
#: A file may hold this many records, and one more for each of its bytes.
FREE_RECORDS = 200_000
#: Damage may be noticed this long after the byte that the next member begins with.
_BACK = 1 << 16
#: Zeros between members and behind the last, as tar and tapes leave them; more are what a disk lost.
_PADDING = 1 << 16
_BLOCK = 1 << 20


class _Compression(NamedTuple):
    """``start`` is what a member begins with, ``new`` makes what decompresses one."""

    start: re.Pattern[bytes]
    new: Callable[[], Any]


_COMPRESSIONS = {
    ".gz": _Compression(re.compile(rb"\x1f\x8b\x08[\0-\x1f]"), lambda: zlib.decompressobj(wbits=31)),
    ".zst": _Compression(
        re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), lambda: zstandard.ZstdDecompressor().decompressobj()
    ),
    ".bz2": _Compression(re.compile(rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38\x50\x90)"), bz2.BZ2Decompressor),
    ".xz": _Compression(re.compile(rb"\xfd7zXZ\0"), lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)),
}
_FAILURES = (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError, EOFError, ValueError)
#: Endings of the names of compressed files.
COMPRESSED = tuple(_COMPRESSIONS)
_OTHERS = re.compile(
    rb"(?P<zip>PK\x03\x04)|(?P<sevenzip>7z\xbc\xaf\x27\x1c)|(?P<rar>Rar!\x1a\x07)|(?P<lz4>\x04\x22\x4d\x18)"
    rb"|(?P<compress>\x1f\x9d)"
)
_LONGEST_START = 10


class Damaged(MillError):
    """A file cannot be read beyond some point, or for a stretch; the message is a short reason.

    ``offset`` and ``size`` are those of the stretch in the file as it is stored; None: not known, and all that follows.
    ``missing``: the file ends before what it holds is at its end. ``doubtful``: what was read from this uncompressed
    offset on may be wrong, as it is of the damaged member.
    """

    def __init__(
        self,
        reason: str,
        offset: int | None = None,
        size: int | None = None,
        missing: bool = False,
        doubtful: int | None = None,
    ):
        super().__init__(reason)
        self.offset, self.size, self.missing, self.doubtful = offset, size, missing, doubtful

    def unread(self, file: File, after_record: int) -> Unread:
        """The damage as the record of ``file`` that stands for what was not read."""
        if self.missing:
            return Unread(file.path, after_record, file.size, str(self), file.size, file.size, missing=True)
        size = max(0, file.size - (self.offset or 0)) if self.size is None else self.size
        return Unread(file.path, after_record, self.offset, str(self), size, file.size)


#: What a parser raises over bytes that it was not made for. Disk, network and memory are none of these.
OF_CONTENT = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,  # RecursionError and NotImplementedError among them
    TypeError,
    ValueError,
    pa.ArrowException,
    struct.error,
    zlib.error,
)


def bounded(read: Callable[[Any, File], Iterator[Record]]) -> Callable[[Any, File], Iterator[Record]]:
    """``read`` of a source such that no content of a file raises, or yields more records than the file has bytes.

    What is left of the file is then one Unread that names what was raised. MillError goes through.
    """

    @functools.wraps(read)
    def reading(config: Any, file: File) -> Iterator[Record]:
        record = yielded = 0
        most = FREE_RECORDS + file.size
        try:
            for entry in read(config, file):
                yielded += 1
                if yielded > most:
                    raise Damaged(f"more than {most:,} records in {file.size:,} bytes")
                yield entry
                if isinstance(entry, Document):
                    record += 1
                elif isinstance(entry, Rejected | PassedOver):
                    record = max(record + 1, entry.record)
        except Damaged as error:
            yield error.unread(file, record)
        except OF_CONTENT as error:
            if isinstance(error, MillError) and not isinstance(error, Damaged):
                raise
            yield Damaged(printable(f"{type(error).__name__}: {error}"[:200])).unread(file, record)

    return reading


#: Where the bytes that are read of files are counted.
_counts: ContextVar[list[int] | None] = ContextVar("_counts", default=None)


@contextlib.contextmanager
def counting() -> Iterator[list[int]]:
    """Holds how many bytes were read of files in the block so far, as they are stored."""
    count = [0]
    before = _counts.set(count)
    try:
        yield count
    finally:
        _counts.reset(before)


class _Counted(io.RawIOBase):
    """The bytes of ``handle``, each of which adds one to ``count`` when it is read for the first time."""

    def __init__(self, handle: IO[bytes], count: list[int]):
        self._handle, self._count = handle, count
        self._read: list[tuple[int, int]] = []  # disjoint ranges

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._handle.seekable()

    def tell(self) -> int:
        return self._handle.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._handle.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        begin = self._handle.tell()
        data = self._handle.read(len(buffer))
        buffer[: len(data)] = data
        self._note(begin, begin + len(data))
        return len(data)

    def _note(self, begin: int, end: int) -> None:
        known = [(low, high) for low, high in self._read if low <= end and high >= begin]
        self._count[0] += end - begin - sum(min(high, end) - max(low, begin) for low, high in known)
        self._read = [part for part in self._read if part not in known]
        self._read.append((min(begin, *(low for low, _ in known), end), max(end, *(high for _, high in known), begin)))


@contextlib.contextmanager
def open_raw(file: File) -> Iterator[IO[bytes]]:
    """The bytes of ``file`` as they are stored."""
    files.regular(file.path)
    if files.is_local(file.path):
        opened = files.local(file.path).open("rb")
    else:
        import fsspec

        opened = fsspec.open(file.path, "rb")
    count = _counts.get()
    with opened as handle:
        yield handle if count is None else _Counted(handle, count)  # type: ignore[misc,arg-type]


def identity(_config: SourceConfig, file: File) -> str:
    """Changes whenever the file's content does: a hash of the content, or what an object store knows of it.

    mtime alone misses what a copy or a checkout keeps; hashing runs at the disk's speed, far above parsing.
    """
    if not files.is_local(file.path):
        filesystem, inner = files.filesystem_of(file.path)
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
    """The content of ``file``, decompressed as its name or its first bytes say.

    Reading raises Damaged where it is broken, and may go on after that: what comes next stands in a later member of the
    file, or there is nothing more. Raises Damaged for archives of kinds that are not read.
    """
    with open_raw(file) as handle:
        start = handle.read(_LONGEST_START)
        handle.seek(0)
        if other := _OTHERS.match(start):
            name = {"sevenzip": "7z"}.get(str(other.lastgroup), other.lastgroup)
            raise Damaged(f"packed by {name}, which is not read; known are {', '.join(COMPRESSED)}", 0)
        kind = _COMPRESSIONS.get("." + file.name.lower().rpartition(".")[2])
        kind = kind or next((entry for entry in _COMPRESSIONS.values() if entry.start.match(start)), None)
        raw: Any = handle if kind is None else _Decompressed(handle, kind, max_ratio)
        yield io.BufferedReader(raw, 1 << 18)


class _Decompressed(io.RawIOBase):
    """The bytes of all members (frames) of a compressed stream, at most ``max_ratio`` for each byte read.

    At damage the place of the next member is looked for before Damaged is raised; the next call reads there.
    """

    def __init__(self, raw: IO[bytes], kind: _Compression, max_ratio: float):
        self._raw = io.BufferedReader(raw, 1 << 18)  # type: ignore[arg-type]
        self._kind, self._max_ratio = kind, max_ratio
        self._allowed: float = FREE
        self._member: Any = None
        self._member_start = self._member_place = 0  # in the file as it is stored, and uncompressed
        self._members_end: int | None = None  # where the last whole member ends
        self._input = b""
        self._taken = 0  # bytes taken from ``raw``, those of ``_input`` included
        self._fed = 0  # where the bytes begin whose output comes
        self._output = memoryview(b"")
        self._position = 0
        self._ended = False

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._output and not self._ended:
            begin = self._taken - len(self._input)
            if self._is_full():
                chunk = b""
            else:
                chunk, self._fed = self._next(), begin
            if not chunk and not self._is_full():
                self._end(begin)
                break
            try:
                data = self._decompress(chunk, begin)
            except _FAILURES as error:
                self._resume(begin, error)
            self._output = memoryview(data)
            self._allowed += (len(chunk) - len(self._input)) * self._max_ratio - len(self._output)
            if self._allowed < 0:
                self._ended, self._output = True, memoryview(b"")
                raise Damaged(EXPANDS, self._fed)
        size = min(len(buffer), len(self._output))
        buffer[:size] = self._output[:size]
        self._output = self._output[size:]
        self._position += size
        return size

    def _end(self, begin: int) -> None:
        """At the end of the file, ``begin``. Raises Damaged if it is not the end of a member.

        Where damage made one member of what is several, reading goes on at the first that is whole.
        """
        self._ended = True
        if self._member is None:
            zeros = begin - (self._members_end or 0)
            if zeros > (0 if self._members_end is None else _PADDING):
                raise Damaged("zeros in place of compressed data", begin - zeros, zeros)
            return
        if (place := self._find_member(self._member_start + 1, whole=True)) is None:
            raise Damaged("the compressed file ends in mid stream", begin, missing=True)
        reason = "the compressed data is damaged, and what was read of it may be wrong"
        begin = self._member_start
        self._ended, self._member, self._input, self._taken = False, None, b"", place
        self._raw.seek(place)
        raise Damaged(reason, begin, place - begin, doubtful=self._member_place)

    def _is_full(self) -> bool:
        """Whether the decompressor holds input that it has not given the output of."""
        return self._member is not None and not getattr(self._member, "needs_input", True)

    def _next(self) -> bytes:
        if self._input:
            chunk, self._input = self._input, b""
        else:
            chunk = self._raw.read(_STEP)
            self._taken += len(chunk)
        return chunk

    def _decompress(self, chunk: bytes, begin: int) -> bytes:
        if self._member is None:
            size = len(chunk)
            chunk = chunk.lstrip(b"\0")  # padding between members, as tar and tapes leave it
            if not chunk:
                return b""
            self._member, self._member_start = self._kind.new(), begin + size - len(chunk)
            self._member_place = self._position
        data = _step(self._member, chunk)
        if self._member.eof:
            self._input = self._member.unused_data
            self._members_end = self._taken - len(self._input)
            self._member = None
        return data

    def _resume(self, begin: int, error: Exception) -> NoReturn:
        """Raise Damaged for the stretch from ``begin`` to the next member; reading goes on there.

        A checksum stands behind what it is about: where one is wrong the stretch is all of the member.
        """
        place = self._find_member(max(self._member_start + 1, begin - _BACK))
        reason = f"the compressed data is damaged ({type(error).__name__})"
        if isinstance(error, lzma.LZMAError | OSError) or re.search("(data|length) check|checksum", str(error)):
            begin, reason = self._member_start, f"{reason}, and what was read of it may be wrong"
        self._member, self._input = None, b""
        self._ended = place is None
        if place is None:
            raise Damaged(reason, begin, doubtful=self._member_place) from error
        self._raw.seek(place)
        self._taken = place
        raise Damaged(reason, begin, max(0, place - begin), doubtful=self._member_place) from error

    def _find_member(self, start: int, whole: bool = False) -> int | None:
        """Where the first member from ``start`` on begins that can be decompressed, or is ``whole``; None: nowhere."""
        self._raw.seek(start)
        block = b""
        while more := self._raw.read(_BLOCK):
            block += more
            after = self._raw.tell()
            for match in self._kind.start.finditer(block):
                place = after - len(block) + match.start()
                if self._decodes(place, whole):
                    return place
            self._raw.seek(after)
            block = block[-(_LONGEST_START - 1) :] if len(more) == _BLOCK else b""
        return None

    def _decodes(self, place: int, whole: bool) -> bool:
        """Whether a member begins at ``place``: it gives something, or what it gives up to its end is right."""
        self._raw.seek(place)
        member = self._kind.new()
        try:
            while not member.eof and (chunk := self._raw.read(_STEP)):
                result = _step(member, chunk)
                while not getattr(member, "needs_input", True) and not member.eof and whole:
                    _step(member, b"")
                if result and not whole:
                    return True
        except _FAILURES:
            return False
        return member.eof


def _step(member: Any, chunk: bytes) -> bytes:
    return member.decompress(chunk, _OUTPUT) if hasattr(member, "needs_input") else member.decompress(chunk)


class Line(NamedTuple):
    r"""``number`` counts from 1; ``offset`` is its first byte in the uncompressed file.

    ``data`` lacks the line's end. A run of blank lines comes as one, with the ends of all but the last in ``data``.
    Where ``fault`` is set the line could not be read, and ``data`` is its beginning. Where ``damage`` is set this is no
    line but a stretch that was not read, after the line ``number``; the next line is ``torn``: its beginning may have
    been lost.
    """

    number: int
    offset: int
    data: bytes
    fault: str | None = None
    damage: Damaged | None = None
    torn: bool = False


def read_lines(stream: io.BufferedReader, limit: int) -> Iterator[Line]:
    r"""The lines of ``stream``, which end at ``\n`` and nowhere else; the last need not.

    A line longer than ``limit`` bytes is passed over and comes with a fault.
    """
    number = offset = 0
    torn = False
    while True:
        damage = None
        try:
            data = stream.readline(limit + 1)
            if not data:
                return
            if len(data) > limit and not data.endswith(b"\n"):
                size = len(data)
                while (more := stream.readline(_BLOCK)) and not more.endswith(b"\n"):
                    size += len(more)
                yield Line(number + 1, offset, data[:1000], "longer than max_document_bytes", torn=torn)
                number, offset, torn = number + 1, offset + size + len(more), False
                continue
        except Damaged as error:
            yield Line(number, offset, b"", damage=error)
            torn = True
            continue
        if data.isspace() and data.endswith(b"\n"):
            try:
                data += _blank_lines(stream, limit - len(data))
            except Damaged as error:
                damage = error
        yield Line(number + 1, offset, data.removesuffix(b"\n"), torn=torn)
        number, offset, torn = number + max(1, data.count(b"\n")), offset + len(data), damage is not None
        if damage is not None:
            yield Line(number, offset, b"", damage=damage)


def _blank_lines(stream: io.BufferedReader, limit: int) -> bytes:
    """The blank lines that the stream's buffer begins with, taken from it."""
    ahead = stream.peek()[: max(0, limit)]
    run = ahead[: len(ahead) - len(ahead.lstrip(b" \t\r\n"))]
    return stream.read(run.rfind(b"\n") + 1)

"""HTML to text in a process of its own, because a page can take any time and memory, or crash the parser.

``Extractor`` talks to this same file run as a program, which imports only the extraction library. Request: character
set, content encoding and page; response: text; each as 4 bytes of length and the bytes. The limits kill the program (or
it dies by itself), and the next page gets a new one. Time is processor time, so that a busy machine extracts the same.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from typing import IO


class ExtractionFailed(ValueError):
    """A page gave no text; the message is a short reason."""


class Extractor:
    """Extracts by ``library`` with at most ``seconds`` of processor time a page and ``memory`` bytes of addresses."""

    def __init__(self, library: str, seconds: float, memory: int):
        self._library = library
        self._limits = (str(seconds), str(memory))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Extractor:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._end()

    def text(self, page: bytes, charset: str = "", compression: str = "") -> str:
        """The main text of ``page``, of which its server claims character set and ``Content-Encoding``.

        Raises ExtractionFailed, or RuntimeError if the library cannot be used at all.
        """
        process = self._process or self._start()
        try:
            _send(_pipe(process.stdin), charset.encode(), compression.encode(), page)
            return _receive(_pipe(process.stdout)).decode()
        except (BrokenPipeError, EOFError) as error:
            code, last = self._end()
            if code == -signal.SIGPROF:
                raise ExtractionFailed("extraction takes longer than page_seconds") from error
            if last.startswith("MemoryError"):
                raise ExtractionFailed("extraction takes more than page_memory") from error
            raise ExtractionFailed(f"extraction failed: {last.partition(':')[0] or f'signal {-code}'}") from error

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", __file__, self._library, *self._limits]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors)
        try:
            _receive(_pipe(self._process.stdout))
        except EOFError as error:
            raise RuntimeError(f"the extractor {self._library!r} does not start: {self._end()[1]}") from error
        return self._process

    def _end(self) -> tuple[int, str]:
        """Exit status of the process, and the last line that it left behind."""
        assert self._process is not None
        code = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                _pipe(stream).close()
        self._process = None
        self._errors.seek(0)
        last = self._errors.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
        self._errors.close()
        return code, last


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _send(stream: IO[bytes], *frames: bytes) -> None:
    for frame in frames:
        stream.write(struct.pack(">I", len(frame)) + frame)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes:
    size = struct.unpack(">I", _exactly(stream, 4))[0]
    return _exactly(stream, size)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _by_trafilatura() -> Callable[[bytes, str], str]:
    import trafilatura

    def extract(page: bytes, charset: str) -> str:
        text = _decoded(page, charset)
        return trafilatura.extract(page if text is None else text, include_comments=False) or ""

    return extract


def _by_resiliparse() -> Callable[[bytes, str], str]:
    from resiliparse.extract.html2text import extract_plain_text  # pyright: ignore[reportMissingModuleSource]
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding  # pyright: ignore[reportMissingModuleSource]

    def extract(page: bytes, charset: str) -> str:
        text = _decoded(page, charset)
        if text is None:
            text = bytes_to_str(page, detect_encoding(page, from_html_meta=True) or "utf-8")
        return extract_plain_text(text, main_content=True, alt_texts=False)

    return extract


def _decoded(page: bytes, charset: str) -> str | None:
    """``page`` in the character set that its server claims; None if that is not true, or none is claimed."""
    try:
        return page.decode(charset) if charset else None
    except (LookupError, ValueError):
        return None


def _decompressed(page: bytes, compression: str) -> bytes:
    """``page`` without its ``Content-Encoding``; as it is where that is not true, as in many archives."""
    try:
        if compression in ("gzip", "x-gzip", "deflate"):
            return zlib.decompressobj(wbits=47).decompress(page)
    except zlib.error:
        return page
    if compression != "br":
        return page
    import brotli

    try:
        return brotli.decompress(page)
    except brotli.error:
        return page


LIBRARIES = {"trafilatura": _by_trafilatura, "resiliparse": _by_resiliparse}


def _serve(library: str, seconds: str, memory: str) -> None:
    import logging

    logging.disable()
    extract = LIBRARIES[library]()
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _send(sys.stdout.buffer, b"ready")
    while True:
        try:
            charset, compression, page = (_receive(sys.stdin.buffer) for _ in range(3))
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, float(seconds))
        text = extract(_decompressed(page, compression.decode()), charset.decode())
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(sys.stdout.buffer, text.encode("utf-8", "replace"))


if __name__ == "__main__":
    _serve(*sys.argv[1:])

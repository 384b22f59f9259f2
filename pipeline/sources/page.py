"""The text of one page after another, as a program of its own that imports only the extraction library.

Request: kind (``html`` or ``text``), character set, codings to undo and page; response: why there is no text, or "",
and the text; each as 4 bytes of length and the bytes. What is no text by its first bytes is refused. Character sets are
read as the WHATWG Encoding standard has them.
"""

from __future__ import annotations

import codecs
import re
import resource
import signal
import struct
import sys
import zlib
from collections.abc import Callable
from typing import IO


def send(stream: IO[bytes], *frames: bytes) -> None:
    for frame in frames:
        stream.write(struct.pack(">I", len(frame)) + frame)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes:
    size = struct.unpack(">I", _exactly(stream, 4))[0]
    return _exactly(stream, size)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _by_trafilatura() -> Callable[[str], str]:
    import trafilatura

    return lambda text: trafilatura.extract(text, include_comments=False) or ""


def _by_resiliparse() -> Callable[[str], str]:
    from resiliparse.extract.html2text import extract_plain_text  # pyright: ignore[reportMissingModuleSource]

    return lambda text: extract_plain_text(text, main_content=True, alt_texts=False)


#: What a file of another kind begins with: the signatures of the WHATWG MIME Sniffing standard, and a few more.
_SIGNATURES = (
    *(
        (b"%PDF-", "PDF"),
        (b"%!PS-Adobe-", "PostScript"),
        (b"{\\rtf", "RTF"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "OLE file"),
    ),
    *((b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"), (b"\xff\xd8\xff", "JPEG")),
    *((b"RIFF", "RIFF file"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"\0\0\1\0", "icon"), (b"OggS\0", "Ogg")),
    *(
        (b"ID3", "MP3"),
        (b"FORM", "AIFF"),
        (b"MThd\0\0\0\6", "MIDI"),
        (b"\x1a\x45\xdf\xa3", "Matroska"),
        (b"fLaC", "FLAC"),
    ),
    *(
        (b"PK\3\4", "zip"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"Rar!\x1a\7", "rar"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"BZh", "bzip2"),
    ),
    *((b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\0asm", "WebAssembly"), (b"\x7fELF", "program")),
    *((b"wOFF", "font"), (b"wOF2", "font"), (b"OTTO\0", "font"), (b"\0\1\0\0", "font"), (b"ttcf", "font")),
    *((b"CWS", "Flash"), (b"FWS", "Flash"), (b"FLV\1", "Flash video"), (b"SQLite format 3\0", "SQLite")),
)
#: Of these, which a text may begin with, the control characters decide.
_WEAK = (b"RIFF", b"ID3", b"FORM", b"BZh", b"wOFF", b"wOF2", b"ttcf", b"CWS", b"FWS")
_SNIFFED = 1445
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_CONTROLS = bytes(byte for byte in range(32) if byte not in b"\t\n\x0c\r\x1b")
_PAGE = re.compile(
    rb"\s*<(?:!--|(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p)[\s>])",
    re.IGNORECASE,
)
#: Labels of pure ASCII, which servers also put on UTF-8.
_ASCII = ("us-ascii", "ascii", "ansi_x3.4-1968", "iso-ir-6", "iso646-us", "us")
#: Python's codecs that are closer to the decoders of the WHATWG Encoding standard than those of the same name.
_CODECS = {"shift_jis": "cp932", "gbk": "gb18030", "euc_kr": "cp949", "big5": "big5hkscs", "iso8859-11": "cp874"}


def looks_like_html(content: bytes) -> bool:
    """Whether it begins with a tag by which the WHATWG MIME Sniffing standard knows HTML."""
    head = content[:_SNIFFED]
    return _PAGE.match(head.removeprefix(b"\xef\xbb\xbf")) is not None


def _binary(data: bytes) -> str:
    """What ``data`` is instead of text; "" if it is text."""
    head = data[:_SNIFFED]
    if any(head.startswith(mark) for mark, _ in _BOMS):
        return ""
    controls = len(head) - len(head.translate(None, _CONTROLS))
    kind = next((name for start, name in _SIGNATURES if head.startswith(start)), "")
    if kind and (controls or not head.startswith(_WEAK)):
        return kind
    if head[4:8] == b"ftyp" and controls:
        return "MP4"
    return "binary data" if controls * 20 > len(head) and not _wide(head) else ""


def _wide(head: bytes) -> str:
    """The codec of UTF-16 without a byte order mark, mostly ASCII; "" if it is not that."""
    for codec, zeros, others in (("utf-16-le", head[1::2], head[::2]), ("utf-16-be", head[::2], head[1::2])):
        if zeros.count(0) * 2 > len(zeros) and not others.count(0):
            return codec
    return ""


def _decoded(data: bytes, charset: str, html: bool) -> str:
    """``data`` as text: by its byte order mark, else as its server says, else as the page itself says or looks.

    A claim that is not true, by the first byte that it does not allow, is passed over.
    """
    from resiliparse.parse.encoding import (  # pyright: ignore[reportMissingModuleSource]
        bytes_to_str,
        detect_encoding,
        map_encoding_to_html5,
    )

    for mark, codec in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(codec, "replace")
    names = []
    if charset.lower() in _ASCII:
        names = ["utf-8", "cp1252"]
    elif named := map_encoding_to_html5(charset, fallback_utf8=False) if charset else None:
        names = [named]
    elif not charset and not html:
        names = ["utf-8"]
    names.append(_wide(data[:_SNIFFED]))
    for name in filter(None, names):
        if (text := _by_codec(data, name)) is not None:
            return text
    name = detect_encoding(data, from_html_meta=html) or "utf-8"
    text = _by_codec(data, name)
    return bytes_to_str(data, _CODECS.get(name, name)) if text is None else text


def _by_codec(data: bytes, name: str) -> str | None:
    """``data`` by the codec for an encoding of the WHATWG standard; None if it holds what that does not allow."""
    single = name.startswith(("cp125", "cp874", "iso8859", "cp866", "koi8", "mac"))
    try:
        return data.decode(_CODECS.get(name, name), "c1" if single else "strict")
    except (LookupError, ValueError):
        return None


def _as_control(error: UnicodeError) -> tuple[str, int]:
    """Bytes that a code page leaves undefined are C1 controls, as the standard's indexes have it."""
    assert isinstance(error, UnicodeDecodeError)
    return "".join(map(chr, error.object[error.start : error.end])), error.end


def _decompressed(page: bytes, coding: str) -> bytes:
    """``page`` without its ``coding``; as it is where that is not true, as in many archives."""
    try:
        if coding in ("gzip", "x-gzip", "deflate"):
            return _inflated(page, coding)
        if coding == "br":
            import brotli

            try:
                return brotli.decompress(page)
            except brotli.error:
                return page
        if coding == "zstd":
            import zstandard

            try:
                with zstandard.ZstdDecompressor().stream_reader(page, read_across_frames=True) as reader:
                    return reader.read()
            except zstandard.ZstdError:
                return page
    except zlib.error:
        pass
    return page


def _inflated(page: bytes, coding: str) -> bytes:
    """All members of gzip, or deflate in zlib's wrapper or (as some servers send it) without. Raises zlib.error."""
    if page[:2] != b"\x1f\x8b":
        if coding != "deflate":
            return page
        try:
            return zlib.decompressobj().decompress(page)
        except zlib.error:
            return zlib.decompressobj(wbits=-15).decompress(page)
    out = []
    while page[:2] == b"\x1f\x8b":
        member = zlib.decompressobj(wbits=31)
        out.append(member.decompress(page))
        page = member.unused_data
    return b"".join(out)


LIBRARIES = {"trafilatura": _by_trafilatura, "resiliparse": _by_resiliparse}


def _serve(library: str, seconds: str, memory: str) -> None:
    import logging

    logging.disable()
    extract = LIBRARIES[library]()
    # loaded before the limit, so that it is not the first page's memory
    import resiliparse.parse.encoding  # noqa: F401  # pyright: ignore[reportMissingModuleSource]

    codecs.register_error("c1", _as_control)
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    send(sys.stdout.buffer, b"ready")
    while True:
        try:
            kind, charset, codings, page = (receive(sys.stdin.buffer) for _ in range(4))
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, float(seconds))
        for coding in codings.decode().split(","):
            page = _decompressed(page, coding)
        text = ""
        if fault := _binary(page):
            fault = f"not {'HTML' if kind == b'html' else 'text'}: {fault}"
        else:
            text = _decoded(page, charset.decode(), kind == b"html")
            text = extract(text) if kind == b"html" else text
        signal.setitimer(signal.ITIMER_PROF, 0)
        send(sys.stdout.buffer, fault.encode(), text.encode("utf-8", "replace"))


if __name__ == "__main__":
    _serve(*sys.argv[1:])

"""Plain text and Markdown, plain or compressed: one document a file, or one for each run of paragraphs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, ByteSize, Field

from pipeline.sources.base import Document, File, FileConfig, Ids, Record, Rejected, excerpt, find_files
from pipeline.sources.reading import TORN, Damaged, Line, bounded, open_file, read_lines
from pipeline.sources.reading import identity as identity

VERSION = 2
_BOM = b"\xef\xbb\xbf"


def _positive(size: ByteSize) -> ByteSize:
    if size < 1:
        raise ValueError("a block holds at least 1 byte (1: every paragraph is a document)")
    return size


class Text(FileConfig):
    """Documents from text files in UTF-8.

    With ``block_bytes`` a file is cut at blank lines into documents of whole paragraphs, each ended by the first blank
    line after that many bytes.
    """

    kind: Annotated[Literal["text"], Field(description="text files in UTF-8, a document per file")] = "text"
    block_bytes: Annotated[
        Annotated[ByteSize, AfterValidator(_positive)] | None,
        Field(
            description="cut a file into documents at the first blank line after this many bytes; default: one"
            " document per file"
        ),
    ] = None


def list_files(config: Text) -> list[File]:
    return find_files(config)


@bounded
def read(config: Text, file: File) -> Iterator[Record]:
    with open_file(file, config.max_compression_ratio) as stream:
        if config.block_bytes is None:
            yield _whole(config, file, stream)
        else:
            yield from _blocks(config, file, stream, config.block_bytes)


def _whole(config: Text, file: File, stream: io.BufferedReader) -> Document | Rejected:
    try:
        data = stream.read(config.max_document_bytes + 1)
    except Damaged as error:
        return Rejected(file.path, 1, 0, str(error))
    if len(data) > config.max_document_bytes:
        return Rejected(file.path, 1, 0, "longer than max_document_bytes", excerpt(data))
    return _document(config, file, f"{config.name}/{file.name}", data, 1, 0)


def _blocks(config: Text, file: File, stream: io.BufferedReader, size: int) -> Iterator[Record]:
    ids = Ids(config.name, file)
    lines = read_lines(stream, config.max_document_bytes)
    position = 0
    for block in _runs(lines, size, config.max_document_bytes):
        if block.damage is not None:
            yield block.damage.unread(file, position)
            continue
        position += 1
        if block.fault is not None:
            yield Rejected(file.path, position, block.offset, block.fault, excerpt(block.data))
        else:
            identifier, _ = ids.take(None, position)
            yield _document(config, file, identifier, block.data, position, block.offset)


def _runs(lines: Iterator[Line], size: int, limit: int) -> Iterator[Line]:
    """Lines joined to blocks of at least ``size`` bytes that begin and end with a line that is not blank.

    A block beyond ``limit`` bytes, or with a line that could not be read, comes as its beginning and a fault; so does
    the one behind a stretch that was not read, whose beginning may have been lost. Such a stretch ends a block.
    """
    block, gap = bytearray(), bytearray()  # ``gap``: blank lines that join the block if it goes on
    start = end = 0
    fault: str | None = None
    for _, offset, data, broken, damage, torn in lines:
        if damage is not None:
            if block or fault:
                yield Line(0, start, bytes(block).removesuffix(b"\r"), fault or "the file is damaged in it")
            yield Line(0, offset, b"", damage=damage)
            block.clear()
            gap.clear()
            fault = None
            continue
        broken = broken or (TORN if torn else None)
        if broken or data.strip():
            start = start if block or fault else offset
            end = offset + len(data)
            fault = fault or broken or ("longer than max_document_bytes" if end - start > limit else None)
            if not block:
                block += data
            elif not fault:
                block += b"\n" + gap + data
            gap.clear()
        elif fault or (block and end - start >= size):
            yield Line(0, start, bytes(block).removesuffix(b"\r"), fault)
            block.clear()
            gap.clear()
            fault = None
        elif block and len(gap) <= limit:
            gap += data + b"\n"
    if block or fault:
        yield Line(0, start, bytes(block).removesuffix(b"\r"), fault)


def _document(
    config: Text, file: File, identifier: str, data: bytes, position: int, offset: int
) -> Document | Rejected:
    try:
        text = data.removeprefix(_BOM if offset == 0 else b"").decode()
    except UnicodeDecodeError as error:
        return Rejected(file.path, position, offset + error.start, "invalid UTF-8", excerpt(data))
    return Document(identifier, text, config.name, config.domain or config.name)

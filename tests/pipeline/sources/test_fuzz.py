"""Files of records with damage of every sort: nothing raises, memory is bounded, and what is missing is said."""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
import os
import random
import re
import struct
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline import MillError
from pipeline.sources import READERS, Source
from pipeline.sources.base import Document, File, Record, Rejected, Unread
from pipeline.sources.csv import Csv
from pipeline.sources.jsonl import Jsonl
from pipeline.sources.parquet import Parquet
from pipeline.sources.text import Text

_COUNT = 60
_A_PIECE = 10  # records a compressed member, row group or batch
_TRIES = 60
_MEMORY = 400 << 20

TEXTS = [f"number {k} says {'naïve — 日本語, ' * (k % 3)}{k * 2654435761 % 2**32:x}." for k in range(_COUNT)]
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


class Whole(NamedTuple):
    """An undamaged file. ``starts``: where its pieces of records begin, and where the last ends; ``tail``: what must be
    whole for any to be found; ``a_piece``: records a piece.
    """

    data: bytes
    starts: list[int]
    a_piece: int
    tail: int
    source: Source


def _lines(name: str) -> tuple[list[bytes], Source]:
    """The header and the records, each as the bytes of its line, and the source that reads them."""
    if "jsonl" in name:
        lines = [json.dumps({"id": f"n{k}", "text": text}).encode() + b"\n" for k, text in enumerate(TEXTS)]
        return [b"", *lines], Jsonl(name="s", path=[name])
    if "txt" in name:
        return [b"", *(text.encode() + b"\n\n" for text in TEXTS)], Text(name="s", path=[name], block_bytes=1)  # type: ignore[arg-type]
    rows = []
    for row in [("id", "text", "more"), *((k, text, "x") for k, text in enumerate(TEXTS))]:
        buffer = io.StringIO()
        csv.writer(buffer, quoting=csv.QUOTE_ALL if "quoted" in name else csv.QUOTE_MINIMAL).writerow(row)
        rows.append(buffer.getvalue().encode())
    return rows, Csv(name="s", path=[name])


def _of_lines(name: str, packed: str) -> Whole:
    (header, *lines), source = _lines(name)
    a_piece = _A_PIECE if packed else 1
    pieces = [
        PACKERS[packed](b"".join(piece)) for piece in (lines[at : at + a_piece] for at in range(0, _COUNT, a_piece))
    ]
    header = PACKERS[packed](header) if header else b""
    return Whole(header + b"".join(pieces), list(accumulate(map(len, pieces), initial=len(header))), a_piece, 0, source)


def _table() -> pa.Table:
    columns = {"id": [f"n{k}" for k in range(_COUNT)], "text": TEXTS, "tags": [["a"] * (k % 3) for k in range(_COUNT)]}
    return pa.table({**columns, "kind": pa.array(["x", "y"] * (_COUNT // 2)).dictionary_encode()})


def _of_parquet(name: str) -> Whole:
    sink = pa.BufferOutputStream()
    pq.write_table(
        _table(),
        sink,
        row_group_size=_A_PIECE,
        compression="none" if "plain" in name else "zstd",
        use_dictionary="plain" not in name,
        write_page_checksum="plain" in name,
    )
    data = sink.getvalue().to_pybytes()
    about = pq.ParquetFile(io.BytesIO(data)).metadata
    starts = []
    for group in (about.row_group(k) for k in range(about.num_row_groups)):
        column = group.column(0)
        starts.append(column.dictionary_page_offset or column.data_page_offset)
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    return Whole(data, [*starts, end], _A_PIECE, len(data) - end, Parquet(name="s", path=[name]))


def _of_arrow(name: str) -> Whole:
    sink = pa.BufferOutputStream()
    new = pa.ipc.new_stream if "stream" in name else pa.ipc.new_file
    options = pa.ipc.IpcWriteOptions(compression="zstd" if "zstd" in name else None)
    starts = []
    with new(sink, _table().schema, options=options) as writer:
        for batch in _table().to_batches(max_chunksize=_A_PIECE):
            writer.write_batch(batch)
            starts.append(sink.tell())
    data = sink.getvalue().to_pybytes()
    return Whole(data, [starts[0], *starts], _A_PIECE, 0, Parquet(name="s", path=[name]))


FILES: dict[str, Whole] = {
    **{
        f"{name}{packed}": _of_lines(name, packed)
        for name in ("a.jsonl", "a.csv", "quoted.csv", "a.txt")
        for packed in PACKERS
        if not packed or name != "quoted.csv"
    },
    **{name: _of_parquet(name) for name in ("a.parquet", "plain.parquet")},
    **{name: _of_arrow(name) for name in ("a.arrow", "a.zstd.arrow", "a.stream.arrow", "b.zstd.stream.arrow")},
}
_PIECES = (b"\0", b"\n", b'"', b"\xff" * 9, b"\r\n\r\n", b"{}\n", b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"[" * 3000)


def damaged(data: bytes, source: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 8))):
        changed += b"" if changed else b"x"
        at, size = source.randrange(len(changed)), source.choice((1, 3, 40, 400))
        match source.randrange(8):
            case 0:
                changed[at] ^= 1 << source.randrange(8)
            case 1:
                changed[at] = source.randrange(256)
            case 2:
                del changed[at : at + size]
            case 3:
                changed[at:at] = source.choice(_PIECES)
            case 4:
                changed[at:at] = changed[source.randrange(len(changed)) :][:size]
            case 5:
                changed[at : at + size] = bytes(len(changed[at : at + size]))
            case 6:
                changed[at : at + size] = bytes(source.randrange(256) for _ in changed[at : at + size])
            case _:
                del changed[max(at, 1) :]
    return bytes(changed)


def read(source: Source, name: str, data: bytes, folder: Path) -> list[Record]:
    path = folder / name
    path.write_bytes(data)
    file = File(str(path), name, len(data))
    try:
        return list(READERS[source.kind].read(source, file))
    except MillError as error:
        assert name in str(error)  # noqa: PT017
        return [Unread(str(path), 0, 0, str(error), len(data), len(data))]


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """The most memory that the process holds within grows by no more than _MEMORY."""

    def peak() -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found
        return int(found[1]) << 10

    if not os.access("/proc/self/clear_refs", os.W_OK):
        yield
        return
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what it is now
    before = peak()
    yield
    assert peak() - before < _MEMORY


def missing(whole: Whole, name: str, data: bytes, found: list[Record]) -> list[str]:
    """What is wrong with ``found``, which is what was read of ``whole`` as ``data``."""
    texts = [row.text for row in found if isinstance(row, Document)]
    rejected = sum(row.count for row in found if isinstance(row, Rejected))
    unread = any(isinstance(row, Unread) for row in found)
    before, after = _same(whole.data, data)
    ends_whole = after >= whole.tail
    first = sum(end <= before for end in whole.starts[1:]) * whole.a_piece if ends_whole else 0
    last = sum(start > len(whole.data) - after for start in whole.starts[:-1]) * whole.a_piece
    wrong = []
    if texts[:first] != TEXTS[:first]:
        wrong.append(f"of {first} records before the damage {len(texts)} are read")
    moved = "parquet" in name and len(data) != len(whole.data)  # its footer says where everything stands
    if _goes_on(name) and ends_whole and not moved and before >= whole.starts[0]:
        torn = 1 if "jsonl" not in name and "parquet" not in name else 0
        lost = [text for text in TEXTS[_COUNT - last + torn :] if text not in texts]
        if lost:
            wrong.append(f"of {last} records behind the damage {len(lost)} are lost")
    kept = set(whole.data.split(b"\n")[1:]) & set(data.split(b"\n"))
    if name.endswith(".txt"):  # without the blank line between them two are one
        everything = "\n".join(texts).encode()
        standing = len(texts) + sum(line not in everything for line in kept)
    elif name.endswith((".jsonl", ".csv")):
        standing = len(kept - {b""})
    elif whole.data.startswith(data) and len(data) in (0, *whole.starts):  # nobody can see that
        standing = sum(start <= len(data) for start in whole.starts[1:]) * whole.a_piece
    else:
        standing = _COUNT
    if not unread and len(texts) + rejected < standing:
        wrong.append(f"{len(texts)} documents, {rejected} rejected of {standing}, and nothing is said")
    if (changed := set(texts).difference(TEXTS)) and not unread and _has_checksums(name):
        wrong.append(f"{len(changed)} documents are changed, and nothing is said")
    return wrong


def _same(one: bytes, other: bytes) -> tuple[int, int]:
    """How many bytes at the beginning and at the end are the same; no byte is counted twice."""
    size = min(len(one), len(other))
    before = next((at for at in range(size) if one[at] != other[at]), size)
    return before, next((at for at in range(size - before) if one[-1 - at] != other[-1 - at]), size - before)


def _has_checksums(name: str) -> bool:
    return name.endswith((*filter(None, PACKERS), "plain.parquet"))


def _goes_on(name: str) -> bool:
    """Whether the format says where records begin again behind damage."""
    return not name.endswith((".csv", ".arrow"))


@pytest.mark.parametrize("name", FILES)
def test_damage_costs_what_is_damaged_and_is_said(tmp_path, name):
    source = random.Random(name)
    whole = FILES[name]
    assert [row.text for row in read(whole.source, name, whole.data, tmp_path) if isinstance(row, Document)] == TEXTS
    with bounded_memory():
        for _ in range(_TRIES):
            data = damaged(whole.data, source)
            assert missing(whole, name, data, read(whole.source, name, data, tmp_path)) == []


HOSTILE: dict[str, bytes] = {
    "footer.parquet": b"PAR1" + b"\0" * 40 + b"\xff\xff\xff\x7fPAR1",
    "list.parquet": b"PAR1" + b"\x15\x02\x19\xfc\xff\xff\xff\xff\x0f" + struct.pack("<I", 9) + b"PAR1",
    "names.parquet": b"PAR1" + b"\x15\x02\x19\x1c\x48\xff\xff\xff\xff\x07" + struct.pack("<I", 10) + b"PAR1",
    "message.arrow": b"\xff\xff\xff\xff\xff\xff\xff\x7f" + b"\0" * 64,
    "table.arrow": b"\xff\xff\xff\xff" + struct.pack("<I", 64) + b"\xff" * 64,
    "file.arrow": b"ARROW1\0\0" + b"\xff" * 40 + struct.pack("<i", -1) + b"ARROW1",
    "only.arrow": b"ARROW1",
    "dictionary.jsonl.xz": lzma.compress(b"{}", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]),
    "window.jsonl.zst": b"\x28\xb5\x2f\xfd\x00\xf8" + b"\x01\x00\x00" * 9,
    "sizes.jsonl.zst": b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8 + b"\x01\x00\x00" * 9,
    "extra.jsonl.gz": b"\x1f\x8b\x08\x04" + b"\0" * 6 + b"\xff\xff" + b"x" * 50,
    "zeros.jsonl.gz": bytes(5000),
    "deep.jsonl": b"[" * 1_000_000 + b"\n" + b'{"a":' * 200_000 + b"\n",
    "digits.jsonl": b'{"text": ' + b"9" * 1_000_000 + b"}\n",
    "keys.jsonl": b'{"text": {"text": 1, "text": [2]}, "text\\u0000": 3}\n',
    "surrogates.jsonl": b'{"text": "\\ud800\\udc00\\ud800"}\n' + b"\xed\xa0\x80\n",
    "quotes.csv": b"text,b\n" + b'"' * 300_001 + b"\n",
    "open.csv": b"text,b\n" + b'"a\n' * 3000,
    "nul.csv": b"te\0xt,b\n\0,\0\n",
    "bytes.txt": bytes(range(256)) * 50,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_cost_little_and_are_said(tmp_path, name):
    kinds = {"parquet": Parquet, "arrow": Parquet, "jsonl": Jsonl, "csv": Csv, "txt": Text}
    config = kinds[name.split(".")[1]](name="s", path=[name])  # type: ignore[operator]
    began = time.process_time()
    with bounded_memory():
        found = read(config, name, HOSTILE[name], tmp_path)
    assert time.process_time() - began < 10
    assert any(isinstance(row, Rejected | Unread) for row in found)

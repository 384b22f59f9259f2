"""Decompression and lines: what is before a damage is read, and no input expands without bound."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tracemalloc
import zipfile

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.base import File
from pipeline.sources.reading import Damaged, identity, open_file, read_lines
from pipeline.sources.text import Text

COMPRESS = {
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}

CONFIG = Text(name="s", path=["x"])


def stored(folder, name: str, data: bytes) -> File:
    path = folder / name
    path.write_bytes(data)
    return File(str(path), name, len(data))


def content(file: File, max_ratio: float = 200.0) -> bytes:
    with open_file(file, max_ratio) as stream:
        return stream.read()


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_compressed_file_of_several_members_reads_as_one(tmp_path, ending):
    pieces = [b"one\n" * 5000, b"", b"two\n", bytes(range(256)) * 300]
    data = b"".join(map(COMPRESS[ending], pieces))
    assert content(stored(tmp_path, "x" + ending, data)) == b"".join(pieces)
    assert content(stored(tmp_path, "y" + ending.upper(), data + b"\0" * 512)) == b"".join(pieces)
    assert content(stored(tmp_path, "empty" + ending, b"")) == b""


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("cut", [1, 5, 300, 3000])
def test_lines_before_a_truncation_are_read_and_the_rest_is_one_fault_at_its_offset(tmp_path, ending, cut):
    lines = [f"{index} {hash_of(index)}" for index in range(20_000)]
    whole = "".join(line + "\n" for line in lines).encode()
    data = COMPRESS[ending](whole)
    with open_file(stored(tmp_path, "x" + ending, data[:-cut]), 200.0) as stream:
        *read, last = read_lines(stream, 1 << 20)
    assert [line.data.decode() for line in read] == lines[: len(read)]
    assert last[:4] == (len(read), sum(len(line.data) + 1 for line in read), b"", None)
    assert last.damage is not None
    assert last.damage.missing
    assert str(last.damage) == "the compressed file ends in mid stream"
    lost = len(whole) - last.offset
    block = 900_000 if ending == ".bz2" else 1 << 17
    assert lost <= cut * 10 + block, "zstd works in blocks of 128 KiB, bzip2 of 900 kB; nothing else may be lost"


def hash_of(index: int) -> int:
    return index * 2654435761 % 2**32


@pytest.mark.parametrize("ending", COMPRESS)
def test_damage_inside_a_compressed_file_ends_it_with_a_fault(tmp_path, ending):
    data = bytearray(COMPRESS[ending](b"".join(b"%d\n" % hash_of(index) for index in range(20_000))))
    data[len(data) // 2] ^= 0xFF
    data[len(data) // 2 + 1] ^= 0xFF
    with pytest.raises(Damaged):
        content(stored(tmp_path, "x" + ending, bytes(data)))
    with pytest.raises(Damaged, match="damaged"):
        content(stored(tmp_path, "y" + ending, b"not compressed at all"))


@pytest.mark.parametrize("ending", COMPRESS)
def test_what_stands_in_whole_members_behind_a_damaged_one_is_read(tmp_path, ending):
    members = [b"".join(b"%d %d\n" % (m, hash_of(i)) for i in range(5000)) for m in range(4)]
    packed = [COMPRESS[ending](member) for member in members]
    for number in (0, 2):
        middle = bytearray(packed[number])
        middle[len(middle) // 3] ^= 0xFF
        middle[len(middle) // 3 + 1] ^= 0xFF
        packed[number] = bytes(middle)
    read, lost = b"", []
    with open_file(stored(tmp_path, "x" + ending, b"".join(packed)), 200.0) as stream:
        for line in read_lines(stream, 1 << 20):
            read += b"" if line.damage else line.data + b"\n"
            lost += [line.damage] if line.damage else []
    starts = [sum(map(len, packed[:number])) for number in range(5)]
    assert [damage.offset + damage.size for damage in lost] == [starts[1], starts[3]]
    for damage, number in zip(lost, (0, 2), strict=True):
        assert starts[number] <= damage.offset < starts[number + 1]
        assert damage.size > len(packed[number]) // 2 or "may be wrong" not in str(damage)
    if ending in (".gz", ".xz"):  # of the others a member this small is one block
        assert members[0][:10_000] in read
        assert members[2][:10_000] in read
    assert members[1] in read
    assert read.endswith(members[3])


def test_compression_is_known_by_the_first_bytes_where_the_name_does_not_say_and_other_kinds_are_named(tmp_path):
    for ending, compress in COMPRESS.items():
        assert content(stored(tmp_path, f"named{ending}.txt", compress(b"content"))) == b"content"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "content")
    with pytest.raises(Damaged, match=r"packed by zip, which is not read; known are \.gz, \.zst, \.bz2, \.xz"):
        content(stored(tmp_path, "a.jsonl", buffer.getvalue()))


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_bomb_is_stopped_by_its_ratio_in_bounded_memory(tmp_path, ending):
    bomb = stored(tmp_path, "x" + ending, COMPRESS[ending](bytes(120 << 20)))
    tracemalloc.start()
    with open_file(bomb, 200.0) as stream:
        lines = list(read_lines(stream, 1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [str(line.damage) for line in lines] == ["expands beyond max_compression_ratio"]
    assert lines[0].damage is not None
    assert lines[0].damage.unread(bomb, 0).bytes > 0  # it weighs something in the error budget
    assert peak < 100 << 20


def test_the_ratio_can_be_raised_and_leaves_small_files_alone(tmp_path):
    repeated = b"the same line again\n" * (2 << 20)
    file = stored(tmp_path, "x.gz", gzip.compress(repeated))
    with pytest.raises(Damaged):
        content(file, max_ratio=50)
    assert content(file, max_ratio=1000) == repeated
    assert len(content(stored(tmp_path, "small.gz", gzip.compress(bytes(1 << 20))), max_ratio=2)) == 1 << 20


@given(st.lists(st.binary(max_size=12).map(lambda raw: raw.replace(b"\n", b"")), max_size=20), st.booleans())
def test_lines_end_at_newlines_only_and_their_offsets_find_them(lines, ended):
    data = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    found = list(read_lines(io.BufferedReader(io.BytesIO(data)), 100))  # type: ignore[arg-type]
    expected = data.split(b"\n")
    assert [piece for line in found for piece in line.data.split(b"\n")] == (
        expected[:-1] if expected[-1] == b"" else expected
    )
    assert all(data[: line.offset].count(b"\n") == line.number - 1 for line in found)
    assert all(data[line.offset :].startswith(line.data) for line in found)


@given(st.lists(st.integers(0, 30), min_size=1), st.integers(1, 12), st.booleans())
def test_only_the_lines_beyond_the_limit_are_passed_over(sizes, limit, ended):
    data = b"\n".join(b"x" * size for size in sizes) + (b"\n" if ended else b"")
    found = list(read_lines(io.BufferedReader(io.BytesIO(data)), limit))  # type: ignore[arg-type]
    expected = sizes if ended or sizes[-1] else sizes[:-1]
    assert [line.fault is not None for line in found] == [size > limit for size in expected]
    assert all(data[line.offset : line.offset + 1] in (b"x", b"\n") for line in found)
    starts = [sum(sizes[:index]) + index for index in range(len(expected))]
    assert [line.offset for line in found] == starts


def test_an_oversized_line_is_never_held(tmp_path):
    path = tmp_path / "x.jsonl"
    with path.open("wb") as handle:
        for _ in range(200):
            handle.write(bytes(1 << 20))
        handle.write(b"\nnext\n")
    tracemalloc.start()
    with open_file(File(str(path), path.name, 0), 200.0) as stream:
        lines = list(read_lines(stream, 1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(line.offset, line.data[:10], line.fault) for line in lines] == [
        (0, bytes(10), "longer than max_document_bytes"),
        ((200 << 20) + 1, b"next", None),
    ]
    assert peak < 10 << 20


def test_the_identity_of_a_file_is_its_content(tmp_path):
    one, same = stored(tmp_path, "one", b"content"), stored(tmp_path, "same", b"content")
    assert identity(CONFIG, one) == identity(CONFIG, same)
    before = identity(CONFIG, one)
    stat = (tmp_path / "one").stat()
    (tmp_path / "one").write_bytes(b"CONTENT")
    os.utime(tmp_path / "one", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert identity(CONFIG, one) != before, "equal size and time, other content"

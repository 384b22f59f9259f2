"""What the checksums of outputs cost: shards written and read with them and without, one process.

Read is every byte of the text (its hashes, as the stage ``exact`` takes them: the cheapest stage there is), so that a
memory map is not just opened. Processor time, the best of several rounds; files are in the page cache.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from unittest import mock

import pyarrow as pa

from benchmarks.documents import prose
from pipeline.store import checksums, shards
from pipeline.text.hashing import document_hash


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    texts = pa.concat_arrays([prose(options.megabytes / 2)] * 2)
    rows = -(-len(texts) // options.shards)
    tables = [pa.table({"text": texts.slice(at, rows)}) for at in range(0, len(texts), rows)]
    size = sum(table.nbytes for table in tables) / 1e6
    print(f"{size:.1f} MB in {len(tables)} shards; seconds of one core's time, with checksums and without")
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{number:05d}.arrow" for number in range(len(tables))]

        def write() -> None:
            for path, table in zip(paths, tables, strict=True):
                shards.write_table(path, table, "benchmark")

        def read() -> None:
            for path in paths:
                document_hash(shards.read_table(path)["text"].combine_chunks(), 0)

        write()
        read()  # compiles the kernel
        for name, work in (("write", write), ("first read", read)):
            summed, plain = (min(_time(work, on) for _ in range(options.rounds)) for on in (True, False))
            added = (summed - plain) / size * 1e3  # seconds a gigabyte
            print(f"{name:12} {summed:.3f} {plain:.3f}  ratio {summed / plain:.2f}  {added:.2f} s more a GB")


def _time(work: Callable[[], None], on: bool) -> float:
    checksums._whole.clear()  # as in a process that has read nothing yet
    with ExitStack() as stack:
        if not on:
            stack.enter_context(mock.patch.object(checksums, "note"))
            stack.enter_context(mock.patch.object(checksums, "is_whole", return_value=True))
        start = time.process_time()
        work()
        return time.process_time() - start


if __name__ == "__main__":
    main()

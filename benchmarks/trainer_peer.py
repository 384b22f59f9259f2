"""How long gigatoken takes to train byte-level BPE: for the interpreter of ``.venv-encoders`` (``make
.venv-encoders``), which does not hold this project; so it must not import it.

    python trainer_peer.py FILE VOCABULARY THREADS

FILE holds the documents with a byte 0xFF, which no UTF-8 holds, between each two. Writes one object: the version, the
seconds by the clock and of processor time, the peak of memory above what the process held with the text loaded and that
of all of it (MiB), and the merges as pairs of hexadecimal bytes. A vocabulary of 256 learns nothing: that is counting.
"""

# pyright: reportMissingImports=false
import json
import os
import re
import sys
import time
from importlib.metadata import version
from pathlib import Path


def main(file: str, vocabulary: str, threads: str) -> None:
    os.environ["RAYON_NUM_THREADS"] = threads
    from gigatoken import train_bpe

    text = Path(file).read_bytes()
    train_bpe(text[:100_000].rpartition(b"\xff")[0], 300, [], separator=b"\xff")
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted again from here
    start, processor = time.perf_counter(), time.process_time()
    _, merges = train_bpe(text, int(vocabulary), [], separator=b"\xff")
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    result = {
        "version": version("gigatoken"),
        "seconds": seconds,
        "processor": processor,
        "memory": (_status("VmHWM") - before) >> 10,
        "whole": _status("VmHWM") >> 10,
        "merges": [(left.hex(), right.hex()) for left, right in merges],
    }
    print("\n" + json.dumps(result))


def _status(name: str) -> int:
    """kB"""
    line = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert line
    return int(line[1])


if __name__ == "__main__":
    main(*sys.argv[1:])

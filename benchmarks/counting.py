"""Counting pre-tokens: the rate on one core, and that memory is the same for 100 MB as for 2 GB of text.

Each size is counted in a process of its own as a build does it: shard by shard, then partition by partition, results
on disk. The text is prose read again and again; each time another twentieth of it is enciphered, so that new words keep
coming as they do in a growing corpus. Beside the rate stands gigatoken's where ``.venv-encoders`` has it: its trainer
only counts if the vocabulary is that of bytes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pyarrow as pa

from benchmarks import tokenizers
from benchmarks.documents import prose
from pipeline.store import shards
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.training import counts

#: trainer: how its text is cut, MB/s of one core's processor time
KINDS = {"bpe": ("GPT-2", 200), "wordpiece": ("BERT", 100), "unigram": ("Metaspace", 50)}
SHARD = 16  # MB of text
LETTERS = b"abcdefghijklmnopqrstuvwxyz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, nargs=2, default=[100, 2000])
    options = parser.parse_args()
    texts = prose(30)
    for algorithm, (name, wanted) in KINDS.items():
        config = TokenizerConfig.model_validate({"name": "x", "algorithm": algorithm, "vocab_size": 16_000})
        rate = texts.nbytes / 1e6 / least_seconds(texts, config)
        print(
            f"{name:10} {rate:6.1f} MB/s of processor time on one core  {verdict(rate >= wanted)} ({wanted})",
            flush=True,
        )
        if algorithm == "bpe":
            beside_gigatoken(texts, rate)
    peaks = []
    for megabytes in options.megabytes:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            distinct, total, peak, seconds = pool.submit(count, megabytes).result()
        peaks.append(peak)
        print(
            f"{megabytes:5} MB: {total:,} pre-tokens, {distinct:,} distinct, {seconds:.1f} s, peak {peak} MiB",
            flush=True,
        )
    print(f"memory grows by {peaks[1] / peaks[0] - 1:.0%}  {verdict(peaks[1] <= 1.1 * peaks[0])} (at most 10 %)")


def beside_gigatoken(texts: pa.StringArray, rate: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/texts.arrow"
        with pa.ipc.new_file(path, pa.schema([("text", texts.type)])) as writer:
            writer.write(pa.record_batch({"text": texts}))
        seconds, version = [], ""
        while len(seconds) < 3 and (run := tokenizers.peer(path, 256, "1")):
            seconds.append(run["processor"])
            version = run["version"]
    if seconds:
        other = texts.nbytes / 1e6 / min(seconds)
        print(f"{'':10} gigatoken {version}: {other:.1f} MB/s; ours {rate / other:.2f} times as fast", flush=True)


def verdict(holds: bool) -> str:
    return "PASS" if holds else "short"


def least_seconds(texts: pa.StringArray, config: TokenizerConfig) -> float:
    """The best of three, after one that loads the kernels."""
    counts.count(texts.slice(0, 20), config)
    times = []
    for _ in range(3):
        began = time.process_time()
        counts.count(texts, config)
        times.append(time.process_time() - began)
    return min(times)


def count(megabytes: int) -> tuple[int, int, int, float]:
    """``(distinct pre-tokens, pre-tokens, peak MiB of this process, processor seconds)`` of ``megabytes`` of text."""
    config = TokenizerConfig(name="x", algorithm="bpe", vocab_size=16_000)
    texts = prose(SHARD)
    seconds = 0.0
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, f"{number}.arrow")) for number in range(-(-megabytes // SHARD))]
        for number, path in enumerate(paths):
            shard = enciphered(texts, number)
            began = time.process_time()
            shards.write_table(path, counts.count(shard, config), "benchmark")
            seconds += time.process_time() - began
        began, distinct, total = time.process_time(), 0, 0
        for part in range(counts.PARTITIONS):
            merged = counts.merge(counts.partition(shards.read_table(path), part) for path in paths)
            distinct += len(merged)
            total += int(merged["count"].to_numpy().sum())
        seconds += time.process_time() - began
        return distinct, total, peak_mebibytes(), seconds


def peak_mebibytes() -> int:
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak
    return int(peak[1]) >> 10


def enciphered(texts: pa.StringArray, number: int) -> pa.StringArray:
    """``texts`` with every twentieth, another one for each ``number``, written in a shifted alphabet."""
    by = number % 25 + 1
    table = bytes.maketrans(LETTERS, LETTERS[by:] + LETTERS[:by])
    return pa.array(
        [t.encode().translate(table).decode() if i % 20 == number % 20 else t for i, t in enumerate(texts.to_pylist())]
    )


if __name__ == "__main__":
    main()

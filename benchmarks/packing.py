"""Packing beside Hugging Face tokenizers: the same text, the same tokenizer.json, one core, processor time.

With ``--processes N`` as many processes of ours by the clock, beside as many threads of the library's.

Ours goes from Arrow to files: sentences found, tokens and documents written. The library encodes a list of texts
(``encode_batch_fast``) and keeps its own objects. Kernels are compiled before the clock starts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.documents import prose
from pipeline.tokenization import pack
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.formats.folder import save
from pipeline.tokenization.training import counts, train

CASES = (
    ("byte-level BPE, GPT-2's cut", {"algorithm": "bpe"}),
    ("byte-level BPE, GPT-4's cut", {"algorithm": "bpe", "pre_tokenizer": "gpt4"}),
    ("byte-level BPE, NFKC, lower", {"algorithm": "bpe", "normalizer": "nfkc", "lowercase": True}),
    ("BPE over characters", {"algorithm": "bpe", "pre_tokenizer": "whitespace"}),
    ("WordPiece", {"algorithm": "wordpiece", "score": "frequency"}),
    ("Unigram", {"algorithm": "unigram"}),
)

_shared: dict[str, Barrier] = {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=30)
    parser.add_argument("--vocabulary", type=int, default=16_000)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    several = options.processes > 1
    os.environ |= {"TOKENIZERS_PARALLELISM": str(several).lower(), "RAYON_NUM_THREADS": str(options.processes)}
    clock = time.perf_counter if several else time.process_time
    texts = prose(options.megabytes)
    listed = texts.to_pylist()
    size = sum(len(text.encode()) for text in listed) / 1e6
    print(
        f"{size:.1f} MB, {len(listed)} documents, {options.vocabulary} entries; MB a second of "
        + (f"the clock, {options.processes} processes or threads" if several else "one core's time")
    )
    for name, values in CASES:
        config = TokenizerConfig.model_validate({"name": "x", "vocab_size": options.vocabulary, **values})
        learned = train.train(counts.count(texts.slice(0, len(texts) // 8), config), config)
        with tempfile.TemporaryDirectory() as folder:
            save(folder, learned, config)
            tokenizer = pack.load(f"{folder}/tokenizer.json")
            if several:
                ours = _shared_out(folder, texts, options.processes)
            else:
                _pack(folder, 0, texts.slice(0, 5))  # the kernels are there before the clock starts
                ours = _seconds(clock, _pack, folder, 0, texts)
            theirs = _seconds(clock, tokenizer.encode_batch_fast, listed, add_special_tokens=False)
            alone = _seconds(clock, tokenizer.encode_batch, listed, add_special_tokens=False)
        print(
            f"{name:28} ours {size / ours:6.1f}   encode_batch {size / alone:6.1f}   encode_batch_fast"
            f" {size / theirs:6.1f}   {alone / ours:.1f} and {theirs / ours:.1f} times as fast",
            flush=True,
        )


def _seconds(clock: Callable[[], float], work: Callable[..., object], *arguments: Any, **options: Any) -> float:
    start = clock()
    work(*arguments, **options)
    return clock() - start


def _shared_out(folder: str, texts: pa.StringArray, processes: int) -> float:
    """Seconds by the clock that ``processes`` take, each for its share of the texts, once all have their kernels."""
    share = -(-len(texts) // processes)
    ready = multiprocessing.get_context("spawn").Barrier(processes)
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _meet, (ready,)) as pool:
        parts = [(folder, n, texts.slice(n * share, share)) for n in range(processes)]
        spans = list(pool.map(_pack_when_all_are_ready, *zip(*parts, strict=True)))
    return max(end for _, end in spans) - min(start for start, _ in spans)


def _meet(ready: Barrier) -> None:
    _shared["ready"] = ready


def _pack_when_all_are_ready(folder: str, index: int, texts: pa.StringArray) -> tuple[float, float]:
    _pack(folder, index, texts.slice(0, 5))
    _shared["ready"].wait()
    start = time.time()
    _pack(folder, index, texts)
    return start, time.time()


def _pack(folder: str, index: int, texts: pa.StringArray) -> int:
    encoder = Encoder(pack.load(f"{folder}/tokenizer.json"))
    columns = {
        "id": [f"d{row}" for row in range(len(texts))],
        "text": texts,
        "domain": ["all"] * len(texts),
        "repeats": np.ones(len(texts), np.int32),
    }
    return pack.pack_shard(folder, index, pa.table(columns), encoder, 0, "benchmark")


if __name__ == "__main__":
    main()

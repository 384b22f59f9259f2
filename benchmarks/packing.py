"""Packing beside Hugging Face tokenizers: the same text, the same tokenizer.json, one core, processor time.

Ours goes from Arrow to files: sentences found, tokens and documents written. The library encodes a list of texts
(``encode_batch_fast``) and keeps its own objects. Kernels are compiled before the clock starts.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.documents import prose
from pipeline.tokenization import counts, pack, train
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.encode import Encoder
from pipeline.tokenization.folder import save

CASES = (
    ("byte-level BPE, GPT-2's cut", {"algorithm": "bpe"}),
    ("byte-level BPE, GPT-4's cut", {"algorithm": "bpe", "pre_tokenizer": "gpt4"}),
    ("byte-level BPE, NFKC, lower", {"algorithm": "bpe", "normalizer": "nfkc", "lowercase": True}),
    ("BPE over characters", {"algorithm": "bpe", "pre_tokenizer": "whitespace"}),
    ("WordPiece", {"algorithm": "wordpiece", "score": "frequency"}),
    ("Unigram", {"algorithm": "unigram"}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=30)
    parser.add_argument("--vocabulary", type=int, default=16_000)
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    texts = prose(options.megabytes)
    listed = texts.to_pylist()
    size = sum(len(text.encode()) for text in listed) / 1e6
    print(f"{size:.1f} MB, {len(listed)} documents, {options.vocabulary} entries; MB a second of one core's time")
    for name, values in CASES:
        config = TokenizerConfig.model_validate({"name": "x", "vocab_size": options.vocabulary, **values})
        learned = train.train(counts.count(texts.slice(0, len(texts) // 8), config), config)
        with tempfile.TemporaryDirectory() as folder:
            save(folder, learned, config)
            tokenizer = pack.load(f"{folder}/tokenizer.json")
            _pack(folder, texts.slice(0, 5), Encoder(tokenizer))  # the kernels are there before the clock starts
            ours = _seconds(_pack, folder, texts, Encoder(tokenizer))
            theirs = _seconds(tokenizer.encode_batch_fast, listed, add_special_tokens=False)
            alone = _seconds(tokenizer.encode_batch, listed, add_special_tokens=False)
        print(
            f"{name:28} ours {size / ours:6.1f}   encode_batch {size / alone:6.1f}   encode_batch_fast"
            f" {size / theirs:6.1f}   {alone / ours:.1f} and {theirs / ours:.1f} times as fast",
            flush=True,
        )


def _seconds(work: Callable[..., object], *arguments: Any, **options: Any) -> float:
    start = time.process_time()
    work(*arguments, **options)
    return time.process_time() - start


def _pack(folder: str, texts: pa.StringArray, encoder: Encoder) -> int:
    columns = {
        "id": [f"d{row}" for row in range(len(texts))],
        "text": texts,
        "domain": ["all"] * len(texts),
        "repeats": np.ones(len(texts), np.int32),
    }
    return pack.pack_shard(folder, 0, pa.table(columns), encoder, 0, "benchmark")


if __name__ == "__main__":
    main()

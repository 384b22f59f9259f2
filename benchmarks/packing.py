"""Packing beside Hugging Face tokenizers: the same text, the same tokenizer.json, one core, processor time.

With ``--processes N`` as many processes of ours by the clock, beside as many threads of the library's.

Ours goes from Arrow to files: sentences found, tokens and documents written. The library encodes a list of texts
(``encode_batch_fast``) and keeps its own objects. Kernels are compiled before the clock starts. Where
``.venv-encoders`` is there (``make .venv-encoders``), the fastest encoders of others follow, which only encode as well:
their first pass and, in brackets, a second over the same text, as ours by a build's worker, which keeps its encoder.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tokenizers
from tokenizers import Encoding, Tokenizer

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

ENVIRONMENT = Path(__file__).resolve().parents[1] / ".venv-encoders"
PEERS = ("tokenizers", "tokie", "gigatoken")

_shared: dict[str, Barrier] = {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=30)
    parser.add_argument("--vocabulary", type=int, default=16_000)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    several = options.processes > 1
    print(f"tokenizers {tokenizers.__version__}; {_newer()}")
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
            again = ""
            if several:
                ours = _shared_out(folder, texts, options.processes)
            else:
                _pack(folder, 0, texts.slice(0, len(texts) // 8))  # so the kernels are there before the clock starts
                encoder = Encoder(pack.load(f"{folder}/tokenizer.json"))
                ours = _seconds(clock, _pack, folder, 0, texts)
                _pack(folder, 0, texts, encoder)
                again = f" ({size / _seconds(clock, _pack, folder, 0, texts, encoder):.1f})"
            start = clock()
            encoded = tokenizer.encode_batch_fast(listed, add_special_tokens=False)
            theirs = clock() - start
            digest = _digest(tokenizer, texts, encoded)
            del encoded
            alone = _seconds(clock, tokenizer.encode_batch, listed, add_special_tokens=False)
            others = (
                [] if several else [_peer(peer, f"{folder}/tokenizer.json", listed, digest, ours) for peer in PEERS]
            )
        print(
            f"{name:28} ours {size / ours:6.1f}{again}   encode_batch {size / alone:6.1f}   encode_batch_fast"
            f" {size / theirs:6.1f}   {alone / ours:.1f} and {theirs / ours:.1f} times as fast",
            *others,
            sep="\n    ",
            flush=True,
        )


def _digest(tokenizer: Tokenizer, texts: pa.StringArray, theirs: list[Encoding]) -> int:
    """CRC-32 of all ids that ours gives. Raises ValueError where the library's are others."""
    ours = np.concatenate([block.tokens for block in Encoder(tokenizer).encode(texts)]).astype("<u4")
    if not np.array_equal(ours, np.fromiter(chain.from_iterable(encoding.ids for encoding in theirs), np.uint32)):
        raise ValueError("the ids are not those of tokenizers")
    return zlib.crc32(ours.tobytes())


def _peer(name: str, path: str, texts: list[str], digest: int, ours: float) -> str:
    """What another encoder makes of ``texts``, beside our ids and seconds, as a line."""
    if not (ENVIRONMENT / ".installed").exists():
        return f"{name}: not there, `make {ENVIRONMENT.name}` installs it"
    done = subprocess.run(
        [str(ENVIRONMENT / "bin" / "python"), "-P", str(Path(__file__).with_name("encoder_peer.py")), name, path],
        input="".join(json.dumps(text) + "\n" for text in texts).encode(),
        capture_output=True,
        check=False,
        env={**os.environ, "RAYON_NUM_THREADS": "1"},
    )
    if done.returncode:
        reason = (done.stderr.decode(errors="replace").strip() or "no message").splitlines()[-1]
        return f"{name}: cannot encode with this tokenizer ({reason[:100]})"
    result = json.loads(done.stdout)
    first, again = (sum(len(text.encode()) for text in texts) / 1e6 / seconds for seconds in result["seconds"])
    same = "the same ids" if result["digest"] == digest else "OTHER IDS"
    times = result["seconds"][0] / ours
    return f"{name} {result['version']}: {first:.1f} ({again:.1f}), {same}; ours {times:.2f} times as fast"


def _newer() -> str:
    """Whether the package index has a newer ``tokenizers`` than the one measured."""
    asked = [sys.executable, "-m", "pip", "index", "versions", "tokenizers", "--pre", "--disable-pip-version-check"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    match = re.match(r"tokenizers \((.+)\)", done.stdout)
    if not match:
        return "the package index does not answer, there may be a newer one"
    is_newest = match[1] == tokenizers.__version__
    return "none is newer" if is_newest else f"WARNING: {match[1]} is newer, these numbers are not about it"


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
    _pack(folder, index, texts.slice(0, len(texts) // 8))
    _shared["ready"].wait()
    start = time.time()
    _pack(folder, index, texts)
    return start, time.time()


def _pack(folder: str, index: int, texts: pa.StringArray, encoder: Encoder | None = None) -> int:
    """By an ``encoder`` that may have read something, or by a new one."""
    encoder = encoder or Encoder(pack.load(f"{folder}/tokenizer.json"))
    columns = {
        "id": [f"d{row}" for row in range(len(texts))],
        "text": texts,
        "domain": ["all"] * len(texts),
        "repeats": np.ones(len(texts), np.int32),
    }
    return pack.pack_shard(folder, index, pa.table(columns), encoder, 0, "benchmark")


if __name__ == "__main__":
    main()

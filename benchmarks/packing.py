"""Packing beside Hugging Face tokenizers: the same text, the same tokenizer.json, one core, processor time.

With ``--processes N`` as many processes of ours by the clock, beside as many threads of the library's.

Ours goes from Arrow to files: sentences found, tokens and documents written. The library encodes a list of texts
(``encode_batch_fast``) and keeps its own objects, and is given the first ``--part`` MB alone, for all would take it
minutes. Tokenizers are opened and kernels compiled before the clock starts. Where ``.venv-encoders`` is there (``make
.venv-encoders``), the fastest encoders of others follow, which only encode as well: their first pass and, in brackets,
a second over the same text, as ours by a build's worker, which keeps its encoder. Best of ``--rounds``, taken in turns.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import tempfile
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer, __version__

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
CLAIM = 100  # MB a second from an empty cache
PEERS = ("tokenizers", "tokie", "gigatoken")

_shared: dict[str, Barrier] = {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=30)
    parser.add_argument("--part", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=16_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    several = options.processes > 1
    os.environ |= {"TOKENIZERS_PARALLELISM": str(several).lower(), "RAYON_NUM_THREADS": str(options.processes)}
    texts = prose(options.megabytes)
    part = texts.slice(0, len(texts) * options.part // options.megabytes)
    print(
        f"{_megabytes(texts):.1f} MB, {len(texts)} documents, {options.vocabulary} entries; MB a second of "
        + (f"the clock, {options.processes} processes or threads" if several else "one core's time")
    )
    for name, values in CASES:
        config = TokenizerConfig.model_validate({"name": "x", "vocab_size": options.vocabulary, **values})
        learned = train.train(counts.count(part, config), config)
        with tempfile.TemporaryDirectory() as folder:
            save(folder, learned, config)
            rates = _by_the_library(folder, part, several)
            _pack(folder, 0, part)  # so the kernels are there before the clock starts
            ours, again, others = 0.0, 0.0, {}
            for _ in range(options.rounds):
                if several:
                    ours = max(ours, _megabytes(texts) / _shared_out(folder, texts, options.processes))
                    continue
                first, second = _by_ours(folder, texts)
                ours, again = max(ours, first), max(again, second)
                for peer in PEERS:
                    others[peer] = _better(others.get(peer), _peer(peer, folder, texts))
            digest = 0 if several else zlib.crc32(_ids(pack.load(f"{folder}/tokenizer.json"), texts).tobytes())
        best = max(rates.values())
        print(
            f"{name:28} ours {ours:6.1f} ({again:.1f})  {'PASS' if ours >= CLAIM else 'short'} ({CLAIM})   "
            f"tokenizers {__version__}: "
            + ", ".join(f"{call} {rate:.1f}" for call, rate in rates.items())
            + f"; ours {ours / best:.1f} times as fast",
            *(_said(peer, result, digest, ours) for peer, result in others.items()),
            sep="\n    ",
            flush=True,
        )


def _megabytes(texts: pa.StringArray) -> float:
    return pc.sum(pc.binary_length(texts)).as_py() / 1e6


def _by_the_library(folder: str, texts: pa.StringArray, several: bool) -> dict[str, float]:
    """MB a second of each call. Raises ValueError where ours gives other ids."""
    clock = time.perf_counter if several else time.process_time
    tokenizer, listed, rates = pack.load(f"{folder}/tokenizer.json"), texts.to_pylist(), {}
    for call in (tokenizer.encode_batch, tokenizer.encode_batch_fast):
        start = clock()
        encoded = call(listed, add_special_tokens=False)
        rates[call.__name__] = _megabytes(texts) / (clock() - start)
        theirs = np.fromiter(chain.from_iterable(encoding.ids for encoding in encoded), np.uint32)
        if not np.array_equal(_ids(tokenizer, texts), theirs):
            raise ValueError("the ids are not those of tokenizers")
    return rates


def _ids(tokenizer: Tokenizer, texts: pa.StringArray) -> np.ndarray:
    return np.concatenate([block.tokens for block in Encoder(tokenizer).encode(texts)]).astype("<u4")


def _by_ours(folder: str, texts: pa.StringArray) -> tuple[float, float]:
    """MB a second from an empty cache, and by the same encoder once more."""
    encoder, seconds = Encoder(pack.load(f"{folder}/tokenizer.json")), []
    for _ in range(2):
        start = time.process_time()
        _pack(folder, 0, texts, encoder)
        seconds.append(time.process_time() - start)
    return _megabytes(texts) / seconds[0], _megabytes(texts) / seconds[1]


def _peer(name: str, folder: str, texts: pa.StringArray) -> dict[str, Any] | str:
    """What encoder_peer.py says of another encoder; why not, if it says nothing."""
    if not (ENVIRONMENT / ".installed").exists():
        return f"not there, `make {ENVIRONMENT.name}` installs it"
    program, path = str(Path(__file__).with_name("encoder_peer.py")), f"{folder}/tokenizer.json"
    done = subprocess.run(
        [str(ENVIRONMENT / "bin" / "python"), "-P", program, name, path],  # -P: the names here hide no package
        input="".join(json.dumps(text) + "\n" for text in texts.to_pylist()).encode(),
        capture_output=True,
        check=False,
        env={**os.environ, "RAYON_NUM_THREADS": "1"},
    )
    if done.returncode:
        reason = (done.stderr.decode(errors="replace").strip() or "no message").splitlines()[-1]
        return f"cannot encode with this tokenizer ({reason[:100]})"
    said = json.loads(done.stdout)
    return said | {"rates": [_megabytes(texts) / seconds for seconds in said["seconds"]]}


def _better(before: dict[str, Any] | str | None, now: dict[str, Any] | str) -> dict[str, Any] | str:
    if isinstance(now, str) or not isinstance(before, dict):
        return now
    return now | {"rates": list(map(max, before["rates"], now["rates"]))}


def _said(name: str, result: dict[str, Any] | str, digest: int, ours: float) -> str:
    if isinstance(result, str):
        return f"{name}: {result}"
    first, again = result["rates"]
    same = "the same ids" if result["digest"] == digest else "OTHER IDS"
    return f"{name} {result['version']}: {first:.1f} ({again:.1f}), {same}; ours {ours / first:.2f} times as fast"


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

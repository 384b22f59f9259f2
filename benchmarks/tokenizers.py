"""Tokenizers: counting and training beside Hugging Face tokenizers, SentencePiece and gigatoken, on the same text.

Every run is a process of its own; its time leaves out imports and kernel loading. Its memory is the peak above what the
process held with the text loaded, and in brackets the peak of the whole process: ours holds numba and Arrow, some
190 MiB more than a peer's before either does anything. Training is measured on one core and on two, of which ours
counts on both and trains on one. gigatoken runs in an environment of its own (``make .venv-encoders``).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import multiprocessing
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.documents import prose
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.formats import export
from pipeline.tokenization.training import counts, train

ALGORITHMS = ("bpe", "wordpiece", "unigram")
#: trainer, peer, how many times as fast as it ours is to be, how many times as much memory as ours it is to take
CLAIMS = (
    ("bpe", "Hugging Face", 3, 4),
    ("wordpiece", "Hugging Face", 3, 4),
    ("bpe", "sentencepiece", 1, 0),
    ("unigram", "sentencepiece", 2, 0),
    ("bpe", "gigatoken", 1, 0),
)
PARTS = 8  # of the text for each core: the less text, the fewer words a core holds at a time
ENVIRONMENT = Path(__file__).resolve().parents[1] / ".venv-encoders"


@dataclass(frozen=True)
class Measured:
    seconds: float
    memory: int  # MiB
    processor: float  # seconds, of all threads
    whole: int  # MiB, of the process with all that it had loaded before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=30)
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[16_000, 64_000])
    options = parser.parse_args()
    texts = prose(options.megabytes)
    size = pc.sum(pc.binary_length(texts)).as_py()
    print(f"{size / 1e6:.1f} MB, {len(texts)} documents")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/texts.arrow"
        with pa.ipc.new_file(path, pa.schema([("text", texts.type)])) as writer:
            writer.write(pa.record_batch({"text": texts}))
        for cores in ("1", "2"):
            for vocabulary in options.vocabulary:
                print(f"\ntraining on {cores} of the cores, vocabulary {vocabulary:,}")
                _training(path, vocabulary, cores)


def _training(path: str, vocabulary: int, cores: str) -> None:
    """Every trainer and its peers, then what is claimed of them: a claim holds by wall clock and processor time."""
    runs: dict[str, tuple[Callable[..., Measured], tuple[Any, ...]]] = {
        f"{algorithm}, ours": (_ours, (_config(algorithm, vocabulary),)) for algorithm in ALGORITHMS
    }
    likelihood = _config("wordpiece", vocabulary).model_copy(update={"score": "likelihood"})
    runs["wordpiece by likelihood, ours"] = _ours, (likelihood,)
    runs |= {f"{name}, Hugging Face": (_hugging_face, (name, vocabulary)) for name in ("bpe", "wordpiece")}
    runs |= {f"{name}, sentencepiece": (_sentencepiece, (name, vocabulary)) for name in ("bpe", "unigram")}
    measurements = {}
    for name, (work, arguments) in runs.items():
        measurements[name] = one = _alone(work, path, *arguments, cores=cores)
        print(
            f"train {name:30} {one.seconds:7.2f} s {one.processor:7.2f} s CPU {one.memory:6} MiB ({one.whole})",
            flush=True,
        )
    if gigatoken := peer(path, vocabulary, cores):
        name = f"bpe, gigatoken {gigatoken['version']}"
        one = Measured(*(gigatoken[part] for part in ("seconds", "memory", "processor", "whole")))
        measurements["bpe, gigatoken"] = one
        print(
            f"train {name:30} {one.seconds:7.2f} s {one.processor:7.2f} s CPU {one.memory:6} MiB ({one.whole})"
            f"  {_alike(path, vocabulary, gigatoken['merges'])}",
            flush=True,
        )
    for algorithm, peer_name, faster, smaller in CLAIMS:
        if f"{algorithm}, {peer_name}" not in measurements:
            continue
        ours, other = measurements[f"{algorithm}, ours"], measurements[f"{algorithm}, {peer_name}"]
        times = other.seconds / ours.seconds, other.processor / ours.processor
        memory = other.memory / max(ours.memory, 1)
        print(
            f"  {algorithm} beside {peer_name}: {times[0]:.1f} times as fast, {times[1]:.1f} by processor time "
            f"{_verdict(min(times) >= faster)} ({faster}); its memory is {memory:.1f} times ours "
            + (f"{_verdict(memory >= smaller)} ({smaller})" if smaller else ""),
            flush=True,
        )


def peer(path: str, vocabulary: int, cores: str) -> dict[str, Any] | None:
    """What trainer_peer.py says of gigatoken on the texts of ``path``; None, and why, where it is not installed."""
    if not (ENVIRONMENT / ".installed").exists():
        print(f"gigatoken is not there: `make {ENVIRONMENT.name}` installs it")
        return None
    joined = Path(path).with_name("joined")
    joined.write_bytes(b"\xff".join(text.encode() for text in _read(path).to_pylist()))
    program = str(Path(__file__).with_name("trainer_peer.py"))
    command = [str(ENVIRONMENT / "bin" / "python"), "-P", program, str(joined), str(vocabulary), cores]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # -P: the names here hide no package
    return json.loads(done.stdout.splitlines()[-1])


def _alike(path: str, vocabulary: int, merges: list[list[str]]) -> str:
    """Whether ours learns these merges, as far as it learns any."""
    config = _config("bpe", vocabulary)
    letters = {letter: byte for byte, letter in enumerate(export.byte_alphabet())}
    learned = train.train(counts.count(_read(path), config), config).merges
    ours = [[bytes(letters[letter] for letter in part).hex() for part in pair] for pair in learned]
    return "the same merges" if ours == merges[: len(ours)] else "OTHER MERGES"


def _verdict(holds: bool) -> str:
    return "PASS" if holds else "short"


def _config(algorithm: str, vocabulary: int) -> TokenizerConfig:
    values = {"name": algorithm, "algorithm": algorithm, "vocab_size": vocabulary, "score": "frequency"}
    return TokenizerConfig.model_validate(values)


def _alone(work: Callable[..., Measured], *arguments: Any, cores: str) -> Measured:
    os.environ.update(RAYON_NUM_THREADS=cores, TOKENIZERS_PARALLELISM="true")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _timed(work: Callable[[], object]) -> Measured:
    gc.collect()  # what loading has left over would else be taken for memory that the work does without
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted again from here
    start, processor = time.perf_counter(), time.process_time()
    work()
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak
    return Measured(seconds, (int(peak[1]) * 1024 - before) >> 20, processor, int(peak[1]) >> 10)


def _read(path: str) -> pa.StringArray:
    """The texts in memory, all of them touched."""
    with pa.OSFile(path) as file:
        return pa.ipc.open_file(file).get_batch(0)["text"]


def _counted(array: pa.StringArray, config: TokenizerConfig) -> pa.Table:
    """Counts of parts, as many at a time as there are cores, added up as those of shards are."""
    cores = int(os.environ["RAYON_NUM_THREADS"])
    if cores == 1:
        return counts.count(array, config)
    size = -(-len(array) // (PARTS * cores))
    parts = [array.slice(start, size) for start in range(0, len(array), size)]
    with ThreadPoolExecutor(cores) as pool:
        return counts.merge(pool.map(lambda part: counts.count(part, config), parts))


def _ours(path: str, config: TokenizerConfig) -> Measured:
    array = _read(path)
    train.train(_counted(array.slice(0, 20), config), config)
    return _timed(lambda: train.train(_counted(array, config), config))


def _hugging_face(path: str, algorithm: str, vocabulary: int) -> Measured:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    if algorithm == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=vocabulary, min_frequency=2, initial_alphabet=alphabet, show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()  # type: ignore[assignment]
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
        trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, min_frequency=2, show_progress=False)
    texts = _read(path).to_pylist()
    return _timed(lambda: tokenizer.train_from_iterator(texts, trainer))


def _sentencepiece(path: str, algorithm: str, vocabulary: int) -> Measured:
    import sentencepiece

    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder, "text.txt")
        lines.write_text("\n".join(_read(path).to_pylist()), encoding="utf-8")
        trainer = sentencepiece.SentencePieceTrainer.train
        return _timed(
            lambda: trainer(
                input=str(lines),
                model_prefix=str(Path(folder, "model")),
                model_type=algorithm,
                vocab_size=vocabulary,
                num_threads=int(os.environ["RAYON_NUM_THREADS"]),
                max_sentence_length=1 << 20,
                minloglevel=2,
            )
        )


if __name__ == "__main__":
    main()

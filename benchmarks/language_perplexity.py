"""Language identification and perplexity on one core: models trained, loaded and applied.

Rates are over processor time, all of it on one thread; training is timed by the clock.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import fasttext
import kenlm
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.documents import prose
from benchmarks.peer import FILTERS
from pipeline.build.stage import Batch
from pipeline.stages import language, pii
from pipeline.stages.dedup import exact, minhash
from pipeline.stages.heuristics import families
from pipeline.stages.heuristics import stage as heuristics
from pipeline.stages.perplexity import arpa_reader, lookup, packed, scoring, train_model
from pipeline.store import fasttext_model, model_files
from pipeline.text.excerpts import excerpts
from pipeline.text.fasttext_prediction import predict
from pipeline.text.sentence_folding import sentences

TRAINING_MB = 10
REPEATS = 5


def main() -> None:
    texts = prose(20)
    measure_language(texts.slice(0, len(texts) // 3))
    with tempfile.TemporaryDirectory() as folder:
        measure_perplexity(texts, Path(folder))


def measure_language(texts: pa.StringArray) -> None:
    path = model_files.pull(["lid.176"])["lid.176"]
    batch = Batch(texts, models={"language": path})
    beside_fasttext(excerpts(texts, 1000), path)
    whole = language.measure(language.Config(max_bytes=None), batch).signals
    for size in (None, 2000, language.Config().max_bytes, 500):
        config = language.Config(max_bytes=size)
        seconds = best(lambda config=config: language.measure(config, batch))
        signals = language.measure(config, batch).signals
        same = np.mean(np.array(signals["language"].to_pylist()) == np.array(whole["language"].to_pylist()))
        verdict = np.mean(kept(signals["language_score"]) == kept(whole["language_score"]))
        title = "whole documents" if size is None else f"excerpts of {size:,} bytes"
        print(f"language, {title}: {rate(texts, seconds):.0f} MB/s; as the whole: {same:.1%}, verdict {verdict:.1%}")


def beside_fasttext(texts: pa.StringArray, path: str) -> None:
    """Our prediction and that of fastText itself, of the same excerpts in the same run."""
    ours, theirs = fasttext_model.load(path), fasttext.load_model(path)
    lines = [text.replace("\n", " ") for text in texts.to_pylist()]
    predict(ours, texts.slice(0, 1))  # compiles
    seconds = [best(lambda: predict(ours, texts)), best(lambda: theirs.predict(lines))]
    labels = [name.removeprefix("__label__") for (name,) in theirs.predict(lines)[0]]
    same = np.mean(
        [ours.labels[place] == label for place, label in zip(predict(ours, texts)[0][:, 0], labels, strict=True)]
    )
    version = metadata.version("fasttext-numpy2")
    print(
        f"language, excerpts alone: {rate(texts, seconds[0]):.0f} MB/s, fastText (fasttext-numpy2 {version})"
        f" {rate(texts, seconds[1]):.1f}: {seconds[1] / seconds[0]:.1f} times as fast; labels equal: {same:.2%}"
    )


def kept(scores: pa.Array) -> np.ndarray:
    return scores.to_numpy() >= 0.65


def measure_perplexity(texts: pa.StringArray, folder: Path) -> None:
    sizes = np.cumsum(pc.binary_length(texts).to_numpy())
    split = int(np.searchsorted(sizes, TRAINING_MB * 1e6))
    reference, documents = texts.slice(0, split), texts.slice(split)
    sentences(texts.slice(0, 1))
    print(f"sentences of folded words: {rate(texts, best(lambda: sentences(texts))):.0f} MB/s")
    lines = sentences(reference).lines
    estimators: list[train_model.Estimator] = ["own", "lmplz"] if shutil.which("lmplz") else ["own"]
    for estimator, prune in itertools.product(estimators, ([], [0, 0, 1])):
        path = str(folder / f"{estimator}-{len(prune)}.arpa")
        train_model.train(lines.slice(0, 10), path, 5, prune, "own")  # compiles
        started = time.perf_counter()
        train_model.train(lines, path, 5, prune, estimator)
        seconds, size = time.perf_counter() - started, Path(path).stat().st_size / 1e6
        print(f"5-gram model of {TRAINING_MB} MB, prune {prune}, by {estimator}: {seconds:.1f} s, {size:.0f} MB")
    for prune in ([], [0, 0, 1]):
        path = str(folder / f"own-{len(prune)}.arpa")
        loading = cpu(lambda path=path: scoring.perplexity(documents.slice(0, 1), path))
        seconds = best(lambda path=path: scoring.perplexity(documents, path))
        print(f"perplexity, prune {prune}: {rate(documents, seconds):.0f} MB/s, loaded in {loading:.1f} s")
        quantised(documents, path, seconds)
        beside_kenlm(documents, path)
    measure_chain(documents, path)
    print(f"memory to train unpruned: {training_memory(lines, folder):.0f} MB beside the text")


def quantised(texts: pa.StringArray, path: str, exact_seconds: float) -> None:
    """What codes of 8 bits change: rate, perplexities, and the verdicts and buckets of the default percentiles."""
    exact, coded = scoring.perplexity(texts, path)[0], scoring.perplexity(texts, path, quantised=True)[0]
    seconds = best(lambda: scoring.perplexity(texts, path, quantised=True))
    error = coded / exact - 1
    moved = [np.mean(percentiles(exact, edges) != percentiles(coded, edges)) for edges in ((0.02, 0.9), (0.3, 0.6))]
    print(
        f"quantised: {exact_seconds / seconds:.2f} times as fast; perplexities off by {np.std(error):.2%} (standard"
        f" deviation), {np.abs(error).max():.1%} at most; other verdict {moved[0]:.2%}, other bucket {moved[1]:.2%}"
    )


def percentiles(values: np.ndarray, edges: tuple[float, float]) -> np.ndarray:
    return np.searchsorted(np.quantile(values, edges), values)


def beside_kenlm(texts: pa.StringArray, path: str) -> None:
    """Our look-up and KenLM's own of the same lines in the same run."""
    lines, theirs = sentences(texts).lines, kenlm.Model(path, kenlm_config())
    strings, tables = lines.to_pylist(), arpa_reader.read(path)
    assert tables is not None
    ours = packed.pack(tables)
    assert ours is not None
    lookup.log10(lines.slice(0, 1), ours)  # compiles
    works = (partial(lookup.log10, lines, ours), lambda: [*map(theirs.score, strings)])
    rounds = [[cpu(work) for work in works] for _ in range(REPEATS)]
    seconds = [min(times) for times in zip(*rounds, strict=True)]
    same = np.mean(lookup.log10(lines, ours) == np.array([*map(theirs.score, strings)]))
    print(
        f"look-up of lines alone: {rate(texts, seconds[0]):.0f} MB/s, KenLM (kenlm {metadata.version('kenlm')})"
        f" {rate(texts, seconds[1]):.0f}: {seconds[1] / seconds[0]:.1f} times as fast; scores equal: {same:.2%}"
    )


def kenlm_config() -> kenlm.Config:
    config = kenlm.Config()
    config.show_progress, config.arpa_complain = False, kenlm.ARPALoadComplain.NONE
    return config


def measure_chain(texts: pa.StringArray, path: str) -> None:
    """Every stage that looks at each document by itself, on the same documents."""
    batch = Batch(texts, models={"language": model_files.pull(["lid.176"])["lid.176"]})
    rules = families.Config.model_validate({name: {} for name in FILTERS})
    chain: dict[str, Callable[[], object]] = {
        "language": lambda: language.measure(language.Config(), batch),
        "heuristics": lambda: heuristics.measure(rules, batch),
        "perplexity": lambda: scoring.perplexity(texts, path),
        "personal data": lambda: pii.measure(pii.Config(), batch),
        "hashes": lambda: exact.content_hashes(texts, exact.Config()),
        "MinHash": lambda: minhash.signatures(texts, minhash.Config()),
    }
    for work in chain.values():
        work()
    rounds = [{name: cpu(work) for name, work in chain.items()} for _ in range(REPEATS)]
    seconds = {name: min(times[name] for times in rounds) for name in chain}
    print("; ".join(f"{name} {rate(texts, took):.0f}" for name, took in seconds.items()), "MB/s")
    three = sum(seconds[name] for name in ("language", "heuristics", "perplexity"))
    print(f"the first three together: {rate(texts, three):.1f} MB/s; all: {rate(texts, sum(seconds.values())):.1f}")


def training_memory(lines: pa.StringArray, folder: Path) -> float:
    """Peak memory in MB of a process that trains on ``lines``, less that of one that only reads them."""
    text = folder / "lines"
    text.write_text("\n".join(lines.to_pylist()), encoding="utf-8", newline="\n")
    program = (
        "import sys, pyarrow as pa; from pathlib import Path; from pipeline.stages.perplexity import train_model\n"
        "lines = pa.array(Path(sys.argv[1]).read_text('utf-8').split('\\n'))\n"
        "train_model.train(lines.slice(0, int(sys.argv[2]) or len(lines)), sys.argv[1] + '.arpa', 5, [], 'own')\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    full, idle = (
        int(subprocess.check_output([sys.executable, "-c", program, str(text), part])) for part in ("0", "100")
    )
    return (full - idle) / 1e3


def rate(texts: pa.StringArray, seconds: float) -> float:
    return pc.sum(pc.binary_length(texts)).as_py() / 1e6 / seconds


def best(work: Callable[[], Any]) -> float:
    return min(cpu(work) for _ in range(REPEATS))


def cpu(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()

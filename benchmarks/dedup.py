"""Deduplication: signatures against datasketch on one core; bands, verification and clusters of two million on two."""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
from datasketch import MinHash

from benchmarks.documents import prose
from pipeline.build import Build, Step
from pipeline.dedup import exact, minhash
from pipeline.dedup.clusters import report_path
from pipeline.dedup.shingles import shingles
from pipeline.store import files, shards
from pipeline.text.buffers import string_array

WORKERS = 2
SHARD_ROWS = 20_000
WORDS, LETTERS = 40, 7
TEMPLATE_SHARE, FAMILY_SHARE = 0.05, 0.3


@dataclass(frozen=True)
class Recipe:
    name: str = "benchmark"
    exact: exact.Config | None = None
    minhash: minhash.Config | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=2_000_000, help="synthetic documents to cluster")
    arguments = parser.parse_args()
    measure_kernels()
    with tempfile.TemporaryDirectory() as folder:
        measure_steps(folder, arguments.documents)


def measure_kernels() -> None:
    texts, config = prose(30), minhash.Config()
    megabytes = texts.nbytes / 1e6
    for title, work in (
        ("MinHash signatures, 112 permutations of word 5-grams", lambda part: minhash.signatures(part, config)),
        ("content hashes, 128 bits", lambda part: exact.content_hashes(part, exact.Config(normalise="none"))),
        (
            "content hashes, case and whitespace folded",
            lambda part: exact.content_hashes(part, exact.Config(normalise="whitespace_and_case")),
        ),
    ):
        work(texts.slice(0, 10))
        seconds = min(_timed(lambda work=work: work(texts)) for _ in range(5))
        print(f"{title}: {megabytes / seconds:.0f} MB/s on one core")
    few = texts.slice(0, 300)
    encoded = [[" ".join(s).encode() for s in shingles(text, config.ngram)] for text in few.to_pylist()]
    seconds = _timed(lambda: [_datasketch(each, config) for each in encoded])
    print(f"datasketch, update_batch over shingles made before: {few.nbytes / 1e6 / seconds:.1f} MB/s")


def _datasketch(encoded: list[bytes], config: minhash.Config) -> MinHash:
    sketch = MinHash(config.permutations, seed=config.seed)
    sketch.update_batch(encoded)
    return sketch


def measure_steps(folder: str, documents: int) -> None:
    build = Build(folder, Recipe(minhash=minhash.Config()))  # type: ignore[arg-type]
    size = write_documents(build, documents)
    print(f"{documents:,} synthetic documents, {size / 1e6:,.0f} MB; {WORKERS} processes:")
    seconds: dict[str, float] = {}
    context = get_context("spawn")
    os.environ["NUMBA_NUM_THREADS"] = "1"
    with context.Pool(WORKERS) as pool:
        pool.map(_warm_up, range(WORKERS), chunksize=1)
        for step in minhash.steps():
            seconds[step.name] = _timed(lambda step=step: _carry_out(pool, build, step))
            print(f"  {step.name:20} {seconds[step.name]:6.1f} s")
        pool.close()
        pool.join()
    after = sum(value for name, value in seconds.items() if name != "minhash.signatures")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * WORKERS / 1e6
    report = files.read_json(report_path(build))
    print(
        f"  all after the signatures {after:.1f} s; at most {peak:.2f} GB in {WORKERS} processes, mapped files included"
    )
    print(
        f"  {report['clusters']:,} clusters, {report['dropped']:,} dropped, the largest {report['largest_cluster']:,}"
    )


def _warm_up(_number: int) -> None:
    """Load or compile the kernels, which is not what is measured."""
    with tempfile.TemporaryDirectory() as folder:
        build = Build(folder, Recipe(minhash=minhash.Config()))  # type: ignore[arg-type]
        write_documents(build, 1000)
        for step in minhash.steps():
            for item in step.items(build):
                step.work(build, item)


def _carry_out(pool, build: Build, step: Step) -> None:
    pool.starmap(step.work, [(build, item) for item in step.items(build)], chunksize=1)


def write_documents(build: Build, documents: int) -> int:
    """Texts of ``WORDS`` words: one family of near copies (a template), families of a few, and texts by themselves."""
    names, size = [], 0
    for first in range(0, documents, SHARD_ROWS):
        number = np.arange(first, min(first + SHARD_ROWS, documents))
        texts = _texts(number, documents)
        ids = [f"synthetic#{i}" for i in number.tolist()]
        same = pa.array(["synthetic"] * len(number))
        none = pa.nulls(len(number), pa.string())
        columns = {"id": ids, "text": texts, "source": same, "domain": same, "url": none, "metadata": none}
        names.append(f"{len(names):05d}.arrow")
        shards.write_table(build.path("documents", names[-1]), pa.table(columns, shards.DOCUMENT_SCHEMA), names[-1])
        size += texts.nbytes
    manifest = {"shards": names, "sources": {"synthetic": {"documents": documents}}}
    files.write_json(build.path("documents", "manifest.json"), manifest)
    return size


def _texts(number: np.ndarray, documents: int) -> pa.StringArray:
    draw = _mixed(number, 0) / 2.0**64
    family = np.where(draw < FAMILY_SHARE, documents + _mixed(number, 1) % np.uint64(documents // 10 + 1), number)
    family = np.where(draw < TEMPLATE_SHARE, 2 * documents, family)
    place = np.arange(WORDS)
    edit = _mixed(number[:, None] * WORDS + place, 2) / 2.0**64 < 0.01
    words = _mixed(np.where(edit, number[:, None], family[:, None].astype(np.int64)) * WORDS + place, 3)
    letters = (words[:, :, None] >> np.arange(0, 5 * LETTERS, 5, dtype=np.uint64)) % np.uint64(26)
    data = np.full((len(number), WORDS, LETTERS + 1), ord(" "), np.uint8)
    data[:, :, :LETTERS] = letters + np.uint64(ord("a"))
    return string_array(data.ravel(), np.arange(len(number) + 1) * (WORDS * (LETTERS + 1)))


def _mixed(values: np.ndarray, seed: int) -> np.ndarray:
    """uint64: SplitMix64 (Steele, Lea and Flood 2014) of each value under a seed."""
    h = values.astype(np.uint64) * np.uint64(4) + np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


def _timed(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

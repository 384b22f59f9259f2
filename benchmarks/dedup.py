"""Deduplication: signatures against datasketch on one core; two million documents clustered, 200 MB searched for
repeated substrings, on two.

    python -m benchmarks.dedup [kernels clusters substring] [--documents N] [--megabytes N]

Memory is what the processes hold themselves; pages of mapped files, which the system takes back at will, are not in it.
"""

from __future__ import annotations

import argparse
import os
import re
import string
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasketch import MinHash

from benchmarks.documents import prose
from pipeline.build.build import Build, Step
from pipeline.build.stage import Stage
from pipeline.stages import registry
from pipeline.stages.dedup import exact, minhash, substring
from pipeline.stages.dedup.clusters import report_path
from pipeline.store import files, shards
from pipeline.text.buffers import string_array
from pipeline.text.shingles import shingles

WORKERS = 2
SHARD_ROWS = 20_000
WORDS, LETTERS = 40, 7
TEMPLATE_SHARE, FAMILY_SHARE = 0.05, 0.3


@dataclass(frozen=True)
class Recipe:
    name: str = "benchmark"
    exact: exact.Config | None = None
    minhash: minhash.Config | None = None
    substring: substring.Config | None = None

    @property
    def registered(self) -> tuple[Stage, ...]:
        return registry.STAGES

    def section(self, stage: str) -> Any:
        return vars(self).get(stage)

    def stages_before(self, stage: str | None) -> tuple[str, ...]:
        known = registry.before(self.registered, stage)
        return tuple(entry.name for entry in known if self.section(entry.name) is not None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", metavar="WHAT", help="kernels, clusters, substring; all if absent")
    parser.add_argument("--documents", type=int, default=2_000_000, help="synthetic documents to cluster")
    parser.add_argument("--megabytes", type=int, default=200, help="text to search for repeated substrings")
    arguments = parser.parse_args()
    chosen = arguments.what or ["kernels", "clusters", "substring"]
    if "kernels" in chosen:
        measure_kernels()
    for name, measure, size in (
        ("clusters", measure_clusters, arguments.documents),
        ("substring", measure_substring, arguments.megabytes),
    ):
        if name not in chosen:
            continue
        with tempfile.TemporaryDirectory() as folder:
            # in a process of its own, so that nothing of one is in the memory of the other
            process = get_context("spawn").Process(target=measure, args=(folder, size))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(process.exitcode)


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


def measure_clusters(folder: str, documents: int) -> None:
    build = Build(folder, Recipe(minhash=minhash.Config()))  # type: ignore[arg-type]
    size = write_documents(build, synthetic(documents))
    print(f"{documents:,} synthetic documents, {size / 1e6:,.0f} MB; {WORKERS} processes:")
    seconds, peak = carry_out(build, minhash.steps())
    after = sum(value for name, value in seconds.items() if name != "minhash.signatures")
    report = files.read_json(report_path(build))
    print(f"  all after the signatures {after:.1f} s; at most {peak:.2f} GB in {WORKERS} processes")
    print(
        f"  {report['clusters']:,} clusters, {report['dropped']:,} dropped, the largest {report['largest_cluster']:,}"
    )
    for warning in report["warnings"]:
        print(f"  warning: {warning}")


def measure_substring(folder: str, megabytes: int) -> None:
    build = Build(folder, Recipe(substring=substring.Config()))  # type: ignore[arg-type]
    size = write_documents(build, rotated_prose(megabytes))
    print(f"{size / 1e6:,.0f} MB of prose; {WORKERS} processes:")
    seconds, peak = carry_out(build, substring.steps())
    cut = sum(pc.sum(build.ledger("substring", shard)["substring_fraction"]).as_py() for shard in build.shards())
    print(f"  in all {sum(seconds.values()):.1f} s; at most {peak:.2f} GB in {WORKERS} processes")
    print(f"  cut: text worth {cut:,.0f} documents")


def carry_out(build: Build, steps: list[Step]) -> tuple[dict[str, float], float]:
    """Seconds of each step by the clock, and the most memory in GB: of the largest process, times their number."""
    seconds = {}
    os.environ["NUMBA_NUM_THREADS"] = "1"
    context = get_context("spawn")
    most = context.Value("q", 0)
    with ProcessPoolExecutor(WORKERS, mp_context=context, initializer=_watch, initargs=(most,)) as pool:
        list(pool.map(_warm_up, [build.recipe] * WORKERS))
        for step in steps:
            items = list(step.items(build))
            start = time.perf_counter()
            used = sum(pool.map(_work, [step.work] * len(items), [build] * len(items), items))
            seconds[step.name] = time.perf_counter() - start
            print(f"  {step.name:20} {seconds[step.name]:6.1f} s ({used:6.1f} s of processor time)", flush=True)
    return seconds, most.value * WORKERS / 1e9


def _work(work: Callable[[Build, str], object], build: Build, item: str) -> float:
    began = time.process_time()
    work(build, item)
    return time.process_time() - began


def _watch(most: Synchronized) -> None:
    """Raises ``most`` to the bytes of memory that this process holds, as often as a hundred times a second."""

    def look() -> None:
        while True:
            kilobytes = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
            with most.get_lock():
                most.value = max(most.value, int(kilobytes[1]) * 1024 if kilobytes else 0)
            time.sleep(0.01)

    threading.Thread(target=look, daemon=True).start()


def _warm_up(recipe: Recipe) -> None:
    """Load or compile the kernels, which is not what is measured."""
    with tempfile.TemporaryDirectory() as folder:
        build = Build(folder, recipe)  # type: ignore[arg-type]
        write_documents(build, synthetic(1000))
        for step in minhash.steps() if recipe.minhash else substring.steps():
            for item in step.items(build):
                step.work(build, item)


def synthetic(documents: int) -> Iterator[pa.StringArray]:
    """Texts of ``WORDS`` words: one family of near copies (a template), families of a few, and texts by themselves."""
    for first in range(0, documents, SHARD_ROWS):
        yield _texts(np.arange(first, min(first + SHARD_ROWS, documents)), documents)


def rotated_prose(megabytes: int) -> Iterator[pa.StringArray]:
    """The prose, again with every letter moved on by one, by two, and so on: as much text as is asked for, and new."""
    texts, letters = prose(megabytes).to_pylist(), string.ascii_lowercase
    done, rotation = 0.0, 0
    while done < megabytes:
        table = str.maketrans(letters, letters[rotation:] + letters[:rotation])
        for first in range(0, len(texts), SHARD_ROWS):
            part = pa.array([text.translate(table) for text in texts[first : first + SHARD_ROWS]])
            done += part.nbytes / 1e6
            yield part
            if done >= megabytes:
                return
        rotation += 1


def write_documents(build: Build, parts: Iterable[pa.StringArray]) -> int:
    """Each of ``parts`` as a shard; returns the bytes of text."""
    names, documents, size = [], 0, 0
    for texts in parts:
        ids = [f"synthetic#{documents + i}" for i in range(len(texts))]
        same = pa.array(["synthetic"] * len(texts))
        none = pa.nulls(len(texts), pa.string())
        columns = {"id": ids, "text": texts, "source": same, "domain": same, "url": none, "metadata": none}
        names.append(f"{len(names):05d}.arrow")
        shards.write_table(build.path("documents", names[-1]), pa.table(columns, shards.DOCUMENT_SCHEMA), names[-1])
        documents += len(texts)
        size += texts.nbytes
    totals = {"synthetic": {"documents": documents, "bytes": size}}
    files.write_json(build.path("documents", "manifest.json"), {"shards": names, "sources": totals})
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

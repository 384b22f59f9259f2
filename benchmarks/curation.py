"""The per-document stages one after the other on one core: all heuristic families, MinHash signatures, language ID,
perplexity; each alone, and together as a build runs them.

Rates are text over processor time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.documents import prose
from pipeline import models
from pipeline.dedup import minhash
from pipeline.language_model import scoring, training
from pipeline.language_model.sentences import sentences
from pipeline.stage import Batch
from pipeline.stages import heuristics, language

MEGABYTES = 20
REPEATS = 3
FAMILIES = heuristics.Config.model_validate(
    {name: {} for name in ("gopher_quality", "gopher_repetition", "c4", "fineweb")}
)


def main() -> None:
    texts = prose(MEGABYTES)
    size = texts.nbytes / 1e6
    print(f"{len(texts):,} documents, {size:.1f} MB, one core, processor time, best of {REPEATS}\n")
    batch = Batch(texts, models={"language": models.pull(["lid.176"])["lid.176"]})
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "en.arpa"))
        training.train(sentences(texts.slice(0, len(texts) // 3))[0], path, 5, (0, 0, 1), "own")
        stages: dict[str, Callable[[], object]] = {
            "heuristics, four families": lambda: heuristics.measure(FAMILIES, batch),
            "MinHash signatures, 112 permutations": lambda: minhash.signatures(texts, minhash.Config()),
            "language ID": lambda: language.measure(language.Config(), batch),
            "perplexity, 5-gram": lambda: scoring.perplexity(texts, path),
        }
        seconds = {name: best(stage) for name, stage in stages.items()}
    for name, took in seconds.items():
        print(f"{name:40} {size / took:8.1f} MB/s")
    first_two = sum(list(seconds.values())[:2])
    print(f"{'heuristics and MinHash together':40} {size / first_two:8.1f} MB/s")
    print(f"{'all four together':40} {size / sum(seconds.values()):8.1f} MB/s")


def best(work: Callable[[], object]) -> float:
    """The least processor seconds of ``REPEATS`` calls, after one that loads and compiles."""
    work()
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


if __name__ == "__main__":
    main()

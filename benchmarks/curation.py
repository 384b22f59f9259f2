"""The per-document stages on one core, each alone and together as a build runs them, beside datatrove's filters and
MinHash signatures on the same documents in the same run.

Rates are text over processor time, so that other work on the machine counts little.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from benchmarks import peer
from benchmarks.documents import prose
from pipeline.build.stage import Batch
from pipeline.stages import language, pii
from pipeline.stages.dedup import exact, minhash
from pipeline.stages.heuristics import stage as heuristics
from pipeline.stages.heuristics.families import Config
from pipeline.stages.perplexity import scoring, train_model
from pipeline.store import model_files
from pipeline.text.sentence_folding import sentences

MEGABYTES, PEER_MEGABYTES = 20, 2
REPEATS = 5
ALONE = {
    **{name: (name,) for name in peer.FILTERS},
    "gopher@dolma": ("gopher_quality@dolma", "gopher_repetition@dolma"),
    "refinedweb": ("refinedweb",),
}
FOUR, SIGNATURES = "heuristics, four families", "MinHash signatures"
CLAIMS = {"heuristics and MinHash": 40.0, "all stages": 15.0}
RATIO = 150.0


def main() -> None:
    texts = prose(MEGABYTES)
    size = megabytes(texts)
    print(f"{len(texts):,} documents, {size:.1f} MB, one core, processor time, best of {REPEATS}")
    peer_rates = measure_datatrove(texts) if peer.installed() else {}
    print(f"datatrove on every {sample_step()}th of them\n" if peer_rates else f"{peer.MISSING}\n")
    print(f"{'':34} {'ours, MB/s':>12} {'datatrove':>12} {'ratio':>8}")
    batch = Batch(texts, models={"language": model_files.pull(["lid.176"])["lid.176"]})
    for name, families in ALONE.items():
        show(name, size / best(families_of(families, batch)), peer_rates.get(name))
    seconds = measure_stages(texts, batch)
    for name, took in seconds.items():
        show(name, size / took, peer_rates.get(name))
    together = {
        "heuristics and MinHash": size / (seconds[FOUR] + seconds[SIGNATURES]),
        "all stages": size / sum(seconds.values()),
    }
    for name, rate in together.items():
        show(name, rate, peer_rates.get(name))
    print()
    for name, rate in together.items():
        claim(f"{name}: {rate:.1f} MB/s", rate, CLAIMS[name], "MB/s")
    if peer_rates:
        ratio = together["heuristics and MinHash"] / peer_rates["heuristics and MinHash"]
        claim(f"heuristics and MinHash: {ratio:.0f} times datatrove", ratio, RATIO, "times")


def measure_stages(texts: pa.StringArray, batch: Batch) -> dict[str, float]:
    """Seconds of every per-document stage."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "en.arpa"))
        train_model.train(sentences(texts.slice(0, len(texts) // 3))[0], path, 5, (0, 0, 1), "own")
        stages: dict[str, Callable[[], object]] = {
            FOUR: families_of(peer.FILTERS, batch),
            SIGNATURES: lambda: minhash.signatures(texts, minhash.Config()),
            "language ID, lid.176": lambda: language.measure(language.Config(), batch),
            "perplexity, KenLM 5-gram": lambda: scoring.perplexity(texts, path),
            "personal data": lambda: pii.measure(pii.Config(), batch),
            "hashes for exact duplicates": lambda: exact.content_hashes(texts, exact.Config()),
        }
        return {name: best(stage) for name, stage in stages.items()}


def families_of(names: tuple[str, ...], batch: Batch) -> Callable[[], object]:
    config = Config.model_validate({name: {} for name in names})
    return lambda: heuristics.measure(config, batch)


def measure_datatrove(texts: pa.StringArray) -> dict[str, float]:
    """MB/s of each filter alone, of the four in turn on each document, and of the signatures."""
    sample = texts.take(pa.array(range(0, len(texts), sample_step())))
    size, documents = megabytes(sample), sample.to_pylist()
    seconds = {name: peer.run([name], documents).seconds[name] for name in peer.FILTERS}
    both = peer.run([*peer.FILTERS, "minhash"], documents).seconds
    seconds |= {SIGNATURES: both["minhash"], FOUR: sum(both[name] for name in peer.FILTERS)}
    seconds["heuristics and MinHash"] = sum(both.values())
    return {name: size / took for name, took in seconds.items()}


def sample_step() -> int:
    return MEGABYTES // PEER_MEGABYTES


def megabytes(texts: pa.StringArray) -> float:
    return pc.sum(pc.binary_length(texts)).as_py() / 1e6


def best(work: Callable[[], object]) -> float:
    """The least processor seconds of ``REPEATS`` calls, after one that loads and compiles."""
    work()
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def show(name: str, ours: float, theirs: float | None) -> None:
    beside = "" if theirs is None else f" {theirs:12.2f} {ours / theirs:7.0f}x"
    print(f"{name:34} {ours:12.1f}{beside}", flush=True)


def claim(text: str, value: float, least: float, unit: str) -> None:
    print(f"{'PASS ' if value >= least else 'SHORT'} {text} (claimed: at least {least:g} {unit})")


if __name__ == "__main__":
    main()

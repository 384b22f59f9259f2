"""Heuristic filters on one core: the four families of datatrove's dialect together and each alone, beside datatrove.

    CORPUSMILL_DATATROVE=/tmp/peer/bin/python python -m benchmarks.heuristics

where the environment /tmp/peer holds `datatrove==0.10.1` and `spacy`; without it only this project is measured. Rates
are text over processor time.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.documents import prose
from pipeline.stage import Batch
from pipeline.stages.heuristics import Config, measure

MEGABYTES, PEER_MEGABYTES = 30, 2
REPEATS = 5
PEER = Path(__file__).with_name("datatrove_filters.py")
FAMILIES: dict[str, dict[str, Any]] = {
    "four families": {"gopher_quality": {}, "gopher_repetition": {}, "c4": {}, "fineweb": {}},
    "gopher_quality": {"gopher_quality": {}},
    "gopher_repetition": {"gopher_repetition": {}},
    "c4": {"c4": {}},
    "fineweb": {"fineweb": {}},
    "gopher@dolma": {"gopher_quality@dolma": {}, "gopher_repetition@dolma": {}},
    "refinedweb": {"refinedweb": {}},
}


def main() -> None:
    texts = prose(MEGABYTES)
    print(f"{len(texts):,} documents, {texts.nbytes / 1e6:.1f} MB, processor time, best of {REPEATS}\n")
    peer = measure_datatrove(texts)
    for name, families in FAMILIES.items():
        rate = texts.nbytes / 1e6 / best_seconds(Config.model_validate(families), Batch(texts))
        beside = f"   datatrove {peer[name]:6.2f} MB/s, ratio {rate / peer[name]:5.0f}" if name in peer else ""
        print(f"{name:20} {rate:7.1f} MB/s{beside}")


def best_seconds(config: Config, batch: Batch) -> float:
    measure(config, Batch(batch.texts.slice(0, 10)))  # compiles
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        measure(config, batch)
        times.append(time.process_time() - began)
    return min(times)


def measure_datatrove(texts: pa.StringArray) -> dict[str, float]:
    """MB/s of each family, and of all on each document in turn (which then share its words); {} without a peer."""
    python = os.environ.get("CORPUSMILL_DATATROVE")
    if python is None:
        print("CORPUSMILL_DATATROVE does not name a Python with datatrove: measured without it\n")
        return {}
    step = max(1, int(MEGABYTES / PEER_MEGABYTES))
    sample = texts.take(pa.array(range(0, len(texts), step)))
    lines = "".join(json.dumps(text) + "\n" for text in sample.to_pylist())
    done = subprocess.run([python, PEER], input=lines, capture_output=True, text=True, check=True)
    seconds = json.loads(done.stdout.splitlines()[-1])
    size = sum(len(text.encode()) for text in sample.to_pylist()) / 1e6
    return {"four families": size / sum(seconds.values())}


if __name__ == "__main__":
    main()

"""Which model do 3,000 texts need? The cost ladder on each classification set of the acceptance data.

    python -m benchmarks.cost_ladder BASE [MINUTES [SET ...]]

BASE is the folder of a pretrained encoder, such as that of `python -m benchmarks.finetuning_sets`. Two threads. Of
each set 3,000 rows at most; the recommended model must be within one interval of the best on the test rows, and all of
it within MINUTES (10 by default). SETs are names such as "movie reviews"; all by default.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers.utils import logging

from benchmarks.documents import SHARED
from benchmarks.labelled_sets import SETS
from training.finetuning import advice, cost_ladder
from training.labelled import files
from training.recipe.finetuning import FinetuneConfig

ROWS = 3_000
NAMES = ("SST-2", "CoLA", "RTE", "AG News", "movie reviews")


def main(base: str = "", minutes: str = "10", *names: str) -> None:
    """A table for each set: the rungs, what was left out, and the recommendation."""
    if not base or not SHARED.is_dir():
        print("name a BASE; and the acceptance data must lie beside the checkout")
        return
    torch.set_num_threads(2)
    logging.set_verbosity_error()
    for labelled in SETS:
        if labelled.name not in (names or NAMES):
            continue
        with tempfile.TemporaryDirectory() as folder:
            own = {"name": "set", "base": base, "dev_share": 0.25, "sequence_length": 64, **labelled.fields}
            data = {"data": labelled.data(SHARED.parent, Path(folder)), "documents": ROWS}
            rows = files.load(FinetuneConfig.model_validate({**own, **data}), 0)
            started = time.perf_counter()
            rungs = cost_ladder.rungs([], base, 64, str(Path(folder, "work")), "pair" in labelled.fields)
            said = advice.advise(rows, rungs, float(minutes)).said
            seconds = time.perf_counter() - started
        best = max(said["rungs"], key=lambda rung: rung["accuracy"]["value"])
        name = said["recommended"]["name"] or cost_ladder.MAJORITY  # where nothing is surely better
        chosen = next(rung for rung in said["rungs"] if rung["name"] == name)
        print(f"\n{labelled.name}, {said['documents']}: {seconds:.0f} s")
        for rung in said["rungs"]:
            score = rung["accuracy"]
            mark = "*" if rung is chosen else " "
            print(
                f"{mark} {rung['title']:<36} {score['value']:6.1%} ({score['low']:.1%} to {score['high']:.1%})"
                f" Matthews {rung['matthews']['value']:5.2f}"
                f" {rung['seconds']:7.1f} s {rung['documents_per_second']:9,.0f} documents/s"
            )
        for title, why in said["left_out"].items():
            print(f"  {title}: {why}")
        within = chosen["accuracy"]["value"] >= best["accuracy"]["low"]
        print(f"  {said['recommended']['why']}")
        print(f"  within one interval of the best on the test rows: {'yes' if within else 'NO'}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

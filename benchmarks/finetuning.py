"""Fine-tuning on the CPU: rows a second of ours and of Hugging Face's Trainer, and of a head on cached features.

A classifier of BERT base's shape on rows of very different lengths, of the same batch size, both with batches of rows
that are about as long as each other. Each measurement has a process of its own, and is of one epoch, so that both read
the same rows; the sides take turns, and the best of each counts. Processor time is that of all threads. Cached features
are measured from the second epoch on, when they are there, beside all weights trained by the same loop.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments
from transformers.utils import logging

from training.batches.batch import Batch
from training.batches.vocabulary import Vocabulary
from training.finetuning import strategies
from training.finetuning.encoded import Encoded, Order
from training.finetuning.forward import inputs
from training.loop import loop
from training.models import architectures
from training.recipe.model_shapes import PRESETS
from training.recipe.run import OptimiserConfig
from training.recipe.strategies import Features, Full

VOCABULARY, ROWS, BATCH, LENGTH = 30_522, 192, 16, 128
#: Steps of an epoch; one more is run, whose beginning is its end.
STEPS = ROWS // BATCH
SPECIAL = {"pad": 0, "cls": 2, "sep": 3}
TIMES = ("processor", "wall")


@dataclass
class Clock:
    """Wall and processor time when each step began, in seconds."""

    began: dict[int, tuple[float, float]] = field(default_factory=dict)

    def begin(self, step: int) -> None:
        self.began.setdefault(step, (time.perf_counter(), time.process_time()))

    def rates(self) -> dict[str, float]:
        """Rows a second of the first epoch."""
        wall, processor = np.subtract(self.began[STEPS], self.began[0]).tolist()
        return {"wall": ROWS / wall, "processor": ROWS / processor}


def rows() -> Encoded:
    """Random tokens in rows of 8 to 128 tokens."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(3.3, 0.7, ROWS), 8, LENGTH).astype(int)
    tokens = [draw.integers(5, VOCABULARY, length) for length in lengths]
    labels = list(draw.integers(0, 2, ROWS))
    return Encoded(tokens, [np.zeros_like(part) for part in tokens], np.arange(ROWS), {"labels": labels}, 0)


def model(preset: str) -> Any:
    config = architectures.configuration(PRESETS[preset], Vocabulary(VOCABULARY, **SPECIAL), LENGTH)
    config.num_labels = 2
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa").train()


def ours(preset: str, strategy: Full | Features) -> dict[str, float]:
    clock, made, data = Clock(), model(preset), rows()
    with tempfile.TemporaryDirectory() as folder:
        ready = strategies.prepare(strategy, made, 0, LENGTH, 1, folder, "benchmark")
        data = ready.examples(data, "train")
        order = Order(data.lengths, BATCH, 0)

        def batch(step: int) -> Batch:
            arrays = data.arrays(order.rows(step))
            return Batch(arrays, {"loss": len(arrays["tokens"])}, int(arrays["mask"].sum()))

        def loss(module: torch.nn.Module, arrays: Any) -> dict[str, torch.Tensor]:
            logits = module(**inputs(module, arrays)).logits.float()
            return {"loss": torch.nn.functional.cross_entropy(logits, arrays["labels"], reduction="sum")}

        def rate(_group: int, step: int) -> float:
            clock.begin(step)
            return 1.0

        rates = loop.Rates(ready.rates.group, rate)
        work = loop.Work(batch, loss, {"loss": 1.0}, lambda _: {"loss": 1.0}, lambda _: [], 1.0, rates=rates)
        plan = loop.Plan(
            folder, "benchmark", STEPS + 1, 0, BATCH, OptimiserConfig(learning_rate=5e-5, schedule="linear"),
            "fp32", log_every=STEPS, checkpoint_every=10**9,
        )  # fmt: skip
        loop.train(made, work, plan)
    return clock.rates()


class _Rows(Dataset):
    def __init__(self) -> None:
        self.data = rows()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"input_ids": self.data.tokens[row], "labels": int(self.data.targets["labels"][row])}


def _collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    longest = max(len(row["input_ids"]) for row in rows)
    ids, mask = torch.zeros(len(rows), longest, dtype=torch.int64), torch.zeros(len(rows), longest, dtype=torch.int64)
    for at, row in enumerate(rows):
        ids[at, : len(row["input_ids"])] = torch.from_numpy(row["input_ids"])
        mask[at, : len(row["input_ids"])] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([row["labels"] for row in rows])}


def theirs(preset: str) -> dict[str, float]:
    from transformers import TrainerCallback

    clock = Clock()

    class Ticks(TrainerCallback):
        def on_step_begin(self, _arguments: Any, state: Any, *_more: Any, **_named: Any) -> None:
            clock.begin(state.global_step)

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=BATCH, max_steps=STEPS + 1, use_cpu=True, report_to="none",
            save_strategy="no", disable_tqdm=True, logging_strategy="no", train_sampling_strategy="group_by_length",
        )  # fmt: skip
        Trainer(model(preset), arguments, data_collator=_collate, train_dataset=_Rows(), callbacks=[Ticks()]).train()
    return clock.rates()


def child(side: str, preset: str) -> None:
    logging.set_verbosity_error()
    made = {"full": Full(), "features": Features()}
    print(json.dumps(theirs(preset) if side == "theirs" else ours(preset, made[side])))


def measured(side: str, preset: str) -> dict[str, float]:
    """Rows a second by processor and by wall time."""
    command = [sys.executable, "-m", "benchmarks.finetuning", side, preset]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    return json.loads(said)


def main(preset: str = "bert-base", rounds: str = "3") -> None:
    """Rows a second by processor time, then by wall time: the best of ``rounds``, in which the sides take turns."""
    row = "{:<28} {:>14} {:>14}"
    print(row.format(f"{preset}, 2 labels", "rows/cpu s", "rows/s"), flush=True)
    sides = {"full": "ours, all weights", "theirs": "Trainer", "features": "ours, cached features"}
    turns = [{side: measured(side, preset) for side in sides} for _ in range(int(rounds))]
    best = {side: {time_: max(turn[side][time_] for turn in turns) for time_ in TIMES} for side in sides}
    for side, name in sides.items():
        print(row.format(name, *(f"{best[side][time_]:,.1f}" for time_ in TIMES)))
    for name, slow, fast in (("ours / Trainer", "theirs", "full"), ("features / all weights", "full", "features")):
        print(row.format(name, *(f"{best[fast][time_] / best[slow][time_]:.2f}x" for time_ in TIMES)))
        each = [[turn[fast][time_] / turn[slow][time_] for turn in turns] for time_ in TIMES]
        print(row.format("  of each round", *(" ".join(f"{ratio:.2f}" for ratio in ratios) for ratios in each)))


if __name__ == "__main__":
    if sys.argv[1:2] in (["full"], ["theirs"], ["features"]):
        child(*sys.argv[1:])
    else:
        main(*sys.argv[1:])

"""Fine-tuning on the CPU: rows a second of ours and of Hugging Face's Trainer, and of a head on cached features.

A classifier of BERT base's shape on rows of very different lengths, of the same batch size, both with batches of rows
that are about as long as each other. Each measurement has a process of its own. Processor time is that of all threads;
a step is an epoch's share of it, because batches differ in length. Cached features are measured from the second epoch
on, when they are there, beside all weights trained by the same loop.
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
from training.recipe.sections import OptimiserConfig
from training.recipe.strategies import Features, Full

VOCABULARY, ROWS, BATCH, LENGTH, TURNS = 30_522, 96, 16, 128, 2
SPECIAL = {"pad": 0, "cls": 2, "sep": 3}


@dataclass
class Clock:
    """Wall and processor time at the ends of epochs, in seconds."""

    ticks: list[tuple[float, float]] = field(default_factory=list)

    def tick(self) -> None:
        self.ticks.append((time.perf_counter(), time.process_time()))

    def epochs(self) -> dict[str, float]:
        """Seconds of the fastest epoch after the first tick."""
        wall, processor = np.diff(self.ticks, axis=0).min(axis=0).tolist()
        return {"wall": wall, "processor": processor}


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


def ours(preset: str, strategy: Full | Features, epochs: int) -> dict[str, float]:
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

        def evaluate(_measure: loop.Measure) -> loop.Metrics:
            clock.tick()  # at the end of each epoch
            return {"loss": 1.0}

        work = loop.Work(batch, loss, {"loss": 1.0}, evaluate, lambda _: [], 1.0)
        each = order.steps_per_epoch
        plan = loop.Plan(
            folder, "benchmark", each * epochs, 0, BATCH, OptimiserConfig(learning_rate=5e-5, schedule="linear"),
            "fp32", log_every=each, eval_every=each, checkpoint_every=10**9,
        )  # fmt: skip
        # after the first evaluation the best weights are written, so that epoch is never the fastest
        loop.train(made, work, plan)
    return clock.epochs()


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


def theirs(preset: str, epochs: int) -> dict[str, float]:
    from transformers import TrainerCallback

    clock = Clock()

    class Ticks(TrainerCallback):
        def on_epoch_end(self, *_arguments: Any, **_named: Any) -> None:
            clock.tick()

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=BATCH, num_train_epochs=epochs, use_cpu=True, report_to="none",
            save_strategy="no", disable_tqdm=True, logging_strategy="no", train_sampling_strategy="group_by_length",
        )  # fmt: skip
        data = _Rows()
        Trainer(model(preset), arguments, data_collator=_collate, train_dataset=data, callbacks=[Ticks()]).train()
    return clock.epochs()


def child(side: str, preset: str, epochs: str) -> None:
    logging.set_verbosity_error()
    made = {"full": Full(), "features": Features()}
    result = theirs(preset, int(epochs)) if side == "theirs" else ours(preset, made[side], int(epochs))
    print(json.dumps(result))


def measured(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.finetuning", *arguments]
    turns = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        for _ in range(TURNS)
    ]
    return {name: min(turn[name] for turn in turns) for name in turns[0]}


def main() -> None:
    """Rows a second by processor time, then by wall time."""
    row = "{:<28} {:>14} {:>14}"
    print(row.format("bert-base, 2 labels", "rows/cpu s", "rows/s"))
    results = {side: measured(side, "bert-base", "3") for side in ("full", "theirs", "features")}
    for name, side in (("ours, all weights", "full"), ("Trainer", "theirs"), ("ours, cached features", "features")):
        print(row.format(name, *(f"{ROWS / results[side][time_]:,.1f}" for time_ in ("processor", "wall"))), flush=True)
    for name, slow, fast in (("ours / Trainer", "theirs", "full"), ("features / all weights", "full", "features")):
        print(row.format(name, *(f"{results[slow][t] / results[fast][t]:.2f}x" for t in ("processor", "wall"))))


if __name__ == "__main__":
    child(*sys.argv[1:]) if sys.argv[1:] else main()

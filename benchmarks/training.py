"""Pretraining on the CPU: tokens a second of our loop and of Hugging Face's Trainer, same model, tokens and precision.

Both train the shapes of GPT-2 small (causal) and BERT small (masked) for a few steps on windows of the same packed
documents; the first step is left out, the median of the others counts. Ours keeps the documents of a pack apart and
computes the masked-LM head at the masked places; the Trainer does neither. Beside it stands the share of its time in
which our loop waits for the thread that makes batches. Each measurement has a process of its own.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

from pipeline.tokenization import packed
from training import loop, models, objectives
from training.objective import Task
from training.order import IGNORE
from training.recipe import PretrainConfig

STEPS = 5
VOCABULARY = 30_522
SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
RUNS = (("causal", "gpt2", 256, 4), ("mlm", "bert-small", 128, 16))


def documents(folder: str) -> packed.PackedTokens:
    """Random tokens in documents of some hundred: what a token is does not change what it costs."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(50, 800, 200).astype(np.int32)
    tokens = draw.integers(5, VOCABULARY, lengths.sum()).astype(packed.token_dtype(VOCABULARY))
    columns = {
        "start": np.cumsum(lengths) - lengths,
        "length": lengths,
        "id": [str(row) for row in range(len(lengths))],
        "domain": ["random"] * len(lengths),
        "bytes": lengths.astype(np.int64) * 4,
        "repeats": np.ones(len(lengths), np.int32),
        "sentences": [[0]] * len(lengths),
    }
    packed.write_shard(folder, 0, tokens, pa.table(columns, schema=packed.DOCUMENTS_SCHEMA), "benchmark")
    packed.write_manifest(folder, [0], VOCABULARY, SPECIAL, "benchmark")
    return packed.PackedTokens(folder)


def prepare(objective: str, preset: str, length: int, batch: int, precision: str) -> Task:
    config = PretrainConfig(
        name="benchmark",
        objective=objective,  # type: ignore[arg-type]
        tokenizer="random",
        model=preset,
        sequence_length=length,
        batch_size=batch,
        steps=STEPS,
        precision=precision,  # type: ignore[arg-type]
    )
    return Task(config, models.Vocabulary(VOCABULARY, **SPECIAL), 0)


def ours(task: Task, tokens: packed.PackedTokens, folder: str) -> dict[str, float]:
    """Tokens a second, and the share of its time in which the loop waits for batches."""
    objective, config = objectives.load(task.config.objective), task.config
    order = objective.order(task, tokens, 0, True)

    def batch(step: int):
        return objective.examples(task, order.read(np.arange(config.batch_size) + step * config.batch_size))

    module = objective.create(task)
    flops = objective.flops(module, task)
    work = loop.Work(batch, objective.loss, objective.weights(task), lambda _: {"loss": 0.0}, lambda _: [], flops)
    plan = loop.Plan(
        folder,
        "benchmark",
        config.steps or STEPS,
        0,
        config.micro_batch or config.batch_size,
        config.optimiser,
        config.precision,
        config.compile,
        log_every=1,
        checkpoint_every=10**9,
    )
    rows: list[dict[str, Any]] = []
    loop.train(module, work, plan, lambda _step, _steps, metrics: rows.append(metrics))
    later = rows[len(rows) // 2 :]
    names = ("tokens_per_second", "input_wait", "flops")
    return {name: statistics.median(row[name] for row in later) for name in names}


class _Windows(Dataset):
    """The same windows as the Trainer takes them."""

    def __init__(self, task: Task, tokens: packed.PackedTokens) -> None:
        objective, config = objectives.load(task.config.objective), task.config
        order = objective.order(task, tokens, 0, True)
        arrays = objective.examples(task, order.read(np.arange(config.batch_size * (config.steps or STEPS)))).arrays
        self.inputs, self.labels = torch.from_numpy(arrays["tokens"]), torch.from_numpy(arrays["labels"])
        if "picked" in arrays:
            placed = np.full(arrays["tokens"].shape, IGNORE)
            rows, slots = np.nonzero(arrays["labels"] != IGNORE)
            placed[rows, arrays["picked"][rows, slots]] = arrays["labels"][rows, slots]
            self.labels = torch.from_numpy(placed)
        else:
            self.labels = self.inputs  # the model shifts them itself

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.inputs[row], "labels": self.labels[row]}


class _Clock(TrainerCallback):
    def __init__(self) -> None:
        self.ticks: list[float] = []

    def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
        self.ticks.append(time.perf_counter())


def theirs(task: Task, tokens: packed.PackedTokens, folder: str) -> float:
    """Tokens a second of Hugging Face's Trainer."""
    config, clock = task.config, _Clock()
    module = objectives.load(config.objective).create(task)
    arguments = TrainingArguments(
        folder,
        per_device_train_batch_size=config.batch_size,
        max_steps=config.steps or STEPS,
        bf16=config.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        torch_compile=config.compile,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
    )
    Trainer(module, arguments, train_dataset=_Windows(task, tokens), callbacks=[clock]).train()  # type: ignore[arg-type]
    steps = np.diff(clock.ticks).tolist()
    step = statistics.median(steps[len(steps) // 2 :])
    return config.batch_size * config.sequence_length / step


def child(side: str, objective: str, preset: str, length: str, batch: str, precision: str) -> None:
    """One measurement, told as JSON; in a process of its own, because modes spoil each other's (see the guide)."""
    logging.set_verbosity_error()
    task = prepare(objective, preset, int(length), int(batch), precision)
    with tempfile.TemporaryDirectory() as folder:
        tokens = documents(f"{folder}/tokens")
        found = ours(task, tokens, folder) if side == "ours" else {"tokens_per_second": theirs(task, tokens, folder)}
    print(json.dumps(found))


def measured(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.training", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    row = "{:<12} {:<9} {:>12} {:>14} {:>14} {:>8} {:>22}"
    print(row.format("model", "precision", "batch", "ours, tokens/s", "HF Trainer", "ratio", "waiting for batches"))
    for objective, preset, length, batch in RUNS:
        for precision in ("fp32", "bf16"):
            shape = (objective, preset, str(length), str(batch), precision)
            mine, other = measured("ours", *shape), measured("theirs", *shape)["tokens_per_second"]
            speed = mine["tokens_per_second"]
            size, ratio = f"{batch} x {length}", f"{speed / other:.2f}x"
            print(
                row.format(
                    preset, precision, size, f"{speed:,.0f}", f"{other:,.0f}", ratio, f"{mine['input_wait']:.2%}"
                ),
                flush=True,
            )


if __name__ == "__main__":
    child(*sys.argv[1:]) if sys.argv[1:] else main()

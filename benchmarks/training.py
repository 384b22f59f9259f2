"""Pretraining on the CPU: tokens a second of our loop and of Hugging Face's Trainer, same model, tokens and precision.

Both train the shapes of GPT-2 small (causal) and BERT small (masked) for a few steps on windows of the same packed
documents; the first step is left out, the median of the others counts. Ours keeps the documents of a pack apart and
computes the masked-LM head at the masked places; the Trainer does neither. Beside it stands the share of a step that
making its batch takes, which runs in another thread.
"""

from __future__ import annotations

import statistics
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


def ours(task: Task, tokens: packed.PackedTokens, folder: str) -> tuple[float, float]:
    """Tokens a second, and what share of a step making its batch takes."""
    objective, config = objectives.load(task.config.objective), task.config
    order = objective.order(task, tokens, 0, True)

    def batch(step: int):
        return objective.examples(task, order.read(np.arange(config.batch_size) + step * config.batch_size))

    module = objective.create(task)
    work = loop.Work(batch, objective.loss, objective.weights(task), lambda _: {"loss": 0.0}, lambda _: [], 0.0)
    plan = loop.Plan(folder, "benchmark", STEPS, 0, config.batch_size, config.optimiser, config.precision, log_every=1)
    speeds: list[float] = []
    loop.train(module, work, plan, lambda _step, _steps, metrics: speeds.append(metrics["tokens_per_second"]))
    start = time.perf_counter()
    for step in range(10):
        batch(step)
    making = (time.perf_counter() - start) / 10
    speed = statistics.median(speeds[1:])
    return speed, making * speed / (config.batch_size * config.sequence_length)


class _Windows(Dataset):
    """The same windows as the Trainer takes them."""

    def __init__(self, task: Task, tokens: packed.PackedTokens) -> None:
        objective, config = objectives.load(task.config.objective), task.config
        order = objective.order(task, tokens, 0, True)
        arrays = objective.examples(task, order.read(np.arange(config.batch_size * STEPS))).arrays
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
        max_steps=STEPS,
        bf16=config.precision == "bf16",
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
    )
    Trainer(module, arguments, train_dataset=_Windows(task, tokens), callbacks=[clock]).train()  # type: ignore[arg-type]
    step = statistics.median(np.diff(clock.ticks).tolist())
    return config.batch_size * config.sequence_length / step


def main() -> None:
    logging.set_verbosity_error()
    row = "{:<12} {:<9} {:>12} {:>14} {:>14} {:>8} {:>14}"
    print(row.format("model", "precision", "batch", "ours, tokens/s", "HF Trainer", "ratio", "input pipeline"))
    for objective, preset, length, batch in RUNS:
        for precision in ("fp32", "bf16"):
            task = prepare(objective, preset, length, batch, precision)
            with tempfile.TemporaryDirectory() as folder:
                tokens = documents(f"{folder}/tokens")
                mine, share = ours(task, tokens, f"{folder}/ours")
                other = theirs(task, tokens, f"{folder}/theirs")
            size = f"{batch} x {length}"
            ratio = f"{mine / other:.2f}x"
            print(
                row.format(preset, precision, size, f"{mine:,.0f}", f"{other:,.0f}", ratio, f"{share:.2%}"), flush=True
            )


if __name__ == "__main__":
    main()

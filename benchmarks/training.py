"""Pretraining on the CPU: tokens a second of our loop and of Hugging Face's Trainer, same model, tokens and precision.

Both train the shapes of GPT-2 small (causal) and BERT small (masked) for a few steps on windows of the same packed
documents, with the same micro-batches. Ours keeps the documents of a pack apart and computes the masked-LM head at the
masked places; the Trainer does neither. Each measurement has a process of its own, and the two take turns; the first
step of each is left out. Processor time is that of all threads, wall time depends on what else the machine does; of
each the fastest step counts. Beside it stands the share of its time in which our loop waits for batches.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

from benchmarks.documents import packed
from pipeline.store import packed_tokens
from training import objectives
from training.batches import vocabulary
from training.batches.windows import IGNORE, Reader, pieces
from training.loop import loop
from training.objectives.base import Objective, Task
from training.recipe.pretraining import PretrainConfig

STEPS = 3
TURNS = 2
VOCABULARY = 30_522
SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
#: objective, preset, sequence length, batch, micro-batch
RUNS = (("causal", "gpt2", 256, 4, 2), ("mlm", "bert-small", 128, 16, 8))


@dataclass
class Clock:
    """Wall and processor time, in seconds, at the end of each step."""

    ticks: list[tuple[float, float]] = field(default_factory=list)

    def tick(self) -> None:
        self.ticks.append((time.perf_counter(), time.process_time()))

    def speeds(self, tokens: int) -> dict[str, float]:
        """Tokens a second, and a second of processor time, of steps of ``tokens`` each after the first.

        Of the fastest, as other work on a CPU only ever slows; on a GPU of the median.
        """
        steps = np.diff(self.ticks, axis=0)
        wall, processor = (np.median(steps, axis=0) if torch.cuda.is_available() else steps.min(axis=0)).tolist()
        return {"tokens_per_second": tokens / wall, "tokens_per_processor_second": tokens / processor}


def documents(folder: str) -> packed_tokens.PackedTokens:
    """Random tokens in documents of some hundred: what a token is does not change what it costs."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(50, 800, 200)
    return packed(folder, [draw.integers(5, VOCABULARY, length) for length in lengths], VOCABULARY, SPECIAL)


def prepare(objective: str, preset: str, length: int, batch: int, micro: int, precision: str) -> Task:
    config = PretrainConfig(
        name="benchmark",
        objective=objective,  # type: ignore[arg-type]
        tokenizer="random",
        model=preset,
        sequence_length=length,
        batch_size=batch,
        micro_batch=micro,
        steps=STEPS,
        precision=precision,  # type: ignore[arg-type]
    )
    return Task(config, vocabulary.Vocabulary(VOCABULARY, **SPECIAL), 0)


def flops(objective: Objective, task: Task, module: torch.nn.Module, order: Reader) -> float:
    """Of a token, with attention as the packs of ``order`` have it."""
    own = pieces(order.read(np.arange(64)).segments)
    return objective.flops(module, replace(task, pieces=own))


def ours(
    task: Task, tokens: packed_tokens.PackedTokens, folder: str, at_step: Callable[[int], None] = lambda _step: None
) -> dict[str, float]:
    """Speeds, the share of its time in which the loop waits for batches, and the model's FLOP/s.

    ``at_step`` is called before each step's batch is made, two steps ahead.
    """
    objective, config = objectives.load(task.config.objective), task.config
    order = objective.order(task, tokens, 0, True)

    def batch(step: int):
        at_step(step)
        return objective.examples(task, order.read(np.arange(config.batch_size) + step * config.batch_size))

    module = objective.create(task)
    flops_per_token = flops(objective, task, module, order)
    work = loop.Work(
        batch, objective.loss, objective.weights(task), lambda _: {"loss": 0.0}, lambda _: [], flops_per_token
    )
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
    rows, clock = [], Clock()

    def progress(_step: int, _steps: int, metrics: dict[str, Any]) -> None:
        rows.append(metrics)
        clock.tick()

    loop.train(module, work, plan, progress)
    speeds = clock.speeds(config.batch_size * config.sequence_length)
    waited = statistics.median(row["input_wait"] for row in rows[1:])
    return {**speeds, "input_wait": waited, "flops": speeds["tokens_per_second"] * flops_per_token}


class _Windows(Dataset):
    """The same windows as the Trainer takes them."""

    def __init__(self, task: Task, tokens: packed_tokens.PackedTokens) -> None:
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


class _Ticks(TrainerCallback):
    def __init__(self, clock: Clock, at_step: Callable[[int], None]) -> None:
        self.clock, self.at_step = clock, at_step

    def on_step_begin(self, _arguments: Any, state: Any, *_args: Any, **_kwargs: Any) -> None:
        self.at_step(state.global_step)

    def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.clock.tick()


def theirs(
    task: Task, tokens: packed_tokens.PackedTokens, folder: str, at_step: Callable[[int], None] = lambda _step: None
) -> dict[str, float]:
    """The speeds of Hugging Face's Trainer; ``at_step`` is called before each step."""
    config, clock = task.config, Clock()
    module = objectives.load(config.objective).create(task)
    micro = config.micro_batch or config.batch_size
    arguments = TrainingArguments(
        folder,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.batch_size // micro,
        max_steps=config.steps or STEPS,
        bf16=config.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        torch_compile=config.compile,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
    )
    trainer = Trainer(module, arguments, train_dataset=_Windows(task, tokens), callbacks=[_Ticks(clock, at_step)])  # type: ignore[arg-type]
    trainer.train()
    return clock.speeds(config.batch_size * config.sequence_length)


def child(side: str, objective: str, preset: str, length: str, batch: str, micro: str, precision: str) -> None:
    """One measurement, told as JSON; in a process of its own, because modes spoil each other's (see the guide)."""
    logging.set_verbosity_error()
    task = prepare(objective, preset, int(length), int(batch), int(micro), precision)
    with tempfile.TemporaryDirectory() as folder:
        tokens = documents(f"{folder}/tokens")
        result = ours(task, tokens, folder) if side == "ours" else theirs(task, tokens, folder)
    print(json.dumps(result))


def measured(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.training", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def best(turns: list[dict[str, float]]) -> dict[str, float]:
    """The highest of each number, because other work on the machine only ever slows; so of waiting the worst share."""
    return {name: max(turn[name] for turn in turns) for name in turns[0]}


def main() -> None:
    """One row a model and precision; tokens/s by processor time, then by wall time."""
    row = "{:<11} {:<9} {:>12} {:>10} {:>12} {:>7} {:>10} {:>12} {:>7} {:>9}"
    titles = ("ours/cpu s", "Trainer", "ratio", "ours/s", "Trainer", "ratio", "waiting")
    print(row.format("model", "precision", "batch", *titles))
    for objective, preset, length, batch, micro in RUNS:
        for precision in ("fp32", "bf16"):
            shape = (objective, preset, str(length), str(batch), str(micro), precision)
            turns = [(measured("ours", *shape), measured("theirs", *shape)) for _ in range(TURNS)]
            mine, other = (best(list(side)) for side in zip(*turns, strict=True))
            cells = []
            for name in ("tokens_per_processor_second", "tokens_per_second"):
                cells += [f"{mine[name]:,.0f}", f"{other[name]:,.0f}", f"{mine[name] / other[name]:.2f}x"]
            print(row.format(preset, precision, f"{batch} x {length}", *cells, f"{mine['input_wait']:.2%}"), flush=True)


if __name__ == "__main__":
    child(*sys.argv[1:]) if sys.argv[1:] else main()

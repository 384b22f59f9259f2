"""The one training loop: AdamW, clipping, accumulation, schedule, log, evaluation, checkpoints.

A run is a pure function of its ``Work`` and ``Plan``: step ``s`` reads ``work.batch(s)`` and seeds torch with
(seed, s), so a run that was killed goes on from its last checkpoint to bitwise equal weights on the same machine.
The gradient of a step is that of the whole batch: each part of the loss is summed over the micro-batches and divided
by what the whole batch holds of it. Losses stay on the device until the log is written; no step waits for the host.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.store import files
from training import checkpoint as checkpoints
from training import hardware, noise, peaks
from training.checkpoint import Checkpoint
from training.objective import Batch
from training.recipe import OptimiserConfig

Metrics = dict[str, Any]
#: Called with (steps done, steps in all, the latest metrics).
Progress = Callable[[int, int, Metrics], None]

_AHEAD = 2  # batches that are made while the model computes


@dataclass(frozen=True)
class Work:
    """What is trained. ``batch(step)`` must be a pure function; ``loss`` gives the sum of each part of the loss.

    ``weights`` says what each part weighs. ``evaluate`` measures the model on held-out text: ``loss`` and
    whatever else there is. ``documents(step)`` names what the step read. ``flops_per_token`` is for MFU.
    """

    batch: Callable[[int], Batch]
    loss: Callable[[nn.Module, Mapping[str, Tensor]], dict[str, Tensor]]
    weights: Mapping[str, float]
    evaluate: Callable[[Callable[[Mapping[str, np.ndarray]], dict[str, Tensor]]], Metrics]
    documents: Callable[[int], list[str]]
    flops_per_token: float


@dataclass(frozen=True)
class Plan:
    """How it is trained.

    ``folder`` holds the checkpoints and ``metrics.jsonl``; ``fingerprint`` names everything that makes the run.
    """

    folder: str
    fingerprint: str
    steps: int
    seed: int
    micro_batch: int
    optimiser: OptimiserConfig
    precision: str = "auto"
    compile: bool = False
    log_every: int = 10
    eval_every: int | None = None
    checkpoint_every: int = 100
    keep_last: int = 2


@dataclass
class State:
    """What a run carries from step to step beside its weights; kept in every checkpoint."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_step: int | None = None
    best_loss: float = math.inf
    evaluation: Metrics = field(default_factory=dict)


class Diverged(ArithmeticError):
    """The loss or the gradient is not finite. The message names the step, its documents and the last checkpoint."""


def learning_rate(config: OptimiserConfig, step: int, steps: int) -> float:
    """The rate of ``step`` (from 0): linear warm-up to ``learning_rate``, then linear or cosine decay to its floor."""
    warmup = round(config.warmup * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    share = 1 - done if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * (config.floor + (1 - config.floor) * share)


def make_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov 2019), fused; weights decay, but biases, gains and other vectors do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=True,
    )


def train(model: nn.Module, work: Work, plan: Plan, progress: Progress | None = None) -> State:
    """Train ``model`` in place, from its last checkpoint if there is one, to ``plan.steps``.

    Raises Diverged when a loss or a gradient is not finite.
    """
    return _Run(model, work, plan, progress).to_the_end()


class _Run:
    """A run in this process: the model on its device, the optimiser, and losses that were not yet looked at."""

    def __init__(self, model: nn.Module, work: Work, plan: Plan, progress: Progress | None) -> None:
        self.device = hardware.device()
        self.model, self.work, self.plan, self.progress = model.to(self.device), work, plan, progress
        self.optimiser = make_optimiser(self.model, plan.optimiser)
        self.dtype = hardware.autocast_dtype(plan.precision, self.device)  # type: ignore[arg-type]
        self.loss = torch.compile(work.loss, dynamic=False) if plan.compile else work.loss
        self.peak = peaks.peak_flops(hardware.device_name(self.device))
        self.state = State()
        self.kept = checkpoints.found(plan.folder, plan.fingerprint)
        self.unread: list[tuple[Metrics, dict[str, Tensor]]] = []
        self.clock = time.perf_counter()
        if self.kept:
            self._resume(self.kept[-1])
        self._open_log()

    def to_the_end(self) -> State:
        plan, state = self.plan, self.state
        for batch in self._batches(state.step):
            self._step(batch)
            at_end = state.step == plan.steps
            evaluating = at_end or (plan.eval_every is not None and state.step % plan.eval_every == 0)
            saving = at_end or state.step % plan.checkpoint_every == 0
            if evaluating or saving or state.step % plan.log_every == 0:
                self._write_log()
            if evaluating:
                self._evaluate()
            if saving or (evaluating and state.best_step == state.step):
                self._save()
        return state

    def _batches(self, start: int) -> Iterator[Batch]:
        """The batches from step ``start``, made ahead in another thread."""
        with ThreadPoolExecutor(1) as pool:
            ahead: list[Future[Batch]] = []
            for step in range(start, self.plan.steps):
                while len(ahead) < _AHEAD and step + len(ahead) < self.plan.steps:
                    ahead.append(pool.submit(self.work.batch, step + len(ahead)))
                yield ahead.pop(0).result()

    def _step(self, batch: Batch) -> None:
        plan, state = self.plan, self.state
        torch.manual_seed(noise.seed("dropout", plan.seed, state.step))
        rate = learning_rate(plan.optimiser, state.step, plan.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        parts = {name: torch.zeros((), device=self.device) for name in self.work.weights}
        for arrays in self._micro_batches(batch.arrays):
            total = torch.zeros((), device=self.device)
            for name, nats in self._forward(arrays).items():
                mean = nats / max(1, batch.counts[name])
                total = total + self.work.weights[name] * mean
                parts[name] += mean.detach()
            total.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), plan.optimiser.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        state.step += 1
        state.tokens += batch.tokens
        self.unread.append(({"step": state.step, "lr": rate, "tokens": batch.tokens}, {**parts, "grad_norm": norm}))

    def _forward(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        context = torch.autocast(self.device.type, self.dtype) if self.dtype else contextlib.nullcontext()
        with context:
            return self.loss(self.model, arrays)

    def _micro_batches(self, arrays: Mapping[str, np.ndarray]) -> Iterator[dict[str, Tensor]]:
        rows = len(next(iter(arrays.values())))
        for start in range(0, rows, self.plan.micro_batch):
            part = {
                name: torch.from_numpy(array[start : start + self.plan.micro_batch]) for name, array in arrays.items()
            }
            if self.device.type == "cuda":
                part = {name: tensor.pin_memory() for name, tensor in part.items()}
            yield {name: tensor.to(self.device, non_blocking=True) for name, tensor in part.items()}

    def _write_log(self) -> None:
        """Look at the losses since the last time: the only place where the host waits for the device."""
        if not self.unread:
            return
        names = list(self.unread[0][1])
        values = torch.stack([found[name].float() for _, found in self.unread for name in names])
        table = values.reshape(-1, len(names)).tolist()
        elapsed = time.perf_counter() - self.clock
        speed = sum(row["tokens"] for row, _ in self.unread) / elapsed
        rows = []
        for (row, _), numbers in zip(self.unread, table, strict=True):
            measured = dict(zip(names, numbers, strict=True))
            norm = measured.pop("grad_norm")
            loss = sum(self.work.weights[name] * value for name, value in measured.items())
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self._stop(row["step"], loss, norm)
            parts = measured if len(measured) > 1 else {}
            rows.append(
                {
                    **row,
                    "loss": loss,
                    **parts,
                    "grad_norm": norm,
                    "tokens_per_second": speed,
                    "mfu": self._mfu(speed),
                }
            )
        self.unread.clear()
        self.state.seconds += elapsed
        self._append(rows)
        if self.progress is not None:
            self.progress(self.state.step, self.plan.steps, rows[-1])
        self.clock = time.perf_counter()

    def _mfu(self, tokens_per_second: float) -> float | None:
        return tokens_per_second * self.work.flops_per_token / self.peak if self.peak else None

    def _stop(self, step: int, loss: float, norm: float) -> None:
        good = str(self.kept[-1].folder) if self.kept else "none yet"
        read = self.work.documents(step - 1)
        shown = ", ".join(read[:5]) + (f" and {len(read) - 5} more" if len(read) > 5 else "")
        raise Diverged(
            f"step {step}: loss {loss}, gradient norm {norm}. It read the documents {shown}. Last good checkpoint:"
            f" {good}. Lower learning_rate, raise warmup or use fp32; then run the build again."
        )

    def _evaluate(self) -> None:
        self.model.eval()

        @torch.no_grad()
        def measure(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
            sums: dict[str, Tensor] = {}
            for part in self._micro_batches(arrays):
                for name, nats in self._forward(part).items():
                    sums[name] = sums.get(name, torch.zeros((), device=self.device)) + nats
            return sums

        found = self.work.evaluate(measure)
        self.model.train()
        state = self.state
        state.evaluation = found
        if found["loss"] < state.best_loss:
            state.best_loss, state.best_step = found["loss"], state.step
        self._append([{"step": state.step, "evaluation": found}])
        self.clock = time.perf_counter()

    def _save(self) -> None:
        plan, state = self.plan, self.state
        extra = {**vars(state), "best_loss": state.best_loss if state.best_step is not None else None}
        saved = checkpoints.save(plan.folder, state.step, self.model, self.optimiser, plan.fingerprint, extra)
        self.kept = checkpoints.prune([*self.kept, saved], plan.keep_last, state.best_step)
        self.clock = time.perf_counter()

    def _resume(self, last: Checkpoint) -> None:
        checkpoints.restore(last, self.model, self.optimiser)
        self.state = State(**last.extra)
        if self.state.best_step is None:
            self.state.best_loss = math.inf

    def _open_log(self) -> None:
        """Keep of the log what belongs to the checkpoint that the run goes on from."""
        path = files.local(files.join(self.plan.folder, "metrics.jsonl"))
        lines = path.read_text(encoding="utf-8").split("\n") if path.exists() and self.state.step else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= self.state.step]
        with files.replacing(str(path)) as handle:
            handle.write("".join(f"{line}\n" for line in kept).encode())

    def _append(self, rows: list[Metrics]) -> None:
        with files.local(files.join(self.plan.folder, "metrics.jsonl")).open("a", encoding="utf-8") as handle:
            handle.writelines(json.dumps(row) + "\n" for row in rows)

"""The one training loop: steps, clipping, accumulation, schedule, log, evaluation, checkpoints.

A run is a pure function of its ``Work`` and ``Plan``: step ``s`` reads ``work.batch(s)`` and seeds torch with
(seed, s), so a run that was killed goes on from its last checkpoint to bitwise equal weights on the same machine.
The gradient of a step is that of the whole batch: each part of the loss is summed over the micro-batches and divided
by what the whole batch holds of it. Losses stay on the device until the log's thread reads them, and checkpoints are
written by a thread of their own, one at a time; no step waits for either.
In several processes each takes its part of every batch and of what is measured, and of the weights with FSDP.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import operator
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from pipeline import MillError
from pipeline.store import files
from training.batches import random_streams
from training.batches.batch import Batch
from training.loop import checkpoint as checkpoints
from training.loop import hardware, optimisers, processes
from training.loop.checkpoint import Checkpoint
from training.loop.log import Log, Metrics
from training.models import tables
from training.recipe import gpu_peaks
from training.recipe.run import OptimiserConfig

#: Called with (steps done, steps in all, the latest metrics).
Progress = Callable[[int, int, Metrics], None]
#: The sum of each part of the loss of the model, as it is now, on some examples.
Measure = Callable[[Mapping[str, np.ndarray]], dict[str, Tensor]]

_AHEAD = 2  # batches that are made while the model computes


@dataclass(frozen=True)
class Rates:
    """The part of the learning rate that parameters have: ``group`` of a name, and ``factor`` of (group, step).

    A group whose factor is 0 is frozen at that step: it has no gradient, and nothing below the lowest that has one is
    computed backwards. Both must be pure functions.
    """

    group: Callable[[str], int] = lambda _name: 0
    factor: Callable[[int, int], float] = lambda _group, _step: 1.0


EVEN = Rates()


@dataclass(frozen=True)
class Work:
    """What is trained. ``batch(step)`` must be a pure function; ``loss`` gives the sum of each part of the loss.

    ``weights`` says what each part weighs. ``evaluate`` measures the model on held-out text: ``loss`` and
    whatever else there is; at the end ``domains``, if given, does so for each domain. ``documents(step)`` names what
    the step read. ``flops_per_token`` is for MFU. The best weights are those with the least ``error``, by default loss.
    ``rates`` lets parameters learn at parts of the rate. ``part(step, rank, count)``, if given, makes the rows of one
    process among ``count`` alone, with what these count: else each makes the whole batch and takes its part.
    """

    batch: Callable[[int], Batch]
    loss: Callable[[nn.Module, Mapping[str, Tensor]], dict[str, Tensor]]
    weights: Mapping[str, float]
    evaluate: Callable[[Measure], Metrics]
    documents: Callable[[int], list[str]]
    flops_per_token: float
    domains: Callable[[Measure], dict[str, Metrics]] | None = None
    error: Callable[[Metrics], float] = operator.itemgetter("loss")
    rates: Rates = EVEN
    part: Callable[[int, int, int], Batch] | None = None


@dataclass(frozen=True)
class Plan:
    """How it is trained.

    ``folder`` holds the checkpoints and ``metrics.jsonl``. ``fingerprint`` names everything that makes the weights but
    the rates, and so not the number of steps; ``evaluated`` what ``Work.evaluate`` depends on.
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
    evaluated: str = ""

    def made_by(self, step: int) -> str:
        """Names everything that the weights after ``step`` steps depend on.

        It is the same for a longer run as long as the rates up to there are, so that this goes on from there.
        """
        return files.fingerprint(self.fingerprint, hashlib.blake2b(self._rates[:step].tobytes()).hexdigest())

    @cached_property
    def _rates(self) -> np.ndarray:
        return np.array([learning_rate(self.optimiser, step, self.steps) for step in range(self.steps)])

    @property
    def branch(self) -> int | None:
        """The last step whose state a longer run can go on from, where the schedule leaves one before the end."""
        return decay_begins(self.optimiser, self.steps) if self.optimiser.schedule == "wsd" else None


@dataclass
class State:
    """What a run carries from step to step beside its weights; kept in every checkpoint.

    ``best_loss`` is the least ``Work.error``.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_step: int | None = None
    best_loss: float = math.inf
    evaluation: Metrics = field(default_factory=dict)
    evaluated: str = ""


class Diverged(MillError):
    """The loss or the gradient is not finite. The message names the step, its documents and the last checkpoint."""


def learning_rate(config: OptimiserConfig, step: int, steps: int) -> float:
    """The rate of ``step`` (from 0): linear warm-up to ``learning_rate``, then what the schedule makes of it."""
    warmup = round(config.warmup * steps) if config.warmup_steps is None else config.warmup_steps
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    begin = decay_begins(config, steps) if config.schedule == "wsd" else warmup
    done = max(0.0, (step - begin) / max(1, steps - begin))
    match config.schedule:
        case "constant":
            share = 1.0
        case "cosine":
            share = 0.5 * (1 + math.cos(math.pi * done))
        case _:
            share = 1 - done
    return config.learning_rate * (config.floor + (1 - config.floor) * share)


def decay_begins(config: OptimiserConfig, steps: int) -> int:
    """The first step of the decay of warm-up, stable, decay."""
    return steps - round(config.decay * steps)


def train(model: nn.Module, work: Work, plan: Plan, progress: Progress | None = None) -> State:
    """Train ``model`` in place, from its last checkpoint if there is one, to ``plan.steps``.

    In several processes the last checkpoint holds the weights, and ``model`` a wrapped or sharded form of them.
    Raises Diverged when a loss or a gradient is not finite.
    """
    run = _Run(model, work, plan, progress)
    try:
        return run.to_the_end()
    except BaseException as error:
        run.finish_writing(error)
        raise
    finally:
        run.log.close()
        run.writer.shutdown()


class _Forward(nn.Module):
    """The loss as the forward pass of a module, which is what DDP and FSDP wrap."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, Mapping[str, Tensor]], dict[str, Tensor]]) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.loss(self.model, arrays)


@dataclass(frozen=True)
class _Interval:
    """The steps between two looks at the losses. ``began`` is None where it began when the one before had ended."""

    rows: list[Metrics]
    names: list[str]
    began: float | None
    waited: float


class _Run:
    """A run in this process: the model on its device, the optimiser, and losses that were not yet looked at."""

    def __init__(self, model: nn.Module, work: Work, plan: Plan, progress: Progress | None) -> None:
        self.processes = processes.current()
        self.device = hardware.device()
        if self.device.type == "cpu":
            hardware.keep_freed_memory()
        else:
            hardware.sum_in_order()
            tables.sum_by_products(model)
        self.model, self.work, self.plan, self.progress = model.to(self.device), work, plan, progress
        self.module = self.processes.wrap(_Forward(self.model, work.loss))
        self.optimisers = optimisers.make(self.model, plan.optimiser, work.rates.group)
        self.forward = torch.compile(self.module, dynamic=False) if plan.compile else self.module
        self.dtype = hardware.autocast_dtype(plan.precision, self.device)  # type: ignore[arg-type]
        self.peak = gpu_peaks.peak_flops(hardware.device_name(self.device))
        self.state = State()
        self.kept = checkpoints.usable(plan.folder, plan.made_by, plan.steps)
        if self.kept:
            self._resume(self.kept[-1])
        self.processes.wait()  # all have seen the same checkpoints
        self.writer = ThreadPoolExecutor(1, "checkpoints")
        self.writing: Future[None] | None = None
        # a run that was killed may have left some that were to go
        self.kept = self._pruned(self.kept, self.state.best_step)
        self.log = Log(plan.folder, self.state.step, self.processes.first)
        self.unread: list[tuple[Metrics, dict[str, Tensor]]] = []
        self.began: float | None = time.perf_counter()
        self.ended, self.waited = 0.0, 0.0

    def to_the_end(self) -> State:
        plan, state = self.plan, self.state
        for batch in self._batches(state.step):
            self._step(batch)
            at_end = state.step == plan.steps
            evaluating = at_end or (plan.eval_every is not None and state.step % plan.eval_every == 0)
            saving = at_end or state.step % plan.checkpoint_every == 0 or state.step == plan.branch
            if evaluating or saving or state.step % plan.log_every == 0:
                self._look()
            if evaluating or saving:
                self.log.settle()  # nothing is measured or kept of a run that has diverged
            if evaluating:
                self._evaluate()
            if saving or (evaluating and state.best_step == state.step):
                self._save()
            if evaluating or saving:
                self.began = time.perf_counter()
        if not state.evaluation:  # all steps were there, and are measured otherwise than before
            self._evaluate()
            self._save()
        self._written()
        self.processes.wait()  # no process goes on with a checkpoint that is not there
        return state

    def _batches(self, start: int) -> Iterator[tuple[Batch, dict[str, Tensor]]]:
        """The batches from step ``start``, and this process's part of each, made ahead in another thread."""
        with ThreadPoolExecutor(1, "batches") as pool:
            ahead: list[Future[tuple[Batch, dict[str, Tensor]]]] = []
            for step in range(start, self.plan.steps):
                while len(ahead) < _AHEAD and step + len(ahead) < self.plan.steps:
                    ahead.append(pool.submit(self._make, step + len(ahead)))
                asked = time.perf_counter()
                made = ahead.pop(0).result()
                self.waited += time.perf_counter() - asked
                yield made

    def _make(self, step: int) -> tuple[Batch, dict[str, Tensor]]:
        if self.work.part is None or self.processes.count == 1:
            batch = self.work.batch(step)
            return batch, self._tensors(self.processes.part(batch.arrays))
        own = self.work.part(step, self.processes.rank, self.processes.count)
        names = sorted(own.counts)
        tokens, *counts = self.processes.summed([own.tokens, *(own.counts[name] for name in names)])
        return Batch(own.arrays, dict(zip(names, counts, strict=True)), tokens), self._tensors(own.arrays)

    def _tensors(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        if self.device.type == "cuda":
            tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
        return tensors

    def _step(self, made: tuple[Batch, dict[str, Tensor]]) -> None:
        plan, state, (batch, tensors) = self.plan, self.state, made
        rank = (self.processes.rank,) if self.processes.rank else ()
        hardware.seed(random_streams.seed("dropout", plan.seed, state.step, *rank), self.device)
        rate = self._set_rates(state.step)
        parts = {name: torch.zeros((), device=self.device) for name in self.work.weights}
        *others, last = self._micro_batches(tensors)
        for arrays in others:
            with self.processes.without_averaging(self.module):
                self._backward(arrays, batch.counts, parts)
        self._backward(last, batch.counts, parts)
        norm = processes.whole(nn.utils.clip_grad_norm_(self.model.parameters(), plan.optimiser.clip))
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        state.step += 1
        state.tokens += batch.tokens
        self.unread.append(({"step": state.step, "lr": rate, "tokens": batch.tokens}, {**parts, "grad_norm": norm}))

    def _set_rates(self, step: int) -> float:
        """Give each group its part of the rate at ``step``, and freeze those that have none; return the rate."""
        rate = learning_rate(self.plan.optimiser, step, self.plan.steps)
        for group in (group for optimiser in self.optimisers for group in optimiser.param_groups):
            factor = self.work.rates.factor(group["group"], step)
            if not factor and self.processes.count > 1:
                raise MillError("gradual unfreezing runs in one process: start it without a launcher")
            group["lr"] = rate * factor
            for parameter in group["params"]:
                parameter.requires_grad_(bool(factor))
        return rate

    def _backward(self, arrays: Mapping[str, Tensor], counts: Mapping[str, int], parts: dict[str, Tensor]) -> None:
        """Add the gradient of a micro-batch, and its losses to ``parts``."""
        total = torch.zeros((), device=self.device)
        for name, nats in self._losses(arrays).items():
            mean = nats / max(1, counts[name])
            total = total + self.work.weights[name] * mean
            parts[name] += mean.detach()
        (total * self.processes.count).backward()  # the processes' gradients are averaged; their sum is needed

    def _losses(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        context = torch.autocast(self.device.type, self.dtype) if self.dtype else contextlib.nullcontext()
        # what is left at the end of an evaluation is not worth a compilation for its shape
        usual = self.module.training or len(next(iter(arrays.values()))) == self.plan.micro_batch
        forward = self.forward if usual else self.module
        with context:
            return forward(arrays)

    def _micro_batches(self, tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        rows = len(next(iter(tensors.values())))
        for start in range(0, rows, self.plan.micro_batch):
            part = slice(start, start + self.plan.micro_batch)
            yield {name: tensor[part].to(self.device, non_blocking=True) for name, tensor in tensors.items()}

    def _look(self) -> None:
        """Have the log's thread look at the losses since the last time and write them."""
        if not self.unread:
            return
        rows, losses = [row for row, _ in self.unread], [sums for _, sums in self.unread]
        names = list(self.work.weights)
        values = self.processes.total(torch.stack([sums[name].float() for sums in losses for name in names]))
        norms = torch.stack([sums["grad_norm"].float() for sums in losses])
        table = torch.cat([values.reshape(-1, len(names)), norms[:, None]], dim=1)
        interval = _Interval(rows, names, self.began, self.waited)
        self.unread, self.began, self.waited = [], None, 0.0
        self.log.later(table, lambda numbers, now: self._write(interval, numbers, now))

    def _write(self, interval: _Interval, numbers: list[list[float]], now: float) -> None:
        """In the log's thread: the rows of ``interval``, whose losses were computed at the time ``now``."""
        elapsed = now - (self.ended if interval.began is None else interval.began)
        self.ended = now
        self.state.seconds += elapsed
        speed = sum(row["tokens"] for row in interval.rows) / elapsed
        flops = speed * self.work.flops_per_token
        measured = {
            "tokens_per_second": speed,
            "flops": flops,
            "mfu": flops / (self.peak * self.processes.count) if self.peak else None,
            "input_wait": interval.waited / elapsed,
        }
        rows = []
        for row, (*values, norm) in zip(interval.rows, numbers, strict=True):
            parts = dict(zip(interval.names, values, strict=True))
            loss = sum(self.work.weights[name] * value for name, value in parts.items())
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self._stop(row["step"], loss, norm)
            rows.append({**row, "loss": loss, **(parts if len(parts) > 1 else {}), "grad_norm": norm, **measured})
        self.log.append(rows)
        if self.progress is not None and self.processes.first:
            self.progress(rows[-1]["step"], self.plan.steps, rows[-1])

    def _stop(self, step: int, loss: float, norm: float) -> None:
        wait([self.writing] if self.writing else [])
        good = str(self.kept[-1].folder) if self.kept else "none yet"
        read = self.work.documents(step - 1)
        shown = ", ".join(read[:5]) + (f" and {len(read) - 5} more" if len(read) > 5 else "")
        raise Diverged(
            f"step {step}: loss {loss}, gradient norm {norm}. It read the documents {shown}. Last good checkpoint:"
            f" {good}. Lower learning_rate, raise warmup or use fp32; then run the build again."
        )

    def _evaluate(self) -> None:
        self.module.eval()

        @torch.no_grad()
        def measure(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
            sums: dict[str, Tensor] = {}
            for part in self._micro_batches(self._tensors(arrays)):
                for name, nats in self._losses(part).items():
                    sums[name] = sums.get(name, torch.zeros((), device=self.device)) + nats
            return sums

        evaluation = self.work.evaluate(measure)
        if self.work.domains is not None and self.state.step == self.plan.steps:
            evaluation = {**evaluation, "domains": self.work.domains(measure)}
        self.module.train()
        state = self.state
        state.evaluation, state.evaluated = evaluation, self.plan.evaluated
        error = self.work.error(evaluation)
        if error < state.best_loss:
            state.best_loss, state.best_step = error, state.step
        self.log.append([{"step": state.step, "evaluation": evaluation}])

    def _save(self) -> None:
        self._written()  # the copies of one checkpoint at a time
        plan, state, first = self.plan, self.state, self.processes.first
        extra = {**vars(state), "best_loss": state.best_loss if state.best_step is not None else None}
        made_by = plan.made_by(state.step)
        snapshot = checkpoints.copied(state.step, self.model, self.optimisers, first)
        if snapshot is None:
            folder = files.local(checkpoints.path_of(plan.folder, state.step))
            self._keep(Checkpoint(folder, state.step, made_by, extra))
            return

        def work() -> None:
            self._keep(checkpoints.save(plan.folder, snapshot, made_by, extra))

        self.writing = self.writer.submit(copy_context().run, work)

    def _written(self) -> None:
        """Wait until the last checkpoint is on the disk; raises what went wrong."""
        writing, self.writing = self.writing, None
        if writing is not None:
            writing.result()

    def finish_writing(self, error: BaseException) -> None:
        """Wait for the last checkpoint of a run that ``error`` ends, and note on this what went wrong."""
        wait([self.writing] if self.writing else [])
        failed = self.writing.exception() if self.writing else None
        if failed is not None:
            error.add_note(f"the last checkpoint was not written: {failed}")

    def _keep(self, saved: Checkpoint) -> None:
        kept = [*(other for other in self.kept if other.step != saved.step), saved]
        self.kept = self._pruned(kept, saved.extra["best_step"])

    def _pruned(self, kept: list[Checkpoint], best_step: int | None) -> list[Checkpoint]:
        """What is left for a run that goes on from the last of ``kept``, whose best step is ``best_step``."""
        plan = self.plan
        return checkpoints.prune(kept, plan.keep_last, {best_step, plan.branch}, self.processes.first)

    def _resume(self, last: Checkpoint) -> None:
        if last.step:
            self._set_rates(last.step - 1)  # what was frozen has no moments
        checkpoints.restore(last, self.model, self.optimisers)
        self.state = State(**last.extra)
        if self.state.evaluated != self.plan.evaluated:  # what was best by another measure
            self.state.best_step, self.state.evaluation = None, {}
        if self.state.best_step is None:
            self.state.best_loss = math.inf

"""What each step of a run reads: phases of shorter sequences or other batches first, then the run's own.

Devlin 2019 (BERT, appendix A.2): sequences of 128 tokens for 90 % of the steps, then of 512, for attention costs more
the longer they are. A phase goes on in the corpus as far as those before it have read, in passes over it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from pipeline import MillError
from pipeline.store.packed_tokens import PackedTokens
from training.batches import random_streams
from training.batches.batch import Batch
from training.batches.windows import Reader, Windows
from training.loop import processes
from training.objectives.base import Objective, Task


@dataclass(frozen=True)
class _Phase:
    """Steps from ``begin`` to ``end`` (None: of the run), which read ``order`` from the window ``at`` on."""

    task: Task
    order: Reader
    begin: int
    end: int | None
    at: int


class Phases:
    """The batches of a run, each a pure function of its step."""

    def __init__(self, objective: Objective, task: Task, packed: PackedTokens) -> None:
        self.objective, self._phases = objective, list[_Phase]()
        begin, passes = 0, 0.0
        seed = random_streams.seed("order", task.seed)
        own = {"sequence_length": task.config.sequence_length, "batch_size": task.config.batch_size}
        for phase in [*task.config.first, None]:
            asked = {} if phase is None else phase.model_dump(exclude={"steps"}, exclude_none=True)
            part = replace(task, config=task.config.model_copy(update={**own, **asked}))
            order = objective.order(part, packed, seed, True)
            end = None if phase is None else begin + phase.steps
            self._phases.append(_Phase(part, order, begin, end, math.ceil(passes * order.windows_per_epoch)))
            if phase is not None:
                begin += phase.steps
                passes += phase.steps * part.config.batch_size / order.windows_per_epoch

    @property
    def order(self) -> Reader:
        """Of the last phase."""
        return self._phases[-1].order

    def steps(self) -> int:
        """Of the run, from whichever of steps, tokens and epochs the recipe gives. Raises MillError for too few."""
        config, last = self._phases[-1].task.config, self._phases[-1]
        if config.steps is not None:
            return config.steps
        read = [(phase, (phase.end or 0) - phase.begin) for phase in self._phases[:-1]]
        if config.tokens is not None:
            before = sum(steps * phase.task.config.batch_size * phase.order.length for phase, steps in read)
            left = (config.tokens - before) / (config.batch_size * last.order.length)
        else:
            assert config.epochs is not None  # the recipe's check
            passes = sum(steps * phase.task.config.batch_size / phase.order.windows_per_epoch for phase, steps in read)
            left = (config.epochs - passes) * last.order.windows_per_epoch / config.batch_size
        if read and left <= 0:
            raise MillError(
                f"pretrain {config.name!r}: the phases in `first` read all that the run is to; give it more `tokens` or"
                " `epochs`, or the phases fewer `steps`"
            )
        return last.begin + max(1, math.ceil(left))

    def epochs(self, steps: int) -> float:
        """Passes over the training tokens that ``steps`` come to."""
        ends = [steps if phase.end is None else phase.end for phase in self._phases]
        return sum(
            (end - phase.begin) * phase.task.config.batch_size / phase.order.windows_per_epoch
            for phase, end in zip(self._phases, ends, strict=True)
        )

    def windows(self, step: int) -> Windows:
        """What ``step`` (from 0) reads."""
        phase = self._of(step)
        return phase.order.read(self._positions(phase, step))

    def batch(self, step: int) -> Batch:
        """The examples of ``step`` (from 0)."""
        phase = self._of(step)
        return self.objective.examples(phase.task, phase.order.read(self._positions(phase, step)))

    def part(self, step: int, rank: int, count: int) -> Batch:
        """The rows of ``batch`` that the process ``rank`` of ``count`` trains on."""
        phase = self._of(step)
        own = processes.own_rows(phase.task.config.batch_size, rank, count)
        return self.objective.examples(phase.task, phase.order.read(self._positions(phase, step)[own]))

    def length(self, step: int) -> int:
        """Tokens in a sequence of ``step`` (from 0)."""
        return self._of(step).order.length

    def _of(self, step: int) -> _Phase:
        return next(phase for phase in self._phases if phase.end is None or step < phase.end)

    @staticmethod
    def _positions(phase: _Phase, step: int) -> np.ndarray:
        rows = phase.task.config.batch_size
        return phase.at + np.arange((step - phase.begin) * rows, (step - phase.begin + 1) * rows)

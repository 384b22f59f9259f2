"""The log of a run, written by a thread of its own: ``metrics.jsonl`` and TensorBoard's event files.

The loop hands over losses that may still be on the device and goes on; the thread waits for them, looks whether they
are finite, and writes. What it finds wrong is raised in the loop at its next call.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from tensorboardX import SummaryWriter
from torch import Tensor

from pipeline.store import files

Metrics = dict[str, Any]


class Log:
    """Rows of a run in ``folder`` after ``step``; later rows that a killed run left are taken out.

    ``write`` is false in processes that only look at the losses.
    """

    def __init__(self, folder: str, step: int, write: bool) -> None:
        self.path = files.local(files.join(folder, "metrics.jsonl"))
        self.thread = ThreadPoolExecutor(1, "log")
        self.pending: list[Future[None]] = []
        self.board: SummaryWriter | None = None
        self.write = write
        if write:
            self._keep_until(step)
            self.board = SummaryWriter(str(self.path.parent / "tensorboard"), purge_step=step + 1)

    def later(self, values: Tensor, then: Callable[[list[list[float]], float], None]) -> None:
        """Call ``then`` with ``values`` [n, m] and the time (perf_counter) at which they were there, in the thread.

        Raises what an earlier call of ``then`` raised.
        """
        host, arrived = values, None
        if values.is_cuda:
            host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            host.copy_(values, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()

        def work() -> None:
            if arrived is not None:
                arrived.synchronize()
            then(host.tolist(), time.perf_counter())

        self._submit(work)

    def append(self, rows: list[Metrics]) -> None:
        """Write ``rows``; to be called in the thread or after ``settle``."""
        if self.board is None:
            return
        with self.path.open("a", encoding="utf-8") as handle:
            handle.writelines(json.dumps(row) + "\n" for row in rows)
        files.keep(str(self.path))
        for row in rows:
            for name, value in _scalars(row):
                self.board.add_scalar(name, value, row["step"])

    def settle(self) -> None:
        """Wait until everything is looked at and written; raises what was found wrong."""
        pending, self.pending = self.pending, []
        for future in pending:
            future.result()

    def close(self) -> None:
        self.thread.shutdown()
        if self.board is not None:
            self.board.close()

    def _submit(self, work: Callable[[], None]) -> None:
        done = [future for future in self.pending if future.done()]
        self.pending = [future for future in self.pending if not future.done()]
        for future in done:
            future.result()
        self.pending.append(self.thread.submit(work))

    def _keep_until(self, step: int) -> None:
        lines = self.path.read_text(encoding="utf-8").split("\n") if self.path.exists() and step else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        with files.replacing(str(self.path), summed=False) as handle:
            handle.write("".join(f"{line}\n" for line in kept).encode())


def _scalars(row: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Names and values for TensorBoard: ``train/loss``, ``heldout/loss``."""
    group, values = ("heldout", row["evaluation"]) if "evaluation" in row else ("train", row)
    return [(f"{group}/{k}", v) for k, v in values.items() if isinstance(v, int | float) and k != "step"]

"""Many who ask at the same time, one model: rows that wait are predicted together, in one thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from training.prediction.model import Model
from training.prediction.predictions import Prediction
from training.prediction.rows import Row

#: Seconds that the first who asks waits for others.
WAIT = 0.005
#: Rows that are predicted together; and rows that may wait, beyond which nobody else is let in.
TOGETHER, WAITING = 256, 2_048


#: What the model says of a row, and whether it did not read it to its end.
Answered = tuple[Prediction, bool]


class Busy(Exception):
    """More rows wait than ``WAITING``."""


class Batcher:
    """``predict`` answers while ``run`` runs, which is to be cancelled when nobody waits any more."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._queue: asyncio.Queue[tuple[Sequence[Row], asyncio.Future[list[Answered]]]] = asyncio.Queue()
        self._waiting = 0

    async def predict(self, rows: Sequence[Row]) -> list[Answered]:
        """What the model says of each of ``rows``. Raises Busy."""
        if self._waiting and self._waiting + len(rows) > WAITING:
            raise Busy
        answer: asyncio.Future[list[Answered]] = asyncio.get_running_loop().create_future()
        self._waiting += len(rows)
        self._queue.put_nowait((rows, answer))
        return await answer

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "model") as thread:
            while True:
                taken = [await self._queue.get()]
                await asyncio.sleep(WAIT)
                while not self._queue.empty() and sum(len(rows) for rows, _ in taken) < TOGETHER:
                    taken.append(self._queue.get_nowait())
                rows = [row for part, _ in taken for row in part]
                computed = loop.run_in_executor(thread, self._answers, rows)
                await asyncio.wait([computed])
                self._waiting -= len(rows)
                _answer(taken, computed)

    def _answers(self, rows: Sequence[Row]) -> list[Answered]:
        cut = [self._model.is_cut(row) for row in rows]
        return list(zip(self._model.predict(rows), cut, strict=True))


def _answer(
    taken: list[tuple[Sequence[Row], asyncio.Future[list[Answered]]]], computed: asyncio.Future[list[Answered]]
) -> None:
    error, at = computed.exception(), 0
    for rows, answer in taken:
        if answer.cancelled():  # who asked has gone
            pass
        elif error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(computed.result()[at : at + len(rows)])
        at += len(rows)

"""Which rows are for training, which to choose by, and which for the test: by hash, so that it never changes.

A row's place in [0, 1) is a pure function of the seed and of its key: its group, or what it says. So rows of one key
stay together, other rows in the file change nothing, and neither does their order.
"""

from __future__ import annotations

from collections.abc import Sequence

from training.batches import random_streams


def place(seed: int, purpose: str, key: str) -> float:
    """Where ``key`` falls in [0, 1)."""
    return random_streams.seed("task", purpose, seed, key) / (1 << 63)


def below(seed: int, purpose: str, keys: Sequence[str], share: float) -> list[bool]:
    """For each key whether it is in the first ``share`` of the places."""
    verdicts: dict[str, bool] = {key: place(seed, purpose, key) < share for key in set(keys)}
    return [verdicts[key] for key in keys]

"""Randomness by name: every draw of a run is a pure function of what it is for, never of what was drawn before.

Philox (Salmon 2011) is a counter-based generator: the key names the run, the counter starts at the place in it. So the
same batches come out for any number of workers, any micro-batch size and from any resume point.
"""

from __future__ import annotations

import hashlib

import numpy as np


def generator(*names: int | str, epoch: int = 0, position: int = 0) -> np.random.Generator:
    """The random stream of one ``position`` in one ``epoch`` of what ``names`` name; streams do not overlap."""
    digest = hashlib.blake2b("\0".join(map(repr, names)).encode(), digest_size=16).digest()
    key = np.frombuffer(digest, np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, position, epoch], np.uint64)))


def uniforms(rows: np.ndarray, shape: tuple[int, ...], *names: int | str) -> np.ndarray:
    """Float64 [n, *shape] in [0, 1): entry i is a pure function of ``rows[i]``, (epoch, position), and ``names``."""
    out = np.empty((len(rows), *shape))
    for row, (epoch, position) in enumerate(rows.tolist()):
        out[row] = generator(*names, epoch=epoch, position=position).random(shape)
    return out


def seed(*names: int | str) -> int:
    """A 63-bit seed for torch, named like a stream."""
    digest = hashlib.blake2b("\0".join(map(repr, names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1

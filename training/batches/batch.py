"""A batch: what a step of training reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Batch:
    """Examples as arrays whose first axis is the sequence, and for each part of the loss what its sum is divided by.

    ``tokens`` counts the tokens of documents in it, without padding.
    """

    arrays: Mapping[str, np.ndarray]
    counts: Mapping[str, int]
    tokens: int

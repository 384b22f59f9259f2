"""Which texts to label next: those that the model is least sure of, and that are unlike each other.

Uncertainty by entropy (Lewis and Gale 1994), variety by farthest-first traversal (Gonzalez 1985; Sener and Savarese
2018): of the most uncertain texts, each next one is the farthest from all that were chosen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import entr
from sklearn.metrics.pairwise import cosine_similarity

#: How many uncertain texts there are to choose from, for each that is chosen.
_OFFERED = 10


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Of each row of [n, classes], in nats."""
    return entr(probabilities).sum(1)


def choose(probabilities: np.ndarray, features: Any, count: int) -> np.ndarray:
    """Rows of the ``count`` texts most worth labelling, int64, the best first.

    ``features`` [n, width], dense or csr. Texts whose features equal one that was chosen come last.
    """
    uncertain = entropy(probabilities)
    offered = np.argsort(-uncertain, kind="stable")[: count * _OFFERED]
    part = features[offered]
    distance = np.full(len(offered), np.inf)
    chosen: list[int] = []
    for _ in range(min(count, len(offered))):
        at = int(np.argmax(distance))
        chosen.append(at)
        distance = np.minimum(distance, 1 - cosine_similarity(part, part[[at]])[:, 0])
        distance[chosen] = -1
    return offered[chosen]

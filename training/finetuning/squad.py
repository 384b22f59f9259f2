"""Exact match and F1 of answers by the official definition of SQuAD.

Rajpurkar et al. 2016 and 2018, evaluate-v1.1.py and evaluate-v2.0.py: texts are compared in lower case, without
punctuation, articles and extra white space; F1 is that of their words; of several gold answers the best counts; a
question without an answer is answered by an empty text.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact(answer: str, gold: Sequence[str]) -> float:
    """1 where ``answer`` is one of ``gold``; no gold answer at all means the empty one."""
    return max(float(normalised(answer) == wanted) for wanted in _texts(gold))


def f1(answer: str, gold: Sequence[str]) -> float:
    """The best F1 of the words of ``answer`` with those of one of ``gold``."""
    return max(_f1(normalised(answer).split(), wanted.split()) for wanted in _texts(gold))


def _texts(gold: Sequence[str]) -> list[str]:
    """The gold answers, normalised; as the official program has it, those of which nothing is left do not count."""
    return [text for text in map(normalised, gold) if text] or [""]


def _f1(answer: list[str], wanted: list[str]) -> float:
    if not answer or not wanted:
        return float(answer == wanted)
    same = sum((Counter(answer) & Counter(wanted)).values())
    return 2 * same / (len(answer) + len(wanted))


def best_threshold(lead: np.ndarray, answered: np.ndarray, empty: np.ndarray) -> float:
    """The least score lead of no answer above which none is given, for the highest mean F1.

    ``lead`` [rows] is how much better no answer scores than the best one; ``answered`` and ``empty`` [rows] are the F1
    of the best answer and of none. Of equal means the threshold is the one that answers more; between the leads that it
    lies between, it is their middle.
    """
    order = np.argsort(lead, kind="stable")
    gains = np.concatenate([[0.0], np.cumsum((answered - empty)[order])])  # of answering the first k
    ordered = lead[order]
    possible = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])  # rows of equal lead go together
    answers = int(len(gains) - 1 - np.argmax(np.where(possible, gains, -np.inf)[::-1]))
    if answers == 0:
        return float(ordered[0]) - 1
    if answers == len(ordered):
        return float(ordered[-1]) + 1
    return float(ordered[answers - 1] + ordered[answers]) / 2

"""Scores of written texts beside the true ones: BLEU, chrF, ROUGE and exact match, with intervals.

BLEU and chrF are sacrebleu's, of the whole test set: the counts that a score is made of are kept by row, so that each
resample is scored as a test set of its own. ROUGE is the mean over rows of the F-measures of rouge-score, which reads
letters a to z and digits only. All are on the scale from 0 to 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging as absl_logging
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from training.finetuning import scores
from training.finetuning.scores import Measure

# rouge-score brings absl along, whose handler would close the stream it first saw when logging is set up again
absl_logging.get_absl_handler().python_handler.setStream(sys.__stderr__)

_ROUGE = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeL": "rouge_l"}


def measures(written: Sequence[str], true: Sequence[str], groups: list[str]) -> list[Measure]:
    """Of texts [rows] and the one true text of each."""
    scorer = RougeScorer(list(_ROUGE))
    rouge = [scorer.score(target, text) for text, target in zip(written, true, strict=True)]
    exact = [text == target.strip() for text, target in zip(written, true, strict=True)]

    def mean(name: str, values: Sequence[float]) -> Measure:
        return Measure(name, scores.by_group(np.stack([values, np.ones(len(values))], axis=1), groups), scores.ratio)

    return [
        _of_corpus("chrf", CHRF(), written, true, groups),
        _of_corpus("bleu", BLEU(), written, true, groups),
        *(mean(ours, [row[theirs].fmeasure for row in rouge]) for theirs, ours in _ROUGE.items()),
        mean("exact_match", exact),
    ]


def _of_corpus(name: str, metric: Any, written: Sequence[str], true: Sequence[str], groups: list[str]) -> Measure:
    # sacrebleu keeps its counts to itself, but its own bootstrap goes by the same two functions; its release is pinned
    counts = np.array(metric._extract_corpus_statistics(list(written), [list(true)]), np.float64)

    def value(summed: np.ndarray) -> np.ndarray:
        flat = summed.reshape(-1, summed.shape[-1])
        scores = [metric._compute_score_from_stats([round(n) for n in row]).score / 100 for row in flat.tolist()]
        return np.array(scores).reshape(summed.shape[:-1])

    return Measure(name, scores.by_group(counts, groups), value)

"""What is said of a classifier's confidence: fitted on the development rows, and measured on the test."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from training.finetuning import scores
from training.finetuning.confidence import abstain, calibration, conformal, temperature

#: The share of sets that may miss the label.
ALPHA = 0.1
_COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


def assess(
    dev_logits: np.ndarray, dev_labels: np.ndarray, logits: np.ndarray, labels: np.ndarray, groups: list[str]
) -> dict[str, Any]:
    """As plain values for a summary: scaling, calibration before and after it, abstaining, conformal sets.

    Logits float [n, classes], labels int64 [n]; ``groups`` of the test rows, whose resampling gives the intervals.
    Conformal sets and abstaining go by the scaled probabilities.
    """
    scaling = temperature.fit_scaling(dev_logits, dev_labels)
    plain, scaled = temperature.probabilities(logits), temperature.probabilities(logits, *scaling)
    right, confidence = calibration.is_right(scaled, labels), calibration.confidences(scaled)
    answered = abstain.curve(confidence, right)
    points = [dict(zip(("threshold", "coverage", "accuracy"), answered.at(share), strict=True)) for share in _COVERAGES]
    return {
        **scaling._asdict(),
        "curve": [list(knot) for knot in scaling.curve],
        "ece": {
            "before": calibration.error(calibration.confidences(plain), right),
            "after": calibration.error(confidence, right),
            "by_chance": calibration.by_chance(confidence),
            "bins": calibration.BINS,
            "rows": len(labels),
        },
        "reliability": {
            name: [asdict(b) for b in calibration.reliability(calibration.confidences(shares), right)]
            for name, shares in (("before", plain), ("after", scaled))
        },
        "abstain": {"area": answered.area, "points": points},
        "conformal": _conformal(temperature.probabilities(dev_logits, *scaling), dev_labels, scaled, labels, groups),
    }


def _conformal(
    dev: np.ndarray, dev_labels: np.ndarray, test: np.ndarray, labels: np.ndarray, groups: list[str]
) -> dict[str, Any]:
    q = conformal.quantile(dev, dev_labels, ALPHA)
    chosen = conformal.sets(test, q)
    covered = conformal.covered(chosen, labels)
    nothing = np.zeros(len(labels), np.int64)
    counts = scores.confusion(nothing, (~covered).astype(np.int64), groups, 2)
    return {
        "alpha": ALPHA,
        "quantile": q,
        "coverage": asdict(scores.interval(scores.accuracy, counts)),
        "mean_size": float(chosen.sum(1).mean()),
        "empty": int((~chosen.any(1)).sum()),
    }

from __future__ import annotations

import json

import numpy as np
import pytest

from training.finetuning.confidence import temperature
from training.finetuning.confidence.assess import assess


def test_an_overconfident_model_is_put_right() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(12_000, 3)) * 6
    labels = (draw.random((12_000, 1)) > temperature.probabilities(logits, 3.0).cumsum(1)).sum(1)
    groups = [str(row) for row in range(6_000)]
    found = assess(logits[:6_000], labels[:6_000], logits[6_000:], labels[6_000:], groups)
    assert json.loads(json.dumps(found)) == found
    assert found["temperature"] == pytest.approx(3, rel=0.05)
    assert found["ece"]["before"] > 0.1
    assert found["ece"]["after"] < 2 * found["ece"]["by_chance"]
    assert [sum(b["rows"] for b in found["reliability"][name]) for name in ("before", "after")] == [6_000, 6_000]
    coverage = found["conformal"]["coverage"]
    assert coverage["low"] <= 0.9 <= coverage["high"]
    assert 1 < found["conformal"]["mean_size"] < 3
    accuracies = [point["accuracy"] for point in found["abstain"]["points"]]
    assert accuracies == sorted(accuracies)
    assert found["abstain"]["points"][0]["coverage"] == 1

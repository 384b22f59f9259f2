from __future__ import annotations

from typing import Any

import pytest

from pipeline.report import models

SCORE = {"value": 0.5, "low": 0.4, "high": 0.6}


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("classify", "most frequent label"),
        ("answers", "most frequent answer"),
        ("text2text", "most frequent target"),
        ("tokens", "most frequent label"),
    ],
)
def test_the_baseline_without_a_model_is_named_by_what_the_task_predicts(task: str, name: str) -> None:
    measures = {"entity_f1": SCORE, "precision": SCORE, "recall": SCORE, "word_accuracy": SCORE}
    run: dict[str, Any] = {"like": task, "scores": {"majority": measures, "model": measures}}
    scored = models.scored(run)
    assert [row["name"] for row in scored["rows"]] == ["this model", name]
    assert scored["measures"] == ["Entity F1", "Precision", "Recall", "Word accuracy"]

from __future__ import annotations

from pathlib import Path

from pipeline.build.build import Build
from pipeline.report import classifier, render
from pipeline.store import files
from tests.helpers import small_build

LABELS = ["sea", "<b>sky</b>"]
INTERVAL = {"value": 0.75, "low": 0.5, "high": 0.9}
BINS = [{"rows": 50, "confidence": 0.6, "accuracy": 0.5}, {"rows": 50, "confidence": 0.9, "accuracy": 0.95}]
RUN = {
    "name": "topics",
    "base": "small",
    "label": "topic",
    "labels": LABELS,
    "documents": {"train": 300, "dev": 50, "test": 100},
    "scores": {name: {"accuracy": INTERVAL} for name in ("model", "bag_of_words", "majority")},
    "confusion": [[40, 11], [14, 35]],
    "confidence": {
        "temperature": 1.75,
        "spread": 0.036,
        "ece": {"before": 0.123, "after": 0.045, "by_chance": 0.031, "bins": 15, "rows": 100},
        "reliability": {"before": BINS, "after": BINS},
        "abstain": {"area": 0.8, "points": [{"threshold": 0.55, "coverage": 0.9, "accuracy": 0.82}]},
        "conformal": {"alpha": 0.1, "quantile": 0.7, "coverage": INTERVAL, "mean_size": 1.25, "empty": 0},
    },
    "costs": {"threshold": 0.237, "most_probable": INTERVAL, "least_cost": {"value": 0.3125, "low": 0.2, "high": 0.4}},
    "slices": [
        {"column": "language", "value": "de", "rows": 30, "accuracy": INTERVAL, "lead": INTERVAL, "fails": True},
    ],
    "suspects": {
        "rows": [
            {
                "place": "topics.csv:77",
                "label": "sea",
                "suggested": LABELS[1],
                "text": "<i>wind</i>",
                "neighbours": [{"label": LABELS[1], "cosine": 0.75, "text": "<i>cloud</i>"}],
            }
        ]
    },
    "errors": [
        {
            "id": "r7",
            "place": "topics.csv:9",
            "text": "<script>wave</script>",
            "label": "sea",
            "predicted": LABELS[1],
            "confidence": 0.987,
        }
    ],
}


def test_the_page_shows_confusion_calibration_slices_and_errors(tmp_path: Path) -> None:
    build = small_build.open_small(tmp_path)
    recipe = build.recipe.model_copy(update={"finetune": [small_build.Named(name="topics")]})
    files.write_json(build.path("models", "topics", "summary.json"), RUN)
    page = Path(render(Build(build.root, recipe))).read_text()
    for shown in (
        "1.75",
        "0.123",
        "0.045",
        "0.031",
        "90.0 %",
        "language: de",
        "surely worse",
        "topics.csv:9",
        "98.7 %",
        "topics.csv:77",
        "(0.75)",
        "a probability of 0.237",
        "a temperature of 1.75, and 3.6 % of the probability is spread evenly over the labels, both fitted",
        "costs 0.3125 on average (0.2 to 0.4)",
    ):
        assert shown in page, shown
    assert "→ sea" in page
    assert "<script>wave" not in page
    assert "<b>sky" not in page
    assert "<i>" not in page
    assert "Share right by confidence of topics" in page


def test_of_many_labels_the_most_frequent_confusions_are_listed() -> None:
    labels = [f"l{n:02d}" for n in range(30)]
    counts = [[50 if at == other else (at == 3) * other for other in range(30)] for at in range(30)]
    table = classifier.confusion(labels, counts)
    assert table.rows[0] == ("l03", "l29", "29")
    assert len(table.rows) == 20


def test_a_summary_without_confidence_has_no_detail() -> None:
    assert classifier.detail({"labels": []}) is None

"""What the report says of a fine-tuned classifier beside its scores: what it confuses, how true its confidence is.

As training writes it into models/<name>/summary.json: confusion, confidence, slices, errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from pipeline.report import charts
from pipeline.report.tables import Table, count, decimals, lay_out, share, text, written
from pipeline.text import formats

#: Labels up to which the whole confusion matrix is shown, and confusions that are listed where there are more.
_MOST_LABELS, _MOST_PAIRS = 12, 20


def detail(run: Mapping[str, Any]) -> dict[str, Any] | None:
    """Charts and tables of the summary ``run``; None where it says nothing of its confidence."""
    if "confidence" not in run:
        return None
    confidence = run["confidence"]
    return {
        "confusion": confusion(run["labels"], run["confusion"]),
        "reliability": reliability(run["name"], confidence),
        "confidence": confidence,
        "costs": run.get("costs"),
        "second": run["labels"][-1],
        "abstain": abstain(confidence["abstain"]),
        "slices": slices(run["slices"]) if run["slices"] else None,
        "errors": run["errors"],
        "suspects": run["suspects"]["rows"],
    }


def confusion(labels: list[str], counts: list[list[int]]) -> Table:
    """A row a label, a column a prediction; of many labels, the most frequent confusions alone."""
    if len(labels) <= _MOST_LABELS:
        return lay_out(
            [text("Label"), *(count(f"→ {label}") for label in labels)],
            [(label, *row) for label, row in zip(labels, counts, strict=True)],
        )
    wrong = [
        (number, labels[at], labels[predicted])
        for at, row in enumerate(counts)
        for predicted, number in enumerate(row)
        if number and at != predicted
    ]
    listed = sorted(wrong, key=lambda pair: (-pair[0], pair[1:]))[:_MOST_PAIRS]
    return lay_out(
        [text("Label"), text("Taken for"), count("Rows")], [(label, taken, number) for number, label, taken in listed]
    )


def reliability(name: str, confidence: Mapping[str, Any]) -> Markup:
    """The share that is right over the confidence, in bins of equal mass, before and after scaling."""
    lines = {
        part: [(b["confidence"], b["accuracy"]) for b in confidence["reliability"][part]]
        for part in ("before", "after")
    }
    low = min(x for points in lines.values() for x, _ in points)
    ece = confidence["ece"]
    series = [
        charts.Series("", "train", [(low, low), (1.0, 1.0)]),
        charts.Series("before", "train", lines["before"], joined=False),
        charts.Series("after", "heldout", lines["after"]),
    ]
    said = f"calibration error {ece['before']:.3f} before scaling, {ece['after']:.3f} after"
    return charts.lines(f"Share right by confidence of {name}", said, series, "confidence", "share right")


def abstain(abstention: Mapping[str, Any]) -> Table:
    """What is left where the model answers only if it is sure."""
    return lay_out(
        [share("Answered"), decimals("At a confidence of", 3), share("Right of those")],
        [(point["coverage"], point["threshold"], point["accuracy"]) for point in abstention["points"]],
    )


def slices(groups: list[Mapping[str, Any]]) -> Table:
    """A row a slice, the worst first."""

    def interval(score: Mapping[str, float]) -> str:
        return f"{formats.share(score['low'], 1)} to {formats.share(score['high'], 1)}"

    return lay_out(
        [text("Slice"), count("Rows"), share("Accuracy"), written("95 %"), text("Against the rest")],
        [
            (
                f"{each['column']}: {each['value']}", each["rows"], each["accuracy"]["value"],
                interval(each["accuracy"]), "surely worse" if each["fails"] else "",
            )
            for each in groups
        ],
    )  # fmt: skip

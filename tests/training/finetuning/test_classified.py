from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from training.finetuning import classified
from training.finetuning.rungs.base import Examples, examples
from training.labelled.rows import Labelled

LABELS = ["cold", "hot", "warm"]


def table(rows: int, seed: int) -> pa.Table:
    """The first 8 training rows (those of seed 0) are labelled hot, and say that it is warm."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, rows)
    said = [LABELS[label] for label in labels.tolist()]
    given = [*said]
    if seed == 0:
        said[:8], given[:8] = ["warm"] * 8, ["hot"] * 8
    return pa.table(
        {
            "id": [f"r{row}" for row in range(rows)],
            "group": [f"r{row}" for row in range(rows)],
            "place": [f"file.csv:{row}" for row in range(rows)],
            "text": [f"it is {each} {draw.integers(50)}" for each in said],
            "label": given,
            "language": draw.choice(["en", "de"], rows).tolist(),
        }
    )


@pytest.fixture(scope="module")
def described() -> tuple[dict, pa.Table, np.ndarray]:
    first, second, third = tables = [table(rows, seed) for seed, rows in enumerate((300, 200, 400))]
    train, dev, test = (examples(each, LABELS) for each in tables)

    def logits(side: Examples, languages: list[str], seed: int) -> np.ndarray:
        """Sure of the label, but in German wrong half of the time."""
        draw = np.random.default_rng(seed)
        wrong = (np.array(languages) == "de") & (draw.random(len(side)) < 0.5)
        return np.eye(3)[np.where(wrong, (side.labels + 1) % 3, side.labels)] * 5 + draw.random((len(side), 3))

    made = [logits(side, each["language"].to_pylist(), 9) for side, each in ((dev, tables[1]), (test, tables[2]))]
    found = classified.describe(
        train,
        dev,
        test,
        Labelled("classify", LABELS, first, second, third, "", {}),
        made[0],
        made[1],
        {},
        {"cold": {"hot": 20.0}},
    )
    return found, tables[2], made[1].argmax(1)


def test_scores_lead_and_mcnemar_are_of_the_same_answers(described: tuple[dict, pa.Table, np.ndarray]) -> None:
    found, rows, predicted = described
    assert json.loads(json.dumps(found)) == found
    right = predicted == np.array([LABELS.index(label) for label in rows["label"].to_pylist()])
    assert found["scores"]["model"]["accuracy"]["value"] == pytest.approx(right.mean())
    assert found["scores"]["bag_of_words"]["accuracy"]["value"] > 0.99  # which reads the word itself
    lead = found["lead_over_bag_of_words"]["accuracy"]
    assert lead["high"] < 0
    assert found["mcnemar"]["bag_of_words"]["second"] >= (~right).sum() - 2
    assert found["mcnemar"]["bag_of_words"]["p"] < 1e-6
    assert np.trace(found["confusion"]) == right.sum()


def test_by_their_costs_errors_cost_less(described: tuple[dict, pa.Table, np.ndarray]) -> None:
    found, rows, predicted = described
    labels = np.array([LABELS.index(label) for label in rows["label"].to_pylist()])
    dear = (labels == 0) & (predicted == 1)
    plain, least = found["costs"]["most_probable"], found["costs"]["least_cost"]
    assert plain["value"] == pytest.approx(((predicted != labels).sum() + 19 * dear.sum()) / len(labels))
    assert least["high"] < plain["low"]
    scores = found["scores"]
    assert scores["least_cost"]["accuracy"]["value"] <= scores["model"]["accuracy"]["value"]
    assert scores["least_cost"]["matthews"] != scores["model"]["matthews"]
    assert found["costs"]["threshold"] is None


def test_a_wrong_label_of_the_rows_is_a_suspect_beside_its_neighbours(
    described: tuple[dict, pa.Table, np.ndarray],
) -> None:
    first = described[0]["suspects"]["rows"][0]
    assert first["place"] in {f"file.csv:{row}" for row in range(8)}
    assert (first["label"], first["suggested"]) == ("hot", "warm")
    assert "warm" in {near["label"] for near in first["neighbours"]}


def test_the_failing_slice_the_confidence_and_the_errors_are_shown(
    described: tuple[dict, pa.Table, np.ndarray],
) -> None:
    found, rows, predicted = described
    failing = [(each["column"], each["value"]) for each in found["slices"] if each["fails"]]
    assert ("language", "de") in failing
    assert ("language", "en") not in failing
    assert found["confidence"]["temperature"] > 1.5  # it was too sure
    assert found["confidence"]["ece"]["after"] < found["confidence"]["ece"]["before"]
    assert len(found["errors"]) == classified.MOST_ERRORS
    sure = [error["confidence"] for error in found["errors"]]
    assert sure == sorted(sure, reverse=True)
    place = {id_: row for row, id_ in enumerate(rows["id"].to_pylist())}
    for error in found["errors"]:
        row = place[error["id"]]
        assert error["label"] == rows["label"][row].as_py() != error["predicted"] == LABELS[predicted[row]]

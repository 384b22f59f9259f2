from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from flows.commands import cost_ladder, finetuning
from pipeline import MillError
from training.recipe.finetuning import FinetuneConfig, LabelledFiles

WORDS = {"sea": ("wave", "boat", "salt", "fish"), "sky": ("cloud", "wind", "bird", "star")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 240 rows, of which the one in line 30 is labelled wrong, and one of texts without labels."""
    root = tmp_path_factory.mktemp("ladder")
    draw = np.random.default_rng(0)
    topics = draw.choice(["sea", "sky"], 240).tolist()
    with (root / "topics.csv").open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["sentence", "topic"])
        for row, topic in enumerate(topics):
            text = " ".join(draw.choice(WORDS[topic], 4)) + f" {row}"
            rows.writerow([text, topic if row != 28 else {"sea": "sky", "sky": "sea"}[topic]])
    texts = ["wave boat salt fish", "cloud wind bird star", "wave cloud", "", "fish star boat bird"]
    (root / "new.csv").write_text("sentence\n" + "".join(f"{text}\n" if text else '""\n' for text in texts))
    return root


def test_the_ladder_of_a_file_says_all_and_writes_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finetuning.finetune(
        str(folder / "topics.csv"), text="sentence", label="topic", minutes=5, wanted=2, unlabelled=folder / "new.csv",
        out=folder / "out",
    )  # fmt: skip
    shown = capsys.readouterr().out
    for expected in ("tf-idf", "fastText", "recommended", "calibration error", "1 row has no text", "no --base"):
        assert expected in shown, expected
    said = json.loads((folder / "out" / "ladder.json").read_text())
    assert said["recommended"]["name"] == "tf_idf"
    assert sum(said["documents"].values()) == 240
    with (folder / "out" / "next.csv").open() as handle:
        chosen = list(csv.DictReader(handle))
    assert {row["sentence"] for row in chosen} == {"wave cloud", "fish star boat bird"}
    assert all(row["topic"] == "" for row in chosen)
    with (folder / "out" / "suspects.csv").open() as handle:
        suspects = list(csv.DictReader(handle))
    assert suspects[0]["place"].endswith("topics.csv:30")

    suspects[0]["decision"] = "suggested"
    with (folder / "fix.csv").open("w", newline="") as handle:
        rows = csv.DictWriter(handle, list(suspects[0]))
        rows.writeheader()
        rows.writerows(suspects)
    capsys.readouterr()
    cost_ladder.labels(folder / "out" / "suspects.csv", "topic")
    assert "no row has a decision" in " ".join(capsys.readouterr().out.split())
    cost_ladder.labels(folder / "fix.csv", "topic")
    before, after = ((folder / name).read_text().splitlines() for name in ("topics.csv", "topics.fixed.csv"))
    assert [line for line, (a, b) in enumerate(zip(before, after, strict=True), 1) if a != b] == [30]
    assert after[29].split(",")[1] == suspects[0]["suggested"]


def test_texts_to_choose_from_are_asked_for(folder: Path) -> None:
    with pytest.raises(MillError, match="--unlabelled"):
        data = LabelledFiles(train=str(folder / "topics.csv"))
        config = FinetuneConfig(name="topics", base="", data=data, text="sentence", label="topic")
        cost_ladder.climb(config, 5, folder / "none", wanted=2)


def test_of_pairs_both_texts_are_read_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which pair is unsure is only seen by both of its texts."""
    draw = np.random.default_rng(0)
    words = [word for of in WORDS.values() for word in of]
    with (tmp_path / "pairs.csv").open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["one", "two", "same"])
        for row in range(240):
            first = draw.permutation(words)[:4]
            second = first[:2] if row % 2 else [word for word in words if word not in first][:2]
            rows.writerow([f"{' '.join(first)} {row}", " ".join(second), "yes" if row % 2 else "no"])
    sure = [(" ".join(words[:4]), " ".join(words[at : at + 2])) for at in (0, 1, 2, 4, 5, 6)]
    unsure = (" ".join(words[:4]), f"{words[0]} {words[6]}")
    with (tmp_path / "new.csv").open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerows([("one", "two"), *sure[:3], unsure, *sure[3:], ("only one", "")])
    finetuning.finetune(
        str(tmp_path / "pairs.csv"), text="one", pair="two", label="same", minutes=5, wanted=1,
        unlabelled=tmp_path / "new.csv", out=tmp_path / "out",
    )  # fmt: skip
    assert json.loads((tmp_path / "out" / "ladder.json").read_text())["recommended"]["name"] == "overlap"
    assert "1 row has no text or no second one" in " ".join(capsys.readouterr().out.split())
    with (tmp_path / "out" / "next.csv").open() as handle:
        assert [(row["one"], row["two"], row["same"]) for row in csv.DictReader(handle)] == [(*unsure, "")]

"""Every task on real data from a tiny model with random weights: it ends, and beats the majority (but for RTE).

`pytest -s` prints the scores.
"""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import foreign_models
from training.finetuning import cost_ladder
from training.finetuning.finetune import Job, run
from training.labelled import files
from training.recipe.finetuning import FinetuneConfig

pytestmark = pytest.mark.slow


def lines(path: Path, count: int) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().split("\n")[:count]


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return str(path)


def finetuned(folder: Path, base: str, rate: float = 2e-3, **settings: Any) -> dict[str, dict[str, float]]:
    """The main measure of the model and of its baselines, with intervals."""
    optimiser = {"learning_rate": rate, "schedule": "linear", "warmup": 0.1, "weight_decay": 0.1, "beta2": 0.95}
    config = FinetuneConfig.model_validate(
        {"name": "x", "base": base, "sequence_length": 64, "dropout": 0.0, "optimiser": optimiser, **settings}
    )
    job = Job(
        config=config,
        rows=files.load(config, 1),
        base=base,
        seed=1,
        result=str(folder / "model"),
        work=str(folder / "work"),
        started_from="random",
        made_from={"base": "random"},
    )
    summary = run(job)
    main = summary["main"]
    found = {name: scores[main] for name, scores in summary["scores"].items()}
    print(f"\n{folder.name}: {main}", {name: round(score["value"], 3) for name, score in found.items()})
    return found


def conll(path: Path, sentences: int, into: Path) -> tuple[str, list[str]]:
    """The first ``sentences`` of a file, and their words."""
    text = gzip.decompress(path.read_bytes()).decode()
    blocks = re.split(r"\n\s*\n", text.strip())[:sentences]
    into.write_text("\n\n".join(blocks) + "\n", "utf-8")
    return str(into), [line.split()[0] for block in blocks for line in block.split("\n") if line.strip()]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("wnut17/wnut17train.conll.gz", "wnut17/emerging.dev.conll.gz"),
        ("wikiann_en_train.conll.gz", "wikiann_en_dev.conll.gz"),
    ],
    ids=["wnut17", "wikiann"],
)
def test_entities(shared: Path, tmp_path: Path, train: str, test: str) -> None:
    at = shared / "finetune"
    data, words = conll(at / train, 1_500, tmp_path / "train.conll")
    held, _ = conll(at / test, 400, tmp_path / "test.conll")
    base = foreign_models.bert(tmp_path / "base", [" ".join(words)])
    given = {"train": data, "test": held, "format": "conll"}
    found = finetuned(tmp_path, base, task="tokens", label="tags", data=given, epochs=10)
    assert found["model"]["value"] > found["majority"]["value"]


def test_answers(shared: Path, tmp_path: Path) -> None:
    whole = json.loads(gzip.decompress((shared / "finetune/xquad/xquad.en.json.gz").read_bytes()))
    texts = [part["context"] for article in whole["data"] for part in article["paragraphs"]]
    path = tmp_path / "xquad.json"
    path.write_text(json.dumps(whole), "utf-8")
    base = foreign_models.bert(tmp_path / "base", texts)
    data = {"train": str(path), "format": "squad"}
    found = finetuned(tmp_path, base, task="answers", label="answers", data=data, epochs=1, answers={"overlap": 16})
    assert found["model"]["value"] > found["majority"]["value"]


def test_pairs(shared: Path, tmp_path: Path) -> None:
    """A tiny model learns no entailment from 3,000 pairs and random weights; shared words surely beat the majority."""
    rows: dict[str, list[dict]] = {"train": [], "test": []}
    for path in sorted((shared / "finetune/rte").glob("*.xml.gz")):
        text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
        for attributes, first, second in re.findall(r"<pair ([^>]*)>\s*<t>(.*?)</t>\s*<h>(.*?)</h>", text, re.DOTALL):
            yes = re.search(r'(?:value|entailment)="(TRUE|YES)"', attributes) is not None
            side = "test" if path.name == "rte3_dev.xml.gz" else "train"
            rows[side].append({"text": first, "pair": second, "label": "yes" if yes else "no"})
    base = foreign_models.bert(tmp_path / "base", [row["text"] for row in rows["train"]])
    data = {side: write(tmp_path / f"{side}.jsonl", of) for side, of in rows.items()}
    asked = {"task": "classify", "pair": "pair", "label": "label", "data": data}
    found = finetuned(tmp_path, base, **asked, epochs=2)
    assert found["model"]["high"] > found["majority"]["value"]
    assert found["bag_of_words"]["low"] < found["majority"]["value"]
    config = FinetuneConfig.model_validate({"name": "x", "base": base, "dev_share": 0.25, **asked})
    sets = cost_ladder.sets_of(files.load(config, 1))
    ladder = cost_ladder.climb(sets, cost_ladder.cheap_rungs(pairs=True)[:2], minutes=5)
    assert ladder.rung("overlap").accuracy.low > ladder.rung("majority").accuracy.high
    assert cost_ladder.recommend(ladder, sets).name == "overlap"


def test_translation(shared: Path, tmp_path: Path) -> None:
    at = shared / "finetune/text2text/multi30k"
    sides = {
        side: [lines(at / f"{name}.{language}.gz", count) for language in ("en", "de")]
        for side, name, count in (("train", "train", 2_500), ("dev", "val", 50), ("test", "test_2016_flickr", 100))
    }
    data = {
        side: write(tmp_path / f"{side}.jsonl", [{"en": e, "de": d} for e, d in zip(english, german, strict=True)])
        for side, (english, german) in sides.items()
    }
    base = foreign_models.t5(tmp_path / "base", [*sides["train"][0], *sides["train"][1]], 1_500, d_model=64, d_ff=128)
    found = finetuned(
        tmp_path,
        base,
        5e-3,
        task="text2text",
        data=data,
        text="en",
        label="de",
        epochs=3,
        batch_size=32,
        text2text={"target_length": 32, "measure": "bleu"},
    )
    assert found["model"]["value"] > found["majority"]["value"]
    assert found["model"]["value"] > found["copy"]["value"]

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from pipeline import MillError
from pipeline.report import tables
from pipeline.store import files, shards
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.token_account import TokensLost
from tests.helpers import foreign_models
from tests.training.conftest import make_build, pretrain_section, sentences
from tests.training.finetuning.test_finetune import SETTINGS, write_corpus
from training.batches.windows import IGNORE
from training.finetuning import adaptation, bases, finetune
from training.finetuning.job import Job
from training.labelled.rows import Labelled, identity
from training.models import attention
from training.objectives import masking
from training.pretraining import pretrain
from training.recipe.finetuning import FinetuneConfig

#: Of letters that the base's tokenizer knows, but no words of it.
WORDS = ("hotel", "castle", "collar", "bottle")
ADAPT = {"tokens": 4, "epochs": 4, "batch_size": 8, "optimiser": {"learning_rate": 2e-3, "schedule": "constant"}}


def texts(count: int, seed: int) -> list[str]:
    draw = np.random.default_rng(seed)
    return [
        " ".join(f"the {WORDS[at]} sees the {WORDS[(at + 1) % 4]}." for at in draw.integers(0, 4, 3))
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Rows and a corpus of new words; two of the test rows are documents of it, one by its id, one by its text."""
    root = tmp_path_factory.mktemp("adaptation")
    base = foreign_models.bert(root / "bert", sentences(200))
    written = texts(60, 1)
    ids = [f"r{at:03d}" for at in range(60)]
    columns = {"id": ids, "group": ids, "place": [f"rows.csv:{at}" for at in range(60)], "text": written}
    table = pa.table(columns | {"label": ["ab"["hotel" in text.split(".")[0]] for text in written]})
    sets = {"train": table[:30], "dev": table[30:45], "test": table[45:]}
    rows = Labelled("classify", ["a", "b"], **sets, fingerprint=identity("classify", sets), audit={})
    documents = [
        *((f"d{at}", text) for at, text in enumerate(texts(80, 2))),
        ("r050", "the castle"),
        ("x", written[59]),
    ]
    names, read = zip(*documents, strict=True)
    domains = ["legal"] * 81 + ["other"]
    shards.write_table(
        str(root / "corpus" / "data.arrow"), pa.table({"id": names, "text": read, "domain": domains}), "corpus"
    )
    files.write_json(str(root / "corpus" / "manifest.json"), {"shards": ["data.arrow"], "fingerprint": "corpus"})
    config = FinetuneConfig.model_validate(
        {"name": "tuned", "base": base, "data": {"train": "rows.csv"}, "label": "label", "sequence_length": 32}
        | {"epochs": 1, "batch_size": 8, "precision": "fp32", "dropout": 0.0, "adapt": ADAPT}
    )
    weights = pretrain.weights_hash(base)
    made_from = {"base": weights}
    paths: dict[str, Any] = {"result": str(root / "model"), "work": str(root / "work"), "corpus": str(root / "corpus")}
    return Job(config, rows, base, 0, started_from=weights, made_from=made_from, **paths)


@pytest.mark.slow
def test_a_base_is_adapted_and_compared_with_itself(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = finetune.run(job)
    found = summary["adaptation"]
    before = AutoTokenizer.from_pretrained(job.base)
    assert sorted(found["words"]) == sorted(WORDS)
    assert all(len(before.tokenize(word)) > 1 for word in WORDS)
    assert found["new_tokens"] == 4
    assert found["documents"] + found["left_out"] == 82
    assert found["after"] < found["before"]
    base, adapted = found["rows"]
    assert (base["start"], adapted["start"]) == ("base", "adapted")
    assert adapted["tokens"] < base["tokens"]
    best = min(found["rows"], key=lambda row: row["error"])
    assert found["published"] == best["start"]
    assert summary["best_loss"] == best["error"]
    assert len(tables.adaptation(summary).rows) == 2
    card = Path(job.result, "README.md").read_text()
    assert ("the base read" in card) == (best["start"] == "adapted")
    published = AutoTokenizer.from_pretrained(job.result)
    one = [published.tokenize(word) == [word] for word in WORDS]
    assert one == [best["start"] == "adapted"] * 4
    model = AutoModelForSequenceClassification.from_pretrained(job.result)
    assert model.config.vocab_size >= len(published)
    monkeypatch.setattr(finetune.loop, "train", lambda *_: pytest.fail("it was trained again"))
    assert finetune.run(job) == summary


def test_development_and_test_rows_are_not_read(job: Job) -> None:
    assert job.config.adapt is not None
    table, left_out = adaptation.documents(job, job.config.adapt)
    kept = set(table["text"].to_pylist())
    unseen = {*job.rows.dev["text"].to_pylist(), *job.rows.test["text"].to_pylist()}
    assert not kept & unseen
    assert "r050" not in table["id"].to_pylist()
    assert len(table) + left_out == 82
    assert left_out >= 2
    some, _ = adaptation.documents(job, job.config.adapt.model_copy(update={"documents": 20}))
    assert some["id"].to_pylist() == table["id"].to_pylist()[:20]
    legal, _ = adaptation.documents(job, job.config.adapt.model_copy(update={"domain": "legal"}))
    assert set(legal["domain"].to_pylist()) == {"legal"}
    with pytest.raises(MillError, match="fewer than 20 documents of domain 'other'"):
        adaptation.documents(job, job.config.adapt.model_copy(update={"domain": "other"}))


def losing(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Encoder.encode

    def wrong(self: Encoder, *asked: Any) -> Any:
        for block in right(self, *asked):
            lengths = block.lengths.copy()
            lengths[-1] -= 1
            yield block._replace(tokens=block.tokens[:-1], lengths=lengths)

    monkeypatch.setattr(Encoder, "encode", wrong)


def unmasked(monkeypatch: pytest.MonkeyPatch) -> None:
    def every(segments: torch.Tensor, _causal: bool, _blocks: bool) -> torch.Tensor:
        return torch.ones_like(segments[:, None, :, None] == segments[:, None, None, :])

    right = bases.load
    monkeypatch.setattr(attention, "mask", every)
    monkeypatch.setattr(bases, "load", lambda *asked: sharpened(right(*asked)))


def sharpened(model: torch.nn.Module) -> torch.nn.Module:
    """New weights attend to all alike; trained ones do not."""
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data *= 4
    return model


def mislabelled(monkeypatch: pytest.MonkeyPatch) -> None:
    right = masking.pick

    def wrong(*asked: Any) -> Any:
        picked, labels = right(*asked)
        return picked, np.where(labels == IGNORE, IGNORE, (labels + 1) % 40)

    monkeypatch.setattr(masking, "pick", wrong)


@pytest.mark.parametrize(
    ("fault", "said"),
    [(losing, "token canary"), (unmasked, "documents see each other"), (mislabelled, "not the token at its place")],
)
def test_a_fault_is_found_before_the_first_step(job: Job, tmp_path: Path, monkeypatch, fault, said: str) -> None:
    monkeypatch.setattr(adaptation.loop, "train", lambda *_: pytest.fail("a step was taken"))
    fault(monkeypatch)
    with pytest.raises(TokensLost, match=said):
        adaptation.adapt(replace(job, work=str(tmp_path)))


def test_a_run_that_does_not_ask_for_it_has_the_fingerprint_it_had(job: Job) -> None:
    plain = job.config.model_copy(update={"adapt": None})
    assert not {"adapt", "understand"} & plain.of_result().keys()
    assert replace(job, config=plain).trained_by == replace(job, config=plain, corpus=None).trained_by
    with pytest.raises(MillError, match=r"name its `corpus` folder in `adapt.corpus`"):
        _ = replace(job, corpus=None).trained_by


@pytest.mark.slow
def test_a_recipe_adapts_a_model_of_its_own_on_its_own_corpus(packed_build: str, tmp_path: Path) -> None:
    root = str(tmp_path / "build")
    shutil.copytree(packed_build, root)
    write_corpus(root)
    section = pretrain_section("mlm", steps=12)
    run = {**SETTINGS, "epochs": 1, "adapt": {**ADAPT, "epochs": 1}, "understand": ["attention"]}
    build = make_build(root, section, finetune=[run])
    pretrain.pretrain(build, "mlm")
    summary = finetune.finetune(build, "family")
    assert [row["start"] for row in summary["adaptation"]["rows"]] == ["base", "adapted"]
    assert summary["adaptation"]["left_out"] == summary["documents"]["dev"] + summary["documents"]["test"]
    assert summary["understanding"]["attention"]["texts"] > 0
    json.dumps(summary)
    assert finetune.finetune(build, "family") == summary

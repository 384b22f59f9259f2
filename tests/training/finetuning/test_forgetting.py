"""The pretraining loss before and after a fine-tuning."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
)

from pipeline import MillError
from tests.helpers.foreign_models import bert, job, rows, t5
from tests.training.conftest import SPECIAL, pack, sentences, write_tokenizer
from tests.training.finetuning.tasks.test_texts import entailed, made
from training.finetuning import bases, forgetting
from training.finetuning.finetune import run


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return bert(tmp_path_factory.mktemp("bert"), sentences(200))


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "held out.txt"
    path.write_text("\n".join(sentences(20, seed=3)))
    return str(path)


def classifier(base: str) -> Any:
    return bases.load(AutoModelForSequenceClassification, base, {"num_labels": 2}, 0.0, 0)


def test_weights_that_did_not_change_have_forgotten_nothing(base: str, text: str) -> None:
    found = forgetting.measured(classifier(base), base, base, text, 32)
    assert found["kind"] == "masked tokens"
    assert found["before"] == found["after"]
    assert found["before"] == pytest.approx(math.log(AutoTokenizer.from_pretrained(base).vocab_size), abs=0.5)


def test_after_is_the_loss_of_a_whole_model_with_the_tuned_encoder(base: str, text: str, tmp_path: Path) -> None:
    """Saved and opened by transformers alone, its output embeddings tied to the tuned input ones."""
    tuned = classifier(base)
    with torch.no_grad():
        for parameter in tuned.bert.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.manual_seed(1)) * 0.05)
    found = forgetting.measured(tuned, base, base, text, 32)
    assert found["after"] != pytest.approx(found["before"], abs=1e-3)
    whole: Any = AutoModelForMaskedLM.from_pretrained(base)
    whole.bert.load_state_dict(tuned.bert.state_dict(), strict=False)
    whole.save_pretrained(tmp_path / "whole")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "whole")
    again = forgetting.measured(tuned, str(tmp_path / "whole"), base, text, 32)
    assert again["before"] == pytest.approx(found["after"], abs=1e-5)


def test_a_causal_model_predicts_each_next_token(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=260, n_layer=1, n_embd=32, n_head=2, n_positions=64, pad_token_id=259)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    base = str(tmp_path / "gpt2")
    write_tokenizer(base, SPECIAL)
    texts = ["the cat sees the dog.", "a bird hears it."]
    held = pack(str(tmp_path / "held"), texts, {}, 260)
    found = forgetting.measured(classifier(base), base, base, held.folder, 64)
    model = GPT2LMHeadModel.from_pretrained(base).eval()
    nats, count = 0.0, 0
    for line in texts:
        ids = torch.tensor([list(line.encode())])
        with torch.no_grad():
            nats += float(F.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    assert found["before"] == found["after"] == pytest.approx(nats / count, abs=1e-5)
    assert found["kind"] == "next token"


def test_where_it_cannot_be_measured_the_reason_is_said(base: str, text: str, tmp_path: Path) -> None:
    model = classifier(base)
    assert forgetting.measured(model, base, base, None, 32) == {
        "not_measured": "no held-out text is given (`held_out`)"
    }
    model.save_pretrained(tmp_path / "classifier")
    found = forgetting.measured(model, str(tmp_path / "classifier"), base, text, 32)
    assert "BertForSequenceClassification has no head" in found["not_measured"]
    (tmp_path / "t5").mkdir()
    seq2seq = t5(tmp_path / "t5", sentences(200))
    assert (
        "T5ForConditionalGeneration has no head" in forgetting.measured(model, seq2seq, base, text, 32)["not_measured"]
    )
    with pytest.raises(MillError, match="no file 'nowhere"):
        forgetting.check("nowhere.txt")


@pytest.mark.parametrize("strategy", ["full", "features", "bitfit", {"kind": "lora", "merge": False}, "prefix"])
def test_a_run_says_what_it_forgot(base: str, text: str, tmp_path: Path, strategy: Any) -> None:
    given = rows("classify", ["no", "yes"], made(64, 0, entailed), made(16, 1, entailed), made(16, 2, entailed))
    started = job(tmp_path, base, given, epochs=1, strategy=strategy, held_out=text)
    summary = run(replace(started, held_out=text))
    found = summary["strategies"][0]["forgetting"]
    assert (found["before"] == found["after"]) == (strategy == "features")  # which leaves the encoder as it is
    assert f"{found['before']:.3f} to {found['after']:.3f}" in (tmp_path / "model" / "README.md").read_text()

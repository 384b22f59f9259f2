from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from pipeline import MillError
from tests.helpers.foreign_models import job, rows
from tests.training.conftest import NAMES, VERBS, make_build, pretrain_section
from training.finetuning import bases
from training.finetuning.finetune import run
from training.finetuning.tasks import task_of
from training.finetuning.tasks.text2text import Text2Text
from training.pretraining.pretrain import pretrain


def shortened(draw: np.random.Generator) -> dict:
    """A sentence becomes its verb."""
    verb = VERBS[draw.integers(4)]
    return {"text": f"the {NAMES[draw.integers(4)]} {verb} the {NAMES[draw.integers(4)]}.", "target": verb}


def made(count: int, seed: int) -> list[dict]:
    draw = np.random.default_rng(seed)
    return [shortened(draw) for _ in range(count)]


def labelled(train: int = 200):
    return rows("text2text", [], made(train, 0), made(20, 1), made(24, 2))


def task(base: str, tmp_path: Path, **config) -> Text2Text:
    given = labelled(4)
    found = task_of(job(tmp_path, base, given, **config).config, given)
    assert isinstance(found, Text2Text)
    return found


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_the_loss_is_that_of_transformers_and_padding_is_not_in_it(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue(kind)
    writer = task(base, tmp_path, text2text={"prefix": "shorten: "})
    table = writer.rows.train.slice(0, 1).to_pylist()[0]
    long = {**table, "target": " ".join([table["target"]] * 3)}
    given = rows("text2text", [], [table, long], [table], [table])
    data = writer.encode(bases.reader(base, base, 32), given.train)
    tokenizer = AutoTokenizer.from_pretrained(base)
    assert data.tokens[0].tolist() == tokenizer("shorten: " + table["text"])["input_ids"]
    assert data.targets["labels"][0].tolist() == tokenizer(text_target=table["target"])["input_ids"]
    model = bases.load(writer.auto, base, writer.fields(), 0.0, 0).eval()
    batch = writer.batch(data, np.array([0, 1]))
    assert (batch.arrays["labels"][0] == -100).any()
    arrays = {name: torch.from_numpy(array) for name, array in batch.arrays.items()}
    with torch.no_grad():
        mine = writer.loss(model, arrays)["loss"] / batch.counts["loss"]
        theirs = model(input_ids=arrays["tokens"], attention_mask=arrays["mask"], labels=arrays["labels"]).loss
    assert mine.item() == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_texts_are_learned_and_the_published_model_writes_them(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    options = {"target_length": 8, "method": "beam", "beams": 2}
    summary = run(job(tmp_path, request.getfixturevalue(kind), labelled(), epochs=12, text2text=options))
    scores = summary["scores"]
    assert scores["model"]["chrf"]["value"] > scores["majority"]["chrf"]["value"] + 0.2
    folder = str(tmp_path / "model")
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert (model.generation_config.num_beams, model.generation_config.max_new_tokens) == (2, 8)
    test = labelled().test
    inputs = tokenizer(test["text"].to_pylist(), padding=True, return_tensors="pt")
    written = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
    texts = [text.strip() for text in tokenizer.batch_decode(written, skip_special_tokens=True)]
    right = np.mean([text == target for text, target in zip(texts, test["target"].to_pylist(), strict=True)])
    assert right == pytest.approx(scores["model"]["exact_match"]["value"])
    assert "pipeline_tag: text2text-generation" in Path(folder, "README.md").read_text()


def test_samples_are_the_same_each_time_and_not_greedy(t5: str, tmp_path: Path) -> None:
    given = labelled(4)
    written = {}
    for name, options in (("sample", {"method": "sample"}), ("again", {"method": "sample"}), ("greedy", {})):
        writer = task(t5, tmp_path, text2text={"target_length": 6, **options})
        data = writer.encode(bases.reader(t5, t5, 32), given.test)
        model = bases.load(writer.auto, t5, writer.fields(), 0.0, 0)
        writer.prepare(model)
        outputs = writer.all_outputs(model, data, 8)
        assert max(map(len, outputs)) <= 1 + 6
        written[name] = [ids.tolist() for ids in outputs]
    assert written["sample"] == written["again"] != written["greedy"]


def test_an_encoder_cannot_write(bert: str, tmp_path: Path) -> None:
    with pytest.raises(MillError, match=r"ForSeq2SeqLM of the architecture 'bert'.*T5 or BART"):
        run(job(tmp_path, bert, labelled(4)))


def test_targets_that_are_cut_are_counted_and_end(t5: str, tmp_path: Path) -> None:
    writer = task(t5, tmp_path, text2text={"target_length": 4})
    row = {"text": "the cat", "target": "the cat sees the dog and the bird"}
    given = rows("text2text", [], [row], [row], [row])
    data = writer.encode(bases.reader(t5, t5, 32), given.train)
    assert data.unread == {"targets cut to target_length": 1}
    assert len(data.targets["labels"][0]) == 4
    assert data.targets["labels"][0][-1] == 1


@pytest.mark.parametrize("objective", ["span_corruption", "denoising"])
def test_models_that_we_pretrain_write(packed_build: str, tmp_path: Path, objective: str) -> None:
    root = str(shutil.copytree(packed_build, tmp_path / "build"))
    pretrain(make_build(root, pretrain_section(objective, steps=2)), objective)
    base, given = f"{root}/models/{objective}", labelled(16)
    start = job(tmp_path, base, given, epochs=1, text2text={"target_length": 12})
    summary = run(start)
    assert summary["steps"] == 1
    assert 0 <= summary["scores"]["model"]["chrf"]["value"] < 1
    data = task_of(start.config, given).encode(bases.reader(base, base, 32), given.train)
    model = AutoModelForSeq2SeqLM.from_pretrained(str(tmp_path / "model"))
    end = model.config.eos_token_id
    assert all(ids[-1] == end for ids in data.tokens)
    assert all(ids[-1] == end for ids in data.targets["labels"])
    before = model.prepare_decoder_input_ids_from_labels(labels=torch.tensor([[5, 6, end]]))
    assert before.tolist() == [[model.config.decoder_start_token_id, 5, 6]]

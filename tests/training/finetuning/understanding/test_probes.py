from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tests.training.finetuning.understanding.conftest import classified, job_on, tagged
from training.finetuning.understanding import pooling, probes, states
from training.finetuning.understanding.states import Vectors


def test_vectors_are_transformers_own_states_of_every_layer(bert: str, tmp_path: Path) -> None:
    job = job_on(classified(), bert, tmp_path)
    found = states.vectors(job)["test"]
    text = job.rows.test["text"][0].as_py()
    model, tokenizer = AutoModel.from_pretrained(bert).eval(), AutoTokenizer.from_pretrained(bert)
    with torch.no_grad():
        hidden = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
    assert found.layers == len(hidden) == 3
    for at, layer in enumerate(hidden):
        assert found.layer(at)[0] == pytest.approx(layer[0].mean(0).numpy(), abs=1e-5)
    assert found.pooled("mean")[0] == pytest.approx(hidden[-1][0].mean(0).numpy(), abs=1e-5)
    assert found.pooled("first")[0] == pytest.approx(hidden[-1][0, 0].numpy(), abs=1e-5)
    assert found.pooled("max")[0] == pytest.approx(hidden[-1][0].amax(0).numpy(), abs=1e-5)


def test_a_word_has_the_states_of_its_first_piece(bert: str, tmp_path: Path) -> None:
    job = job_on(tagged(), bert, tmp_path)
    found = states.vectors(job)["test"]
    words = job.rows.test["words"][0].as_py()
    assert found.types[:4] == words
    assert found.labels[:4].tolist() == [1, 0, 1, 1]
    model, tokenizer = AutoModel.from_pretrained(bert).eval(), AutoTokenizer.from_pretrained(bert)
    with torch.no_grad():
        read = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        hidden = model(**read, output_hidden_states=True).hidden_states
    first = [read.word_ids().index(word) for word in range(4)]
    for at, layer in enumerate(hidden):
        assert found.layer(at)[:4] == pytest.approx(layer[0, first].numpy(), abs=1e-5)


def test_vectors_are_computed_once(bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_on(classified(), bert, tmp_path)
    made = states.vectors(job)
    monkeypatch.setattr(states, "base_of", lambda *_: pytest.fail("the base was loaded again"))
    again = states.vectors(job)
    assert all(np.array_equal(made[side].states, again[side].states) for side in made)


def test_a_set_gives_no_more_vectors_than_stated(bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "MOST", {"train": 21, "dev": 10, "test": 9})
    of_texts = states.vectors(job_on(classified(), bert, tmp_path / "texts"))
    assert {side: len(of.labels) for side, of in of_texts.items()} == states.MOST
    of_words = states.vectors(job_on(tagged(), bert, tmp_path / "words"))
    assert {side: len(of.labels) for side, of in of_words.items()} == {"train": 20, "dev": 8, "test": 8}  # whole rows
    assert of_words["train"].states.shape[1] == 20


def made_up(draw: np.random.Generator, count: int, types: int) -> Vectors:
    """Vectors [layer 0: nothing but noise; layer 1: the label; layer 2: the type, by an entry of its own]."""
    type_of = draw.integers(0, types, count)
    labels = draw.integers(0, 2, count)
    noise = draw.normal(size=(3, count, types)).astype(np.float32)
    noise[1, :, 0] += 6 * labels
    noise[2] = 10 * np.eye(types, dtype=np.float32)[type_of] + 0.01 * noise[2]
    return Vectors(noise, labels, [f"w{at}" for at in type_of], [str(at) for at in range(count)], of_texts=False)


def test_a_probe_finds_the_layer_that_knows_and_the_control_the_one_that_remembers() -> None:
    draw = np.random.default_rng(0)
    sets = {side: made_up(draw, count, 20) for side, count in (("train", 600), ("dev", 200), ("test", 400))}
    found = probes.run(sets, 2, 0)
    nothing, label, kind = found["layers"]
    assert label["accuracy"]["value"] > 0.95
    assert label["control"]["value"] < 0.7
    assert kind["control"]["value"] > 0.95  # a probe on types alone learns any labels of types by heart
    assert kind["accuracy"]["value"] < 0.7
    assert nothing["accuracy"]["low"] <= 0.55
    for row in found["layers"]:
        lead = row["accuracy"]["value"] - row["control"]["value"]
        assert row["selectivity"]["value"] == pytest.approx(lead)
        assert row["selectivity"]["low"] <= lead <= row["selectivity"]["high"]
    assert found["majority"]["value"] == pytest.approx((sets["test"].labels == label_of_most(sets)).mean())
    assert found["types_seen"] == 1.0


def label_of_most(sets: dict[str, Vectors]) -> int:
    return int(np.bincount(sets["train"].labels).argmax())


def test_control_labels_are_of_the_type_alone_and_as_frequent_as_the_true_ones() -> None:
    shares = np.array([0.6, 0.0, 0.3, 0.1])
    types = [f"word {at}" for at in range(20_000)]
    found = probes.control_labels(types, shares, 7)
    assert np.bincount(found, minlength=4) / len(types) == pytest.approx(shares, abs=0.015)  # 4 deviations
    assert probes.control_labels([types[9], "new", types[9]], shares, 7)[[0, 2]].tolist() == [found[9]] * 2
    assert (probes.control_labels(types, shares, 8) != found).any()


def test_poolings_are_compared_on_the_same_rows() -> None:
    """First tokens hold the label; the mean and the maximum are noise."""
    draw = np.random.default_rng(0)
    sets = {}
    for side, count in (("train", 200), ("dev", 100), ("test", 200)):
        labels = draw.integers(0, 2, count)
        whole = draw.normal(size=(2 + len(states.POOLED), count, 4)).astype(np.float32)
        whole[2, :, 0] += 8 * labels
        ids = [str(at) for at in range(count)]
        sets[side] = Vectors(whole, labels, ids, ids)
    found = pooling.run(sets, 2)
    assert found["ways"]["first"]["value"] > 0.97
    assert found["ways"]["mean"]["value"] < 0.7
    test = {tuple(row["ways"]): row for row in found["mcnemar"]}
    assert test["first", "mean"]["p"] < 1e-6
    lead = test["first", "mean"]["first"] - test["first", "mean"]["second"]
    assert lead / 200 == pytest.approx(found["ways"]["first"]["value"] - found["ways"]["mean"]["value"])

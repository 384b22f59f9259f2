from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import BertModel

from tests.helpers import foreign_models
from training.finetuning import cost_ladder
from training.finetuning.rungs import apart
from training.finetuning.rungs.apart import Reading
from training.finetuning.rungs.base import Examples, joined
from training.finetuning.rungs.encoder import Encoder

WORDS = [f"{first}{last}" for first in ("ka", "mo", "ri", "tu", "se") for last in ("ban", "dol", "fix", "gur", "hep")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return foreign_models.bert(tmp_path_factory.mktemp("apart") / "base", [" ".join(WORDS)] * 3)


@pytest.fixture
def reading(base: str, tmp_path: Path) -> Reading:
    return Reading(Encoder(base, 32, str(tmp_path)))


def sims(pair: apart.Compared, size: int) -> np.ndarray:
    even = np.ones(size)
    return np.stack([pair.first.similarity(even), pair.second.similarity(even)])


def test_a_text_is_all_like_itself(reading: Reading) -> None:
    text = " ".join(WORDS[:6])
    (pair,) = reading.compared([joined(text, text)])
    assert sims(pair, 500) == pytest.approx(np.ones((2, 3)), abs=1e-5)
    u, v, apart_, times = np.split(pair.vector, 4)
    assert v == pytest.approx(u, abs=1e-6)
    assert apart_ == pytest.approx(np.zeros_like(u), abs=1e-6)
    assert times == pytest.approx(u * v, abs=1e-6)


def test_texts_that_change_places_change_their_sides_alone(reading: Reading) -> None:
    first, second = " ".join(WORDS[:7]), " ".join(WORDS[4:9])
    one, other = reading.compared([joined(first, second), joined(second, first)])
    u, v, *both = np.split(one.vector, 4)
    assert np.concatenate([v, u, *both]) == pytest.approx(other.vector, abs=1e-6)
    assert sims(one, 500)[::-1] == pytest.approx(sims(other, 500), abs=1e-6)
    assert sims(one, 500)[0] != pytest.approx(sims(one, 500)[1], abs=1e-3)


def test_padding_changes_nothing(reading: Reading) -> None:
    short = joined(" ".join(WORDS[:3]), " ".join(WORDS[2:5]))
    (alone,) = reading.compared([short])
    reading._known.clear()
    beside, _ = reading.compared([short, joined(" ".join(WORDS[:20]), " ".join(WORDS[5:20]))])
    assert beside.vector == pytest.approx(alone.vector, abs=1e-6)
    for one, other in ((beside.first, alone.first), (beside.second, alone.second)):
        assert (one.ids == other.ids).all()
        assert one.cosines == pytest.approx(other.cosines, abs=1e-6)


def test_the_similarity_is_the_mean_by_idf_of_the_largest_cosines(base: str, reading: Reading) -> None:
    """Token by token, of transformers' own states."""
    first, second = " ".join(WORDS[:5]), " ".join(WORDS[3:6])
    (pair,) = reading.compared([joined(first, second)])
    model: Any = BertModel.from_pretrained(base).eval()
    layers, ids = [], []
    for text in (first, second):
        (encoding,) = reading.encoder.reader.read([text])
        with torch.no_grad():
            states = model(torch.tensor([encoding.ids]), output_hidden_states=True).hidden_states
        layers.append([state[0, 1:-1].double().numpy() for state in states])  # without [CLS] and [SEP]
        ids.append(encoding.ids[1:-1])
    idf = np.random.default_rng(0).random(reading.encoder.reader.tokenizer.get_vocab_size())
    for layer in range(3):
        sides = [states[layer] / np.linalg.norm(states[layer], axis=1, keepdims=True) for states in layers]
        for side, (own, other) in enumerate(((0, 1), (1, 0))):
            weights = [idf[token] for token in ids[own]]
            best = [max(float(token @ each) for each in sides[other]) for token in sides[own]]
            expected = sum(w * b for w, b in zip(weights, best, strict=True)) / sum(weights)
            assert (pair.first, pair.second)[side].similarity(idf)[layer] == pytest.approx(expected, abs=1e-5)
    u, v = (states[2].mean(0) for states in layers)
    assert pair.vector == pytest.approx(np.concatenate([u, v, abs(u - v), u * v]), abs=1e-5)


def test_a_text_without_tokens_is_like_nothing(reading: Reading) -> None:
    (pair,) = reading.compared([joined("", "kaban")])
    assert (sims(pair, 500) == 0).all()
    assert np.isfinite(pair.vector).all()


def pairs(rows: int, seed: int) -> Examples:
    """The second text is a part of the first (class 1), or of other words (class 0); the words alone say nothing."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, rows)
    texts = []
    for label in labels.tolist():
        first, other = np.array(WORDS)[draw.permutation(len(WORDS))[:24]].reshape(2, 12)
        texts.append(joined(" ".join(first), " ".join((first if label else other)[:5])))
    return Examples(texts, labels, [str(row) for row in range(rows)])


def test_words_that_both_texts_share_are_learned_by_an_encoder_of_random_weights(
    reading: Reading, tmp_path: Path
) -> None:
    train, dev, test = (pairs(rows, seed) for seed, rows in enumerate((200, 100, 200)))
    found = apart.fit(reading)(train, dev, 2)
    assert isinstance(found, apart.Apart)
    assert (found.predict_proba(test.texts).argmax(1) == test.labels).mean() > 0.97
    assert found.features(test.texts).shape == (200, 2 * 3)  # the vectors say nothing, and are left out
    found.save(str(tmp_path))
    assert load_file(tmp_path / "head.safetensors")["idf"] == pytest.approx(found.idf)
    assert (tmp_path / "encoder.safetensors").is_file()


def test_vectors_take_part_where_what_is_said_tells_the_label(reading: Reading) -> None:
    """Here it is a word of the second text, whatever the first one says."""
    draw = np.random.default_rng(3)

    def made(rows: int) -> Examples:
        labels = draw.integers(0, 2, rows)
        texts = [joined(" ".join(draw.choice(WORDS[2:], 6)), WORDS[label]) for label in labels.tolist()]
        return Examples(texts, labels, [str(row) for row in range(rows)])

    train, dev, test = made(120), made(60), made(100)
    found = apart.fit(reading)(train, dev, 2)
    assert isinstance(found, apart.Apart)
    assert found.used > 2 * 3
    assert (found.predict_proba(test.texts).argmax(1) == test.labels).mean() > 0.97


@pytest.mark.parametrize("name", ["frozen", "pairs", "lora", "full"])
def test_every_rung_on_an_encoder_reads_the_second_text_however_long_the_first_is(
    base: str, tmp_path: Path, name: str
) -> None:
    train, dev = pairs(24, 0), pairs(12, 1)
    rungs = cost_ladder.rungs([], base, 16, str(tmp_path), pairs=True, epochs=1)
    fitted = next(rung for rung in rungs if rung.name == name).fit(train, dev, 2)
    first = " ".join(WORDS * 3)
    asked = fitted.predict_proba([joined(first, WORDS[0]), joined(first, WORDS[1])])
    assert asked[0] != pytest.approx(asked[1], abs=1e-9)

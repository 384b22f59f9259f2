from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from training.finetuning import cost_ladder, deadline
from training.finetuning.cost_ladder import Sets
from training.finetuning.rungs import encoder, tuned
from training.finetuning.rungs.base import Examples
from training.finetuning.rungs.encoder import Encoder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "wave", "boat", "cloud", "wind", "is", "here"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small BERT of random weights."""
    folder = str(tmp_path_factory.mktemp("encoder") / "base")
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape |= {"intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, **shape)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(base: str, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder(base, 16, str(tmp_path_factory.mktemp("work")))


def rows(count: int, seed: int) -> Examples:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, count)
    words = (("wave", "boat"), ("cloud", "wind"))
    texts = [f"{draw.choice(words[label])} is here" for label in labels.tolist()]
    return Examples(texts, labels, [str(row) for row in range(count)])


def test_a_vector_is_the_mean_over_the_texts_own_tokens(base: str, made: Encoder) -> None:
    """Whatever it is padded to, and equal to transformers' own answer."""
    alone = made.features(["wave is here"])
    made._known.clear()
    beside = made.features(["wave is here", "cloud cloud cloud wind wind is is here here"])
    assert beside[0] == pytest.approx(alone[0], abs=1e-6)
    ids = torch.tensor([[2, 4, 8, 9, 3]])
    with torch.no_grad():
        expected = BertModel.from_pretrained(base).eval()(ids).last_hidden_state.mean(1)[0].numpy()
    assert alone[0] == pytest.approx(expected, abs=1e-6)


def test_the_frozen_encoder_stays_and_each_text_is_computed_once(made: Encoder) -> None:
    before = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
    train, dev, test = rows(60, 0), rows(40, 1), rows(40, 2)
    fitted = encoder.frozen(made)(train, dev, 2)
    assert (fitted.predict_proba(test.texts).argmax(1) == test.labels).mean() > 0.95
    assert len(made._known) <= 4 + 2  # the different texts, and two of the test above
    assert all(torch.equal(before[name], tensor) for name, tensor in made.model.state_dict().items())


def test_pairs_bring_texts_of_a_class_together_and_leave_the_base_as_it_was(made: Encoder, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
    train, dev = rows(40, 0), rows(40, 1)
    fitted = encoder.contrastive(made)(train, dev, 2)
    assert isinstance(fitted, encoder.OnVectors)

    def apart(vectors: np.ndarray) -> float:
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return float(unit[0] @ unit[1] - unit[0] @ unit[2])

    texts = ["wave is here", "boat is here", "wind is here"]
    assert apart(fitted.encoder.features(texts)) > apart(made.features(texts))
    assert all(torch.equal(before[name], tensor) for name, tensor in made.model.state_dict().items())
    again = encoder.contrastive(made)(train, dev, 2)
    assert (again.predict_proba(texts) == fitted.predict_proba(texts)).all()
    fitted.save(str(tmp_path))
    assert (tmp_path / "encoder.safetensors").stat().st_size > 4 * sum(t.numel() for t in before.values()) * 0.9


def test_pairs_are_of_stated_kinds_and_number() -> None:
    labels = np.array([0] * 10 + [1] * 10 + [2])
    one, two, same = encoder.pairs_of(labels)
    assert (one != two).all()
    assert (same == (labels[one] == labels[two])).all()
    assert len(one) == 20 * 2 * encoder.PAIRS + encoder.PAIRS  # the one of class 2 has no pair that is alike
    many, _, _ = encoder.pairs_of(np.arange(10_000) % 2)
    assert len(many) == encoder.MOST_PAIRS


def test_the_time_is_estimated_from_some_batches(made: Encoder) -> None:
    train = rows(40, 0)
    assert 0 < encoder.contrastive_seconds(made, train) < 600
    assert 0 < made.seconds([f"wave {n} is here" for n in range(400)]) < 600


@pytest.mark.slow
def test_the_whole_model_learns_and_its_files_are_counted(base: str, tmp_path: Path) -> None:
    train, dev, test = rows(200, 0), rows(40, 1), rows(40, 2)
    optimiser = {"learning_rate": 3e-3, "schedule": "linear", "warmup": 0.1}
    fitted = tuned.tuned(base, 16, epochs=30, optimiser=optimiser)(train, dev, 3)
    found = fitted.predict_proba(test.texts)
    assert found.shape == (40, 3)
    assert found.sum(1) == pytest.approx(1)
    assert (found.argmax(1) == test.labels).mean() > 0.95
    fitted.save(str(tmp_path))
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in tmp_path.iterdir()}


def test_every_rung_on_a_base_stops_where_the_time_is_up(base: str, tmp_path: Path) -> None:
    train, dev = rows(60, 0), rows(30, 1)
    for rung in cost_ladder.rungs([], base, 16, str(tmp_path))[1:]:
        if rung.name != "fasttext":  # one call of a kernel, of seconds
            with deadline.until(0), pytest.raises(deadline.OutOfTime):
                rung.fit(train, dev, 3)


def test_lora_is_published_merged(base: str) -> None:
    train, dev = rows(60, 0), rows(30, 1)
    fitted = tuned.tuned(base, 16, epochs=2, strategy={"kind": "lora"})(train, dev, 2)
    assert fitted.predict_proba(dev.texts).sum(1) == pytest.approx(1)


def test_a_base_adds_its_rungs_and_each_is_estimated(base: str, tmp_path: Path) -> None:
    sets = Sets(rows(60, 0), rows(30, 1), rows(30, 2), ["sea", "sky"])
    rungs = cost_ladder.rungs([], base, 16, str(tmp_path))
    assert [rung.name for rung in rungs] == ["majority", "tf_idf", "fasttext", "frozen", "pairs", "lora", "full"]
    for rung in rungs[3:]:
        assert rung.estimate is not None
        assert 0 < rung.estimate(sets) < 600

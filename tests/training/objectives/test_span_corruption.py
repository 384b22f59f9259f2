"""T5's arithmetic and examples (preprocessors.py and its tests), and what is ours: packs."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from pipeline import MillError
from tests.training.conftest import SPECIAL, TINY, make_build, pretrain_section
from tests.training.objectives.conftest import task, tensors
from training.batches.windows import IGNORE, NOTHING
from training.models import architectures, seq2seq
from training.objectives import span_corruption as t5
from training.pretraining.pretrain import pretrain

DENSITY, MEAN = 0.15, 3.0


@pytest.mark.parametrize(
    ("inputs", "density", "mean", "raw", "targets"),
    [
        (512, 0.15, 3.0, 568, 114),
        (128, 0.15, 3.0, 141, 29),
        (256, 0.15, 3.0, 284, 58),
        (1024, 0.15, 3.0, 1137, 229),
        (64, 0.2, 2.0, 70, 22),
        (64, 0.2, 1.0, 63, 27),
    ],
)
def test_lengths_are_t5s(inputs: int, density: float, mean: float, raw: int, targets: int) -> None:
    assert t5.raw_length(inputs, density, mean) == raw
    assert t5.lengths(raw, density, mean)[2:] == (inputs, targets)


def test_sentinels_are_t5s() -> None:
    tokens, mask = np.arange(10, 16)[None], np.array([[1, 1, 0, 0, 1, 0]], bool)
    found, kept = t5.collapse(tokens, mask, 999)
    assert found[kept].tolist() == [999, 12, 13, 998, 15]
    found, kept = t5.collapse(tokens, ~mask, 999)
    assert [999 if token == 998 else token for token in found[kept].tolist()] == [10, 11, 999, 14, 999]
    assert tokens[~mask].tolist() == [12, 13, 15]


def test_the_quick_brown_fox_is_t5s() -> None:
    text = [3, 2, 20, 4, 3, 2, 8, 13, 2, 3, 2, 23, 7, 19, 22, 3, 2, 7, 2]
    tokens, mask = np.array([text]), np.zeros((1, 19), bool)
    mask[0, [8, 14, 15, 16, 17, 18]] = True
    inputs, kept = t5.collapse(tokens, mask, 25)
    assert inputs[kept].tolist() == [3, 2, 20, 4, 3, 2, 8, 13, 25, 3, 2, 23, 7, 19, 24]
    targets, kept = t5.collapse(tokens, ~mask, 25)
    assert targets[kept].tolist() == [25, 2, 24, 22, 3, 2, 7, 2]


def test_the_noise_is_exact_and_starts_with_what_stays() -> None:
    of = t5.lengths(568, DENSITY, MEAN)
    mask = t5.noise_mask(np.random.default_rng(0).random((500, 2, 568)), of)
    np.testing.assert_array_equal(mask.sum(1), 85)
    np.testing.assert_array_equal((np.diff(mask.astype(int), axis=1) == 1).sum(1), 28)
    assert not mask[:, 0].any()
    assert mask[:, -1].all()


def test_segmentations_are_uniform() -> None:
    """Of 5 items in 3 parts there are 6, each as likely."""
    found = t5.segmentation(np.random.default_rng(0).random((12_000, 4)), 3)
    assert (found.sum(1) == 5).all()
    _, counts = np.unique(found, axis=0, return_counts=True)
    assert len(counts) == 6
    assert chisquare(counts).pvalue > 1e-3


def restored(tokens: list[int], labels: list[int], top: int) -> list[int]:
    """The text that inputs and targets were made of."""
    spans: dict[int, list[int]] = {}
    current: list[int] = []
    for token in labels:
        if token > top - 100:
            current = spans.setdefault(token, [])
        else:
            current.append(token)
    return [part for token in tokens for part in (spans[token] if token > top - 100 else [token])]


def test_inputs_and_targets_make_the_text_again(documents) -> None:
    found = task("span_corruption")
    reader = t5.order(found, documents["masked"], 3)
    windows = reader.read(np.arange(40))
    batch = t5.examples(found, windows)
    top, end = 260 + 100 - 1, SPECIAL["sep"]
    assert batch.arrays["tokens"].shape == (40, 64)
    for row in range(40):
        tokens, labels = batch.arrays["tokens"][row].tolist(), batch.arrays["labels"][row].tolist()
        if IGNORE in labels:
            continue  # a document that the inputs show nothing of
        assert (tokens[-1], labels[-1]) == (end, end)
        sentinels = [token for token in tokens if token > 259]
        assert sentinels == [top - number for number in range(len(sentinels))]
        assert restored(tokens[:-1], labels[:-1], top) == windows.tokens[row].tolist()


def test_the_end_of_held_out_text_has_the_arithmetic_of_its_length(documents) -> None:
    found = task("span_corruption")
    windows, _ = t5.order(found, documents["masked"], 3, repeat=False).head(1000)
    batch = t5.examples(found, windows)
    size = int((windows.segments[-1] != NOTHING).sum())
    assert 1 < size < windows.tokens.shape[1]
    of = t5.lengths(size, DENSITY, MEAN)
    assert (batch.arrays["segments"][-1] != NOTHING).sum() == of.inputs
    assert (batch.arrays["decoder_segments"][-1] != NOTHING).sum() == of.targets
    assert batch.counts["spans"] == (batch.arrays["labels"] != IGNORE).sum()


def test_equal_to_transformers_own_loss(documents) -> None:
    found = task("span_corruption")
    model = t5.create(found).eval()
    windows = t5.order(found, documents["masked"], 3).read(np.arange(4))
    whole = type(windows)(**{**vars(windows), "segments": np.zeros_like(windows.segments)})
    batch = t5.examples(found, whole)
    arrays = tensors(batch.arrays)
    expected = model(input_ids=arrays["tokens"], labels=arrays["labels"]).loss
    torch.testing.assert_close(t5.loss(model, arrays)["spans"] / batch.counts["spans"], expected)


def test_sentinels_are_in_the_published_tokenizer(packed_build: str, tmp_path: Path) -> None:
    root = str(tmp_path / "build")
    shutil.copytree(packed_build, root)
    pretrain(make_build(root, pretrain_section("span_corruption", steps=1)), "span_corruption")
    tokenizer = AutoTokenizer.from_pretrained(f"{root}/models/span_corruption")
    model = AutoModelForSeq2SeqLM.from_pretrained(f"{root}/models/span_corruption")
    ids = tokenizer("<extra_id_0>a<extra_id_99>", add_special_tokens=False)["input_ids"]
    assert ids == [359, ord("a"), 260]
    assert model.config.vocab_size == 360 == len(tokenizer)
    assert model.config.decoder_start_token_id == SPECIAL["pad"]


def test_short_and_empty_rows_ask_nothing(documents) -> None:
    found = task("span_corruption")
    windows = t5.order(found, documents["masked"], 3).read(np.arange(2))
    segments = np.full_like(windows.segments, NOTHING)
    segments[1, 0] = 0
    batch = t5.examples(found, type(windows)(**{**vars(windows), "segments": segments}))
    assert batch.counts == {"spans": 0}
    assert batch.tokens == 1


def test_a_run_without_its_tokenizer_stops_before_it_trains(packed_build: str, tmp_path: Path) -> None:
    """The sentinels are added to a tokenizer that must be there; the message names its file and what to do."""
    root = tmp_path / "build"
    shutil.copytree(packed_build, root)
    shutil.rmtree(root / "tokenizers/masked")
    with pytest.raises(MillError) as caught:
        pretrain(make_build(str(root), pretrain_section("span_corruption")), "span_corruption")
    assert f"{root}/tokenizers/masked/tokenizer.json is not there" in str(caught.value)
    assert "train the tokenizer 'masked' first" in str(caught.value)
    assert not (root / "work/pretrain/span_corruption").exists()


def test_the_loss_starts_half_a_nat_and_the_input_tokens_share_above_a_uniform_guess(documents) -> None:
    """Why not at ln V: the published initialisation, not an error of ours.

    Embeddings are drawn from N(0, 1) and tied to the head; the decoder's normalised state h has |h|^2 = d and is scaled
    by d^-1/2, so that a logit is N(0, 1) and the mean of its exponential e^(1/2): ln V + 1/2 nats. But h holds the
    embedding e of the input token itself, whose logit is then d^-1/2 h.e, up to d^1/2: the model repeats its input.
    """
    found = task("span_corruption", model={**TINY["t5"], "d_model": 64})
    model = t5.create(found).eval()
    arrays = tensors(t5.examples(found, t5.order(found, documents["masked"], 3, True).read(np.arange(64))).arrays)
    with torch.no_grad():
        hidden = seq2seq.hidden_states(model, arrays)
        logits = hidden @ architectures.output_head(model).weight.T
    inputs, labels = arrays["decoder_tokens"], arrays["labels"]
    of_input = torch.gather(logits, 2, inputs[:, :, None])
    others = logits.scatter(2, inputs[:, :, None], -torch.inf)
    counted = (labels != IGNORE) & (labels != inputs)
    size = logits.shape[-1]
    half = torch.nn.functional.cross_entropy(others[counted], labels[counted])
    assert float(half) == pytest.approx(math.log(size - 1) + 0.5, abs=0.15)
    whole = torch.nn.functional.cross_entropy(logits[counted], labels[counted])
    repeated = torch.log(1 + of_input.exp()[:, :, 0] / others.exp().sum(-1))[counted].mean()
    torch.testing.assert_close(whole, half + repeated)  # all that is above
    assert float(of_input[counted].mean()) > 3
    assert float(repeated) > 0.1

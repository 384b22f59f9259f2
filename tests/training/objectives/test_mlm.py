from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from tests.training.conftest import SPECIAL, TINY, pack, pretrain_section, sentences, vocabulary
from training.batches.batch import Batch
from training.batches.windows import IGNORE, NOTHING, Reader, Windows
from training.models import architectures
from training.objectives import masking, mlm
from training.objectives.base import Task
from training.recipe.sections import PretrainConfig

CLS, SEP, MASK = SPECIAL["cls"], SPECIAL["sep"], SPECIAL["mask"]


def task(length: int = 64, seed: int = 0, **model) -> Task:
    section = pretrain_section("mlm", sequence_length=length, model={**TINY["bert"], **model})
    return Task(PretrainConfig.model_validate(section), vocabulary(SPECIAL), seed)


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = str(tmp_path_factory.mktemp("mlm"))
    return mlm.order(task(), pack(folder, sentences(300), SPECIAL), seed=0)


def read(order: Reader, windows: int) -> tuple[Windows, np.ndarray]:
    found = order.read(np.arange(windows))
    return found, masking.close_pieces(vocabulary(SPECIAL), found)


def at_epoch(windows: Windows, epoch: int) -> Windows:
    """The same windows as if they were read in another epoch."""
    visits = np.stack([np.full(len(windows.visits), epoch), windows.visits[:, 1]], axis=1)
    return Windows(**{**vars(windows), "visits": visits})


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in batch.arrays.items()}


def actions(batch: Batch, original: np.ndarray) -> np.ndarray:
    """Picked tokens that were masked, replaced by another, left: three counts."""
    rows, slots = np.nonzero(batch.arrays["labels"] != IGNORE)
    places = batch.arrays["picked"][rows, slots]
    now, before = batch.arrays["tokens"][rows, places], original[rows, places]
    masked = now == MASK
    return np.array([masked.sum(), (~masked & (now != before)).sum(), (now == before).sum()])


def test_fifteen_percent_of_the_ordinary_tokens_are_picked(order: Reader) -> None:
    windows, original = read(order, 200)
    batch = mlm.examples(task(), windows)
    ordinary = (~np.isin(original, list(SPECIAL.values()))).sum(1)
    picked = (batch.arrays["labels"] != IGNORE).sum(1)
    np.testing.assert_array_equal(picked, np.rint(ordinary * 0.15))
    assert batch.counts == {"mlm": picked.sum(), "masked_accuracy": picked.sum()}


def test_labels_are_the_tokens_that_stood_there_and_never_special(order: Reader) -> None:
    windows, original = read(order, 200)
    batch = mlm.examples(task(), windows)
    rows, slots = np.nonzero(batch.arrays["labels"] != IGNORE)
    places = batch.arrays["picked"][rows, slots]
    labels = batch.arrays["labels"][rows, slots]
    np.testing.assert_array_equal(labels, original[rows, places])
    assert not np.isin(labels, list(SPECIAL.values())).any()
    assert len({(row, place) for row, place in zip(rows, places, strict=True)}) == len(rows)
    untouched = np.ones(original.shape, bool)
    untouched[rows, places] = False
    np.testing.assert_array_equal(batch.arrays["tokens"][untouched], original[untouched])


def test_masks_are_80_10_10_by_chi_square(order: Reader) -> None:
    """Over 30 visits of 200 windows; a replacement equals the original once in 260."""
    counts = np.zeros(3)
    for visit in range(30):
        windows, original = read(order, 200)
        counts += actions(mlm.examples(task(), at_epoch(windows, visit)), original)
    share = 0.1 / 260
    # a random id may also be that of [MASK]
    expected = counts.sum() * np.array([0.8 + share, 0.1 - 2 * share, 0.1 + share])
    assert chisquare(counts, expected).pvalue > 1e-3


def test_random_tokens_are_uniform_over_the_vocabulary() -> None:
    drawn = np.random.default_rng(0).random((200, 1000))
    tokens = np.zeros((200, 1000), np.int64)
    picked = np.tile(np.arange(1000), (200, 1))
    action = np.full_like(drawn, 0.85)
    found = masking.corrupt(tokens, picked, np.zeros_like(picked), action, drawn, vocabulary(SPECIAL), 0.8, 0.1)
    assert chisquare(np.bincount(found.ravel(), minlength=260)).pvalue > 1e-3
    assert found.max() == 259  # never an id of the padding of the vocabulary


def test_places_are_picked_evenly() -> None:
    tokens = np.zeros((1, 40), np.int64)
    counts = np.zeros(40)
    for visit in range(4000):
        drawn = np.random.default_rng(visit).random((1, 40))
        picked, labels = masking.pick(tokens, np.ones((1, 40), bool), drawn, 0.15)
        assert (labels != IGNORE).sum() == 6
        counts[picked[0]] += 1
    assert chisquare(counts).pvalue > 1e-3


def test_places_are_picked_by_the_odds_of_their_tokens() -> None:
    """The first of several by its share of the odds; those of others never change it."""
    odds = np.array([1.0, 2.0, 4.0, 100.0])
    tokens, candidates = np.array([[0, 1, 2, 3]]), np.array([[True, True, True, False]])
    counts = np.zeros(3)
    for visit in range(6000):
        picked, _ = masking.pick(tokens, candidates, np.random.default_rng(visit).random((1, 4)), 0.25, odds)
        counts[picked[0, 0]] += 1
    assert chisquare(counts, 6000 * odds[:3] / odds[:3].sum()).pvalue > 1e-3


def test_the_mask_is_a_function_of_visit_and_seed(order: Reader) -> None:
    windows, _ = read(order, 8)
    batch = mlm.examples(task(), windows)
    alone = mlm.examples(task(), windows.take(slice(5, 6)))
    for name, array in batch.arrays.items():
        np.testing.assert_array_equal(alone.arrays[name][0], array[5])
    assert (mlm.examples(task(), at_epoch(windows, 1)).arrays["tokens"] != batch.arrays["tokens"]).any()
    assert (mlm.examples(task(seed=1), windows).arrays["tokens"] != batch.arrays["tokens"]).any()


def test_padding_is_never_picked(order: Reader) -> None:
    windows, _ = order.head(100)
    batch = mlm.examples(task(), windows)
    inside = windows.segments != NOTHING
    assert not inside.all()
    rows, slots = np.nonzero(batch.arrays["labels"] != IGNORE)
    assert inside[rows, batch.arrays["picked"][rows, slots]].all()


def test_every_piece_of_a_document_is_opened_and_closed(order: Reader) -> None:
    windows, tokens = read(order, 50)
    for row in range(50):
        changes = np.flatnonzero(np.diff(windows.segments[row])) + 1
        for piece in np.split(tokens[row], changes):
            assert piece[-1] == SEP
            assert piece[0] == CLS or len(piece) == 1


@pytest.mark.parametrize("architecture", ["bert", "roberta", "albert", "distilbert"])
def test_equal_to_transformers_own_loss(order: Reader, architecture: str) -> None:
    """One document a sequence; the labels of transformers lie in place, ours are gathered."""
    section = pretrain_section("mlm", sequence_length=64, model=TINY[architecture])
    model = mlm.create(Task(PretrainConfig.model_validate(section), vocabulary(SPECIAL), 0))
    windows, _ = read(order, 4)
    whole = Windows(**{**vars(windows), "segments": np.zeros_like(windows.segments)})
    batch = mlm.examples(task(), whole)
    arrays = tensors(batch)
    arrays["positions"] = torch.arange(64).expand(4, 64)
    labels = torch.full((4, 64), IGNORE)
    for row in range(4):
        chosen = arrays["labels"][row] != IGNORE
        labels[row, arrays["picked"][row, chosen]] = arrays["labels"][row, chosen]
    expected = model(input_ids=arrays["tokens"], labels=labels).loss
    torch.testing.assert_close(mlm.loss(model, arrays)["mlm"] / batch.counts["mlm"], expected)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "albert", "distilbert"])
def test_heads_at_chosen_places_are_those_of_the_whole_model(order: Reader, architecture: str) -> None:
    config = architectures.configuration(TINY[architecture], vocabulary(SPECIAL), 64)
    model = architectures.create("masked", config, 0).eval()
    arrays = tensors(mlm.examples(task(), read(order, 3)[0]))
    one = torch.zeros_like(arrays["segments"])
    places = torch.arange(64).expand(3, 64)
    with torch.no_grad():
        hidden = architectures.hidden_states(model, arrays["tokens"], one, places, causal=False)
        found = architectures.masked_logits(model, masking.hidden_at(hidden, arrays["picked"]))
        whole = model(input_ids=arrays["tokens"]).logits
    expected = torch.gather(whole, 1, arrays["picked"][:, :, None].expand(-1, -1, whole.shape[-1]))
    torch.testing.assert_close(found, expected.flatten(0, 1), rtol=1e-4, atol=1e-5)


def test_a_document_does_not_see_the_others_in_its_pack() -> None:
    model = mlm.create(task()).eval()
    tokens = torch.randint(0, 256, (1, 64))
    segments = (torch.arange(64) >= 30).long()[None]
    positions = torch.where(segments == 0, torch.arange(64), torch.arange(64) - 30)
    other = tokens.clone()
    other[0, :30] = torch.randint(0, 256, (30,))
    with torch.no_grad():
        first, second = (
            architectures.hidden_states(model, t, segments, positions, causal=False) for t in (tokens, other)
        )
        alone = model.base_model(tokens[:, 30:]).last_hidden_state
    torch.testing.assert_close(first[:, 30:], second[:, 30:], rtol=0, atol=1e-6)
    torch.testing.assert_close(first[:, 30:], alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(first[:, :30], second[:, :30])


def test_a_tokenizer_without_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="mlm needs a tokenizer with cls, sep and mask tokens; it has no mask"):
        masking.layout("mlm", vocabulary({"eos": 256}))

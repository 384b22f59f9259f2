from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, poisson

from tests.training.conftest import SPECIAL
from tests.training.objectives.conftest import read, task, tensors
from training.batches.windows import IGNORE, NOTHING
from training.objectives import denoising, noise_spans
from training.recipe.objectives import DenoisingConfig

MASK = SPECIAL["mask"]
TEXT = np.arange(1000, 1100)


def draws(count: int, length: int = 100, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 7, length))


def test_span_lengths_are_poisson_3() -> None:
    found = denoising.poisson(np.random.default_rng(0).random(50_000), 3.0)
    counts = np.bincount(np.minimum(found, 9), minlength=10)
    expected = np.append(poisson.pmf(np.arange(9), 3.0), poisson.sf(8, 3.0))
    assert chisquare(counts, 50_000 * expected).pvalue > 1e-3


def test_infilling_takes_30_percent_and_leaves_one_mask_a_span() -> None:
    inserted = 0
    for drawn in draws(500):
        lengths = noise_spans.cut_to(denoising.poisson(drawn[0], 3.0), 30)
        found = denoising.infill(TEXT, drawn[:3], 0.3, 3.0, MASK)
        kept = found[found != MASK]
        assert len(kept) == 70
        assert (np.diff(kept) > 0).all()
        assert (found == MASK).sum() == len(lengths)
        inserted += (lengths == 0).sum()
    spans = 500 * 10
    assert inserted == pytest.approx(spans * np.exp(-3), rel=0.3)  # length 0: a mask where nothing is gone


def test_infilling_takes_every_place_alike() -> None:
    """But the first and the last: fewer spans reach them, because none begins before the text or ends behind it."""
    gone = np.zeros(100)
    for drawn in draws(4000, seed=1):
        found = denoising.infill(TEXT, drawn[:3], 0.3, 3.0, MASK)
        gone[np.setdiff1d(TEXT, found) - 1000] += 1
    assert gone.sum() == 4000 * 30
    inner = gone[8:-8]
    assert inner.std() < 2 * np.sqrt(inner.mean())  # of a count; neighbours go together
    np.testing.assert_allclose(gone, gone[::-1], rtol=0.15)
    assert gone.min() > 300


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7])
def test_no_input_is_longer_than_its_text(length: int) -> None:
    for drawn in draws(300, length, seed=2):
        for noise in ("infilling", "masking", "deletion", "none"):
            how = DenoisingConfig(noise=noise, rotate=0.5)
            found = denoising.spoil(TEXT[:length], np.ones(length, bool), drawn, how, MASK)
            assert len(found) <= length
            assert len(found) == length or noise in ("infilling", "deletion")


def test_masking_and_deletion_take_exactly_their_share() -> None:
    starts = np.zeros(100, bool)
    drawn = draws(1)[0]
    masked = denoising.spoil(TEXT, starts, drawn, DenoisingConfig(noise="masking", permute=0), MASK)
    assert (masked == MASK).sum() == 30
    np.testing.assert_array_equal(masked[masked != MASK], TEXT[masked != MASK])
    deleted = denoising.spoil(TEXT, starts, drawn, DenoisingConfig(noise="deletion", permute=0), MASK)
    np.testing.assert_array_equal(deleted, masked[masked != MASK])


def test_sentences_change_places_whole_and_evenly() -> None:
    starts = np.zeros(100, bool)
    starts[[0, 10, 50]] = True
    sentences = [tuple(part) for part in np.split(TEXT, [10, 50])]
    orders = [np.concatenate(order) for order in permutations(sentences)]
    counts = np.zeros(6)
    for drawn in draws(3000, seed=3):
        found = denoising.spoil(TEXT, starts, drawn, DenoisingConfig(noise="none"), MASK)
        counts[[np.array_equal(found, order) for order in orders].index(True)] += 1
    assert chisquare(counts).pvalue > 1e-3


def test_a_rotated_document_begins_at_any_token() -> None:
    text, counts = TEXT[:10], np.zeros(10)
    how = DenoisingConfig(noise="none", permute=0, rotate=1)
    for drawn in draws(5000, 10, seed=4):
        found = denoising.spoil(text, np.zeros(10, bool), drawn, how, MASK)
        np.testing.assert_array_equal(np.roll(found, found[0] - 1000), text)
        counts[found[0] - 1000] += 1
    assert chisquare(counts).pvalue > 1e-3


def test_rotation_takes_its_share_of_documents() -> None:
    how = DenoisingConfig(noise="none", permute=0, rotate=0.25)
    moved = sum(
        denoising.spoil(TEXT, np.zeros(100, bool), drawn, how, MASK)[0] != TEXT[0] for drawn in draws(4000, seed=5)
    )
    assert moved / 4000 == pytest.approx(0.25 * 0.99, abs=0.03)


def test_labels_are_the_text_and_frames_stay(documents) -> None:
    found = task("denoising")
    windows = denoising.order(found, documents["masked"], 3).read(np.arange(30))
    batch = denoising.examples(found, windows)
    labels, source, owner = (batch.arrays[name] for name in ("labels", "tokens", "segments"))
    assert (labels != IGNORE).all()
    text = windows.segments != NOTHING
    changed = labels != windows.tokens
    assert not changed[:, 1:-1].any()  # but where a window cuts a document, it is opened and closed there
    for row in range(30):
        for segment in np.unique(owner[row][owner[row] != NOTHING]):
            piece, whole = source[row, owner[row] == segment], labels[row, windows.segments[row] == segment]
            assert (piece[0], piece[-1]) == (whole[0], whole[-1])
            inner = len(whole) - 2
            if inner > 0:
                assert len(piece[1:-1]) - (piece == MASK).sum() == inner - round(inner * 0.3)
    assert batch.counts == {"denoising": text.sum()}


def test_the_decoder_reads_the_label_before(documents) -> None:
    batch = read(task("denoising"), documents["masked"], np.arange(5))
    inputs, labels, segments = (batch.arrays[name] for name in ("decoder_tokens", "labels", "decoder_segments"))
    starts = np.diff(segments, axis=1, prepend=NOTHING) != 0
    assert (inputs[starts] == SPECIAL["sep"]).all()
    np.testing.assert_array_equal(inputs[:, 1:][~starts[:, 1:]], labels[:, :-1][~starts[:, 1:]])


def test_equal_to_transformers_own_loss(documents) -> None:
    found = task("denoising")
    model = denoising.create(found).eval()
    windows = denoising.order(found, documents["masked"], 3).read(np.arange(4))
    whole = type(windows)(**{**vars(windows), "segments": np.zeros_like(windows.segments)})
    arrays = tensors(denoising.examples(found, whole).arrays)
    attended = (arrays["segments"] != NOTHING).long()
    expected = model(input_ids=arrays["tokens"], attention_mask=attended, labels=arrays["labels"]).loss
    torch.testing.assert_close(denoising.loss(model, arrays)["denoising"] / 256, expected)


def test_defaults_are_the_published_recipe() -> None:
    how = DenoisingConfig()
    assert (how.noise, how.share, how.mean_length, how.permute, how.rotate) == ("infilling", 0.3, 3.0, 1.0, 0.0)

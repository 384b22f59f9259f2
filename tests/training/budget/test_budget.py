from __future__ import annotations

import math
from dataclasses import replace

import pytest

from training.budget.budget import Corpus, Run, budget
from training.recipe.sections import BudgetConfig

CORPUS = Corpus(unique_tokens=1_000_000, unique_bytes=4_000_000, raw_bytes=10_000_000, curated_bytes=4_000_000)
RUN = Run(
    total=2_000_000,
    non_embedding=1_500_000,
    matrices_and_head=1_900_000,
    layers=4,
    width=128,
    sequence_length=256,
    trained_tokens=3_000_000,
    tokens_per_second=5_000.0,
)
CONFIG = BudgetConfig(parameters=100_000_000, gpu="H100", utilisation=0.5, price_per_hour=2.0)


def test_the_run_is_accounted_by_named_conventions() -> None:
    found = budget(CORPUS, RUN, CONFIG)
    assert found.epochs == 3
    assert found.tokens_per_parameter == 1.5
    assert found.tokens_per_non_embedding_parameter == 2
    assert found.compute == 6 * 2e6 * 3e6
    assert found.compute_with_attention == 6 * 1.9e6 * 3e6 + 12 * 4 * 128 * 256 * 3e6
    assert found.hours == pytest.approx(600 / 3600)
    assert found.effective_tokens == pytest.approx(1e6 * (1 + 15.387756 * (1 - math.exp(-2 / 15.387756))))


def test_the_target_says_what_is_missing_in_tokens_raw_text_hours_and_cost() -> None:
    found = budget(CORPUS, RUN, CONFIG).target
    assert found.tokens == 2e9
    assert found.missing_tokens == 1.999e9
    assert found.missing_curated_bytes == 4 * 1.999e9
    assert found.missing_raw_bytes == pytest.approx(4 * 1.999e9 / 0.4)
    assert found.compute == 6 * 1e8 * 2e9
    assert found.gpu_hours == pytest.approx(1.2e18 / (989e12 * 0.5) / 3600)
    assert found.cost == pytest.approx(2 * found.gpu_hours)  # type: ignore[operator]
    assert found.hours_at_measured_speed == pytest.approx(2e9 / (5_000 * 2e6 / 1e8) / 3600)


def test_nothing_is_missing_from_a_corpus_that_is_large_enough() -> None:
    large = Corpus(
        unique_tokens=3_000_000_000, unique_bytes=12_000_000_000, raw_bytes=12_000_000_000, curated_bytes=12_000_000_000
    )
    assert budget(large, RUN, CONFIG).target.missing_raw_bytes == 0


def test_both_laws_predict_and_agree_with_themselves() -> None:
    found = budget(CORPUS, RUN, CONFIG)
    assert [prediction.law for prediction in found.predictions] == ["Besiroglu 2024", "Hoffmann 2022"]
    for prediction in found.predictions:
        sizes = (prediction.compute_optimal_parameters, prediction.compute_optimal_tokens)
        assert prediction.compute_optimal_loss <= prediction.loss  # type: ignore[operator]
        spent = 6 * math.prod(sizes)  # type: ignore[arg-type]
        assert spent == pytest.approx(found.compute)


def test_an_empty_corpus_has_no_budget() -> None:
    with pytest.raises(ValueError, match="corpus with tokens"):
        budget(Corpus(0, 0, 10, 0), RUN, CONFIG)


def test_predictions_far_from_what_the_laws_were_fitted_to_are_warned_of() -> None:
    small = budget(CORPUS, replace(RUN, vocab_size=8192), CONFIG)
    below, short, guess = small.warnings
    assert "N of 2.00M is 35 times below" in below
    assert "D of 3.00M is 1,667 times below" in short
    assert f"{small.predictions[0].loss:.2f} nats" in guess
    assert "9.01" in guess  # ln 8192
    large = replace(RUN, total=1_000_000_000, trained_tokens=20_000_000_000, vocab_size=50_304)
    assert budget(CORPUS, large, CONFIG).warnings == ()


@pytest.mark.parametrize("objective", ["mlm", "span_corruption"])
def test_no_law_of_causal_models_is_applied_to_another_objective(objective: str) -> None:
    found = budget(CORPUS, replace(RUN, objective=objective), CONFIG)
    assert all(prediction.loss is None for prediction in found.predictions)
    assert found.repeated_loss is None
    (warning,) = found.warnings
    assert f"this run is `{objective}`" in warning

"""Reference values: Hoffmann 2022 (tables 3 and A3), Besiroglu 2024, Muennighoff 2023."""

from __future__ import annotations

import pytest

from training.budget import laws
from training.budget.laws import BESIROGLU, HOFFMANN, MUENNIGHOFF


@pytest.mark.parametrize(
    ("compute", "parameters", "tokens", "ratio", "loss"),
    [
        (1e18, 80.6e6, 2.07e9, 25.6, 3.489),
        (1e19, 262e6, 6.35e9, 24.2, 2.926),
        (1e20, 855e6, 19.5e9, 22.8, 2.553),
        (1e21, 2.78e9, 59.9e9, 21.5, 2.305),
        (1e22, 9.06e9, 184e9, 20.3, 2.141),
        (5.76e23, 72.4e9, 1.33e12, 18.3, 1.974),
    ],
)
def test_besiroglu_optimum(compute: float, parameters: float, tokens: float, ratio: float, loss: float) -> None:
    found, needed = BESIROGLU.optimum(compute)
    assert found == pytest.approx(parameters, rel=2.5e-3)
    assert needed == pytest.approx(tokens, rel=2.5e-3)
    assert needed / found == pytest.approx(ratio, abs=0.05)
    assert BESIROGLU.loss(found, needed) == pytest.approx(loss, abs=5e-4)


@pytest.mark.parametrize("law", [BESIROGLU, HOFFMANN, MUENNIGHOFF])
def test_the_optimum_is_a_minimum_and_spends_the_compute(law: laws.Law) -> None:
    parameters, tokens = law.optimum(1e21)
    assert laws.compute(parameters, tokens) == pytest.approx(1e21)
    for factor in (0.9, 1.1):
        assert law.loss(parameters * factor, tokens / factor) > law.loss(parameters, tokens)
    assert law.parameters_for(tokens) == pytest.approx(parameters)


def tokens_for(law: laws.Law, parameters: float) -> float:
    """The D for which ``parameters`` is the optimal N, by bisection of the N that each D is optimal for."""
    low, high = 1.0, 1e20
    for _ in range(200):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if law.parameters_for(middle) < parameters else (low, middle)
    return low


#: N: tokens by approach 1, 2 and 3 of Hoffmann 2022.
CHINCHILLA = {
    400e6: (8.0e9, 7.7e9, 9.2e9),
    1e9: (20.2e9, 20.0e9, 27.1e9),
    10e9: (205.1e9, 219.5e9, 410.1e9),
    67e9: (1.5e12, 1.7e12, 4.1e12),
    175e9: (3.7e12, 4.3e12, 12.0e12),
    280e9: (5.9e12, 7.1e12, 20.1e12),
    520e9: (11.0e12, 13.4e12, 43.5e12),
    1e12: (21.2e12, 26.5e12, 94.1e12),
    10e12: (216.2e12, 292.0e12, 1425.5e12),
}


@pytest.mark.parametrize("parameters", CHINCHILLA)
def test_hoffmann_is_its_papers_approach_3(parameters: float) -> None:
    # The table was made with exponents rounded to two digits, so the agreement is no better than this.
    assert tokens_for(HOFFMANN, parameters) == pytest.approx(CHINCHILLA[parameters][2], rel=0.25)


@pytest.mark.parametrize("parameters", [n for n in CHINCHILLA if n >= 10e9])
def test_besiroglu_agrees_with_approaches_1_and_2_where_approach_3_does_not(parameters: float) -> None:
    one, two, three = CHINCHILLA[parameters]
    found = tokens_for(BESIROGLU, parameters)
    assert abs(found - one) < abs(three - one)
    assert 0.5 * one < found < 1.5 * two


def test_hoffmann_constants_are_those_printed() -> None:
    assert pytest.approx((1.69, 406.4, 410.7), rel=3e-3) == (HOFFMANN.E, HOFFMANN.A, HOFFMANN.B)
    assert (HOFFMANN.alpha, HOFFMANN.beta) == pytest.approx((0.34, 0.28), abs=6e-3)
    assert pytest.approx((521, 1488, 1.869), rel=5e-4) == (MUENNIGHOFF.A, MUENNIGHOFF.B, MUENNIGHOFF.E)


def test_repeated_tokens_are_worth_less_and_never_more_than_the_limit() -> None:
    assert laws.effective_tokens(1e9, 0.5e9) == 0.5e9
    assert laws.effective_tokens(1e9, 1e9) == 1e9
    four = laws.effective_tokens(1e9, 4e9)
    assert 0.93 * 4e9 < four < 4e9  # "up to 4 epochs is almost as good as new data"
    assert laws.effective_tokens(1e9, 1e15) == pytest.approx(16.387756e9)


def test_repeats_raise_the_predicted_loss() -> None:
    fresh = laws.repeated_loss(1e9, 20e9, 20e9)
    assert fresh == pytest.approx(MUENNIGHOFF.loss(1e9, 20e9))
    assert fresh < laws.repeated_loss(1e9, 5e9, 20e9) < laws.repeated_loss(1e9, 1e9, 20e9)


def test_attention_adds_what_6nd_leaves_out() -> None:
    # GPT-2 124M at 1,024: 12 x 12 x 768 x 1024 = 113 MFLOP a token beside 6 x 124M = 747
    assert laws.attention_compute(12, 768, 1024, 1) == 113_246_208

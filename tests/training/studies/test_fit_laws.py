"""The fits against laws that the data were made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.budget.laws import BESIROGLU, HOFFMANN, Law
from training.studies import fit_laws
from training.studies.fit_laws import Runs


def made_of(law: Law, count: int, spread: float, noise: float, seed: int) -> Runs:
    """Runs around the optimum of computes between 1e18 and 1e22, as in Hoffmann 2022, figure 4."""
    random = np.random.default_rng(seed)
    compute = 10 ** random.uniform(18, 22, count)
    best = np.array([law.optimum(value)[0] for value in compute])
    parameters = best * np.exp(random.uniform(-spread, spread, count))
    tokens = compute / 6 / parameters
    loss = np.array([law.loss(n, d) for n, d in zip(parameters, tokens, strict=True)])
    return Runs(parameters, tokens, loss * np.exp(random.normal(0, noise, count)))


@pytest.mark.parametrize("law", [BESIROGLU, HOFFMANN])
def test_approach_3_gives_back_the_constants_that_240_runs_were_made_from(law: Law) -> None:
    found = fit_laws.fit_law(made_of(law, 240, spread=1.5, noise=0.0, seed=1))
    for name in ("E", "A", "B", "alpha", "beta"):
        assert getattr(found, name) == pytest.approx(getattr(law, name), rel=0.01)


@pytest.mark.slow
def test_the_intervals_hold_the_true_constants_and_are_no_wider_than_besiroglus_own() -> None:
    runs = made_of(BESIROGLU, 240, spread=1.5, noise=2e-3, seed=2)
    found = fit_laws.fit_law(runs)
    laws = fit_laws.bootstrap_laws(runs, found, draws=60, seed=3)
    published = {
        "E": (1.769, 1.871),
        "A": (285, 744),
        "B": (1042, 5810),
        "alpha": (0.317, 0.373),
        "beta": (0.331, 0.415),
    }
    for name, (low, high) in published.items():
        band = fit_laws.interval([getattr(law, name) for law in laws])
        assert band is not None
        # 95 % intervals of five constants: widened by half, so that a true fit fails once in thousands of seeds
        slack = 0.5 * (band[1] - band[0])
        assert band[0] - slack <= getattr(BESIROGLU, name) <= band[1] + slack
        assert band[1] - band[0] < high - low


def test_an_outlier_does_not_move_the_law() -> None:
    runs = made_of(BESIROGLU, 240, spread=1.5, noise=0.0, seed=4)
    runs.loss[7] *= 1.5
    found = fit_laws.fit_law(runs)
    assert found.alpha == pytest.approx(BESIROGLU.alpha, rel=0.01)
    assert found.beta == pytest.approx(BESIROGLU.beta, rel=0.01)


def test_runs_that_do_not_determine_a_law_are_refused() -> None:
    runs = made_of(BESIROGLU, 5, spread=1.0, noise=0.0, seed=5)
    with pytest.raises(fit_laws.TooFewRuns, match="5 runs"):
        fit_laws.fit_law(runs)
    same_size = made_of(BESIROGLU, 12, spread=1.0, noise=0.0, seed=5)
    with pytest.raises(fit_laws.TooFewRuns):
        fit_laws.fit_law(Runs(np.full(12, 1e8), same_size.tokens, same_size.loss))


def isoflop(law: Law, compute: float, span: float) -> Runs:
    parameters = law.optimum(compute)[0] * np.exp(np.linspace(-span, span, 9))
    tokens = compute / 6 / parameters
    return Runs(parameters, tokens, np.array([law.loss(n, d) for n, d in zip(parameters, tokens, strict=True)]))


def test_isoflop_finds_the_optimum_exactly_where_the_valley_is_symmetric() -> None:
    law = Law("symmetric", E=1.8, A=600.0, B=600.0, alpha=0.35, beta=0.35)
    for compute in (1e18, 1e20, 1e22):
        found = fit_laws.fit_parabola(isoflop(law, compute, span=1.0))
        assert found is not None
        assert found.bracketed
        assert found.parameters == pytest.approx(law.optimum(compute)[0], rel=1e-6)


def test_isoflop_finds_a_known_optimum_and_its_exponent() -> None:
    groups = [(compute, isoflop(BESIROGLU, compute, span=0.5)) for compute in (1e18, 1e19, 1e20, 1e21)]
    optima = []
    for compute, runs in groups:
        found = fit_laws.fit_parabola(runs)
        assert found is not None
        assert found.parameters == pytest.approx(BESIROGLU.optimum(compute)[0], rel=0.02)
        assert found.loss == pytest.approx(BESIROGLU.loss(*BESIROGLU.optimum(compute)), rel=1e-3)
        optima.append(found.parameters)
    exponent = fit_laws.fit_power(np.array([compute for compute, _ in groups]), np.array(optima))[1]
    wanted = BESIROGLU.beta / (BESIROGLU.alpha + BESIROGLU.beta)
    assert exponent == pytest.approx(wanted, abs=1e-3)
    band = fit_laws.interval(fit_laws.bootstrap_exponents(groups, 100, seed=6))
    assert band is not None
    assert band[0] - 1e-3 <= wanted <= band[1] + 1e-3


def test_a_minimum_outside_the_trained_sizes_is_said_to_be_outside() -> None:
    runs = isoflop(BESIROGLU, 1e20, span=1.0)
    small = runs.take(np.arange(3))
    found = fit_laws.fit_parabola(small)
    assert found is not None
    assert not found.bracketed
    assert fit_laws.fit_parabola(runs.take(np.arange(2))) is None


def test_the_published_points_of_chinchilla_give_the_constants_of_its_replication() -> None:
    """Besiroglu 2024: 240 of the 245 points, without the five highest losses; their notebook's second fit."""
    millions, compute, loss = np.loadtxt(Path(__file__).with_name("chinchilla_points.csv"), delimiter=",").T
    kept = np.argsort(loss, kind="stable")[:-5]
    parameters = millions[kept] * 1e6
    found = fit_laws.fit_law(Runs(parameters, compute[kept] * 1e18 / 6 / parameters, loss[kept]))
    assert len(kept) == 240
    assert pytest.approx((1.81724, 477.8, 2143.9), rel=0.01) == (found.E, found.A, found.B)
    assert (found.alpha, found.beta) == pytest.approx((BESIROGLU.alpha, BESIROGLU.beta), rel=0.01)

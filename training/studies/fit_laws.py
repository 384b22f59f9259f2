"""Scaling laws fitted to measured losses: Hoffmann 2022's approach 3 and IsoFLOP parabolas, with intervals.

Approach 3 minimises the **sum** over the runs of Huber(delta = 1e-3) on log L - LSE(a - alpha log N, b - beta log D, e)
from the paper's grid of 4,500 starts. (The mean with a default tolerance stopped Hoffmann's optimiser early: Besiroglu
2024.) Intervals are percentiles over fits to runs drawn with replacement.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp
from threadpoolctl import threadpool_limits

from pipeline import MillError
from training.budget.laws import Law

DELTA = 1e-3
_GRID = np.array(  # a, b, e, alpha, beta
    list(
        itertools.product(
            np.arange(0, 30, 5.0), np.arange(0, 30, 5.0), np.arange(-1, 1.5, 0.5), *(np.arange(0, 2.5, 0.5),) * 2
        )
    )
)
_TRIED = 200  # starts of the grid that are followed to their minimum: those where the loss is least to begin with
_EXPONENTS = (0.01, 3.0)  # of alpha and beta; a loss that rises with N or D is no law
_BOUNDS = ((-10, 60), (-10, 60), (-10, 10), _EXPONENTS, _EXPONENTS)  # a, b, e, ...: wide around everything published
LEAST_RUNS = 6  # one more than the law has constants


class TooFewRuns(MillError):
    """The runs do not determine the law."""


@dataclass(frozen=True)
class Runs:
    """Trained models: parameters N, tokens D, held-out loss in nats a token; each float64 [n]."""

    parameters: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray

    def __len__(self) -> int:
        return len(self.loss)

    def take(self, rows: np.ndarray) -> Runs:
        return Runs(self.parameters[rows], self.tokens[rows], self.loss[rows])


@dataclass(frozen=True)
class Parabola:
    """loss = ``curvature`` (log N - log ``parameters``)^2 + ``loss`` over the runs of one compute.

    ``bracketed``: the minimum lies between the smallest and the largest N that were trained.
    """

    parameters: float
    loss: float
    curvature: float
    bracketed: bool

    def at(self, parameters: np.ndarray) -> np.ndarray:
        return self.curvature * np.log(parameters / self.parameters) ** 2 + self.loss


def at_the_edge(law: Law) -> list[str]:
    """Names of the constants of a fitted ``law`` that lie at the edge of what is tried: the runs do not give them."""
    logs = {"A": np.log(law.A), "B": np.log(law.B), "E": np.log(law.E), "alpha": law.alpha, "beta": law.beta}
    return [
        name
        for (name, value), (low, high) in zip(logs.items(), _BOUNDS, strict=True)
        if min(value - low, high - value) <= 1e-3 * (high - low)
    ]


def fit_law(runs: Runs, starts: np.ndarray | None = None) -> Law:
    """The law of the least Huber loss over ``runs``. Raises TooFewRuns.

    ``starts`` (float64 [n, 5]: a, b, e, alpha, beta) replaces the paper's grid.
    """
    if len(runs) < LEAST_RUNS or min(len(np.unique(runs.parameters)), len(np.unique(runs.tokens))) < 3:
        raise TooFewRuns(
            f"{len(runs)} runs do not determine a law of five constants: it takes {LEAST_RUNS} or more, with three or"
            " more sizes and lengths"
        )
    n, d, wanted = np.log(runs.parameters), np.log(runs.tokens), np.log(runs.loss)
    if starts is None:
        sums = np.concatenate([_sums(part, n, d, wanted) for part in np.split(_GRID, 10)])
        starts = _GRID[np.argsort(sums, kind="stable")[:_TRIED]]
    with threadpool_limits(1, "blas"):  # threads for matrices of five rows cost twenty times what they compute
        fits = [_descend(start, n, d, wanted) for start in starts]
    a, b, e, alpha, beta = min(fits, key=lambda entry: entry[0])[1]
    return Law("fitted here", float(np.exp(e)), float(np.exp(a)), float(np.exp(b)), float(alpha), float(beta))


def _terms(theta: np.ndarray, n: np.ndarray, d: np.ndarray) -> np.ndarray:
    """The three summands of the loss, as logarithms: [3, ..., runs]."""
    a, b, e, alpha, beta = (theta[..., i, None] for i in range(5))
    return np.stack(np.broadcast_arrays(a - alpha * n, b - beta * d, e + 0 * n))


def _sums(theta: np.ndarray, n: np.ndarray, d: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return _huber(logsumexp(_terms(theta, n, d), axis=0) - wanted).sum(-1)


def _huber(residual: np.ndarray) -> np.ndarray:
    size = np.abs(residual)
    return np.where(size <= DELTA, 0.5 * size**2, DELTA * (size - 0.5 * DELTA))


def _descend(start: np.ndarray, n: np.ndarray, d: np.ndarray, wanted: np.ndarray) -> tuple[float, np.ndarray]:
    terms = np.empty((3, len(n)))

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        a, b, e, alpha, beta = theta.tolist()
        np.multiply(n, -alpha, out=terms[0])
        np.multiply(d, -beta, out=terms[1])
        terms[0] += a
        terms[1] += b
        terms[2] = e
        top = terms.max(0)  # scipy's logsumexp takes ten times as long on three rows
        parts = np.exp(terms - top)
        sums = parts.sum(0)
        residual = top + np.log(sums) - wanted
        slope = parts * (np.clip(residual, -DELTA, DELTA) / sums)  # [3, runs]
        gradient = [*slope.sum(1), -(slope[0] * n).sum(), -(slope[1] * d).sum()]
        # in units of DELTA, so that the optimiser's tolerances mean something
        return _huber(residual).sum() / DELTA, np.array(gradient) / DELTA

    options = {"maxiter": 5000, "maxfun": 20_000, "ftol": 1e-15, "gtol": 1e-12, "maxcor": 20}
    minimum = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=_BOUNDS, options=options)
    return float(minimum.fun), minimum.x


def bootstrap_laws(runs: Runs, law: Law, draws: int, seed: int) -> list[Law]:
    """The law fitted again to ``draws`` samples of ``runs`` with replacement, from ``law`` and near it.

    Samples that do not determine a law are drawn again.
    """
    random = np.random.default_rng(seed)
    best = np.array([np.log(law.A), np.log(law.B), np.log(law.E), law.alpha, law.beta])
    starts = best * np.concatenate([np.ones((1, 5)), random.uniform(0.8, 1.2, (3, 5))])
    laws: list[Law] = []
    for _ in range(10 * draws):
        if len(laws) == draws:
            break
        try:
            laws.append(fit_law(runs.take(random.integers(len(runs), size=len(runs))), starts))
        except TooFewRuns:
            continue
    return laws


def fit_parabola(runs: Runs) -> Parabola | None:
    """Least squares of loss on log N for runs of equal compute; None where it has no minimum or too few sizes."""
    x = np.log(runs.parameters)
    if len(np.unique(x)) < 3:
        return None
    centre = x.mean()  # or the squares lose digits
    curvature, slope, level = np.polyfit(x - centre, runs.loss, 2)
    if curvature <= 0:
        return None
    vertex = -slope / (2 * curvature)
    where = float(vertex + centre)
    return Parabola(
        parameters=float(np.exp(where)),
        loss=float(level - curvature * vertex**2),
        curvature=float(curvature),
        bracketed=bool(x.min() <= where <= x.max()),
    )


def fit_power(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """(scale, exponent) of y = scale x^exponent, by least squares of the logarithms."""
    exponent, level = np.polyfit(np.log(x), np.log(y), 1)
    return float(np.exp(level)), float(exponent)


def bootstrap_exponents(groups: Sequence[tuple[float, Runs]], draws: int, seed: int) -> np.ndarray:
    """Exponents of N_opt by compute over resamples of the runs of each compute: float64 [at most draws].

    ``groups`` are (compute, its runs). A resample in which a parabola has no minimum does not count.
    """
    random = np.random.default_rng(seed)
    exponents = []
    for _ in range(draws):
        points = []
        for compute, runs in groups:
            parabola = fit_parabola(runs.take(random.integers(len(runs), size=len(runs))))
            if parabola is not None:
                points.append((compute, parabola.parameters))
        if len(points) == len(groups):
            x, y = np.array(points).T
            exponents.append(fit_power(x, y)[1])
    return np.array(exponents)


def interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> list[float] | None:
    """[low, high]: the middle ``level`` of ``values``; None where there are fewer than 20."""
    if len(values) < 20:
        return None
    low, high = np.quantile(np.asarray(values), [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]

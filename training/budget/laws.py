"""Scaling laws: loss from parameters N and tokens D, the best split of compute, and what repeated data is worth.

    L(N, D) = E + A / N^alpha + B / D^beta,   C = 6 N D

Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models" (approach 3). Besiroglu et al. 2024, "Chinchilla
Scaling: A replication attempt", fitted the same points again and found Hoffmann's constants at odds with Hoffmann's own
other approaches, so theirs are the default. Muennighoff et al. 2023, "Scaling Data-Constrained Language Models".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.stages.balance.token_budget import effective_tokens as effective_tokens


@dataclass(frozen=True)
class Law:
    """Constants of L(N, D), in nats a token; N counts all parameters."""

    name: str
    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        """Predicted loss, nats a token."""
        return self.E + self.A / parameters**self.alpha + self.B / tokens**self.beta

    def optimum(self, compute: float) -> tuple[float, float]:
        """(N, D) of the least loss for ``compute`` = 6 N D floating-point operations (Hoffmann 2022, equation 4)."""
        scale = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        parameters = scale * (compute / 6) ** (self.beta / (self.alpha + self.beta))
        return parameters, compute / 6 / parameters

    def parameters_for(self, tokens: float) -> float:
        """The N for which ``tokens`` is the optimal D: where one more FLOP helps N and D alike."""
        ratio = self.alpha * self.A / (self.beta * self.B)
        return (ratio * tokens**self.beta) ** (1 / self.alpha)


#: Besiroglu 2024, from the notebook of the paper (the paper prints E = 1.8172).
BESIROGLU = Law("Besiroglu 2024", 1.81686, 482.00572, 2085.43420, 0.34781, 0.36585)
#: Hoffmann 2022 as the paper's source states them, before they were rounded for print.
HOFFMANN = Law("Hoffmann 2022", math.exp(0.5267228), math.exp(6.0073404), math.exp(6.0179186), 0.33917084, 0.2849083)
#: What the laws were fitted to: numbers of parameters and of tokens (Hoffmann 2022, section 3).
FITTED_PARAMETERS, FITTED_TOKENS = (70e6, 16e9), (5e9, 500e9)
#: Muennighoff 2023's base fit, to which the constants below belong.
MUENNIGHOFF = Law(
    "Muennighoff 2023", math.exp(0.6254804), math.exp(6.255414), math.exp(7.3049974), 0.3526596, 0.3526596
)
#: The same for excess parameters as ``TOKEN_HALF_LIFE`` for tokens (Muennighoff's R*_N).
PARAMETER_HALF_LIFE = 5.309743


def repeated_loss(parameters: float, unique: float, trained: float) -> float:
    """Predicted loss, nats a token, on ``trained`` tokens of which ``unique`` differ (Muennighoff 2023)."""
    matched = min(MUENNIGHOFF.parameters_for(unique), parameters)
    return MUENNIGHOFF.loss(
        effective_tokens(matched, parameters, PARAMETER_HALF_LIFE), effective_tokens(unique, trained)
    )


def compute(parameters: float, tokens: float) -> float:
    """C = 6 N D: two operations a parameter forward and four backward (Kaplan 2020); attention is not in it."""
    return 6 * parameters * tokens


def attention_compute(layers: int, width: int, sequence_length: int, tokens: float) -> float:
    """What C = 6 N D leaves out: 12 x layers x width x length for each token (Chowdhery 2022, appendix B)."""
    return 12.0 * layers * width * sequence_length * tokens

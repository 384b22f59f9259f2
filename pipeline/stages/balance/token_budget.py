"""What a model of a given size asks of a corpus, what each domain can give within so many epochs, and what is missing.

What tokens that are read again are worth: Muennighoff et al. 2023, "Scaling Data-Constrained Language Models".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field

from pipeline.store.recipe_file import Config

#: After about so many epochs' worth of repeats more of them add next to nothing (Muennighoff's R*_D).
TOKEN_HALF_LIFE = 15.387756


class Target(Config):
    """The model that the corpus is for. 20 tokens a parameter: Hoffmann et al. 2022, counting all parameters."""

    parameters: Annotated[
        int, Field(ge=1, description="parameters of the model that the corpus is for, embeddings included")
    ]
    tokens_per_parameter: Annotated[
        float, Field(gt=0, description="training tokens per parameter; 20 is Chinchilla's (Hoffmann 2022)")
    ] = 20.0

    @property
    def tokens(self) -> float:
        return self.parameters * self.tokens_per_parameter


@dataclass(frozen=True)
class DomainBudget:
    """One domain's part, in tokens. ``asked``: its wanted share of what the model reads; ``most``: what it can give
    within the epochs; ``given``: what it gives, after others that cannot give their share; ``weight``: the share of
    all that is given; ``worth``: what it gives, in fresh tokens; ``missing``: fresh tokens that it lacks to give its
    share; ``missing_bytes``: the same as text.
    """

    unique: float
    share: float
    asked: float
    most: float
    given: float
    weight: float
    epochs: float
    worth: float
    missing: float
    missing_bytes: float


@dataclass(frozen=True)
class TokenBudget:
    """All in tokens. ``needed_once``: unique tokens that the model needs if each is read once; ``needed``: if each is
    read ``max_epochs`` times; ``needed_worth``: if they shall be worth as much as if all were fresh. ``unique``: those
    that there are; ``most``: reads of them within the epochs; ``given`` and ``worth`` as for domains; ``missing``:
    unique tokens beyond those that there are, from any domain; ``largest_model``: the parameters that ``most`` feeds.
    """

    parameters: int
    tokens_per_parameter: float
    max_epochs: float
    needed_once: float
    needed: float
    needed_worth: float
    unique: float
    most: float
    given: float
    worth: float
    missing: float
    missing_worth: float
    largest_model: float
    domains: dict[str, DomainBudget]

    @property
    def reached(self) -> bool:
        """Whether the corpus gives the tokens, within the epochs."""
        return self.most >= self.needed_once * (1 - 1e-9)

    def asdict(self) -> dict[str, Any]:
        return {**asdict(self), "reached": self.reached}


def token_budget(
    target: Target,
    max_epochs: float,
    unique: Mapping[str, float],
    shares: Mapping[str, float],
    given: Mapping[str, float],
    bytes_per_token: Mapping[str, float],
) -> TokenBudget:
    """The budget of ``target`` on domains with ``unique`` tokens, of which ``given`` are read for wanted ``shares``."""
    wanted = target.tokens
    total = sum(given[domain] for domain in sorted(given))
    domains = {}
    for domain in sorted(unique):
        size, asked = unique[domain], shares[domain] * wanted
        missing = max(0.0, asked / max_epochs - size)
        domains[domain] = DomainBudget(
            unique=size,
            share=shares[domain],
            asked=asked,
            most=max_epochs * size,
            given=given[domain],
            weight=given[domain] / total if total else 0.0,
            epochs=given[domain] / size if size else 0.0,
            worth=effective_tokens(size, given[domain]),
            missing=missing,
            missing_bytes=missing * bytes_per_token[domain],
        )
    supply = sum(unique[domain] for domain in sorted(unique))
    needed_worth = wanted / worth_of_epochs(max_epochs)
    return TokenBudget(
        parameters=target.parameters,
        tokens_per_parameter=target.tokens_per_parameter,
        max_epochs=max_epochs,
        needed_once=wanted,
        needed=wanted / max_epochs,
        needed_worth=needed_worth,
        unique=supply,
        most=max_epochs * supply,
        given=total,
        worth=sum(entry.worth for entry in domains.values()),
        missing=max(0.0, wanted / max_epochs - supply),
        missing_worth=max(0.0, needed_worth - supply),
        largest_model=max_epochs * supply / target.tokens_per_parameter,
        domains=domains,
    )


def effective_tokens(unique: float, read: float, half_life: float = TOKEN_HALF_LIFE) -> float:
    """D': how many fresh tokens ``read`` tokens are worth when only ``unique`` of them differ (Muennighoff 2023).

    U + U R* (1 - exp(-(read / U - 1) / R*)). Never above ``unique`` x 16.39; the first four epochs are worth almost as
    much as fresh text.
    """
    if read <= unique:
        return read
    return unique + unique * half_life * (1 - math.exp(-(read / unique - 1) / half_life)) if unique else 0.0


def worth_of_epochs(epochs: float) -> float:
    """What ``epochs`` readings of a token are worth, in fresh tokens; part of an epoch reads part of the tokens."""
    return effective_tokens(1.0, epochs)

"""The objectives by the names that a recipe gives them."""

from __future__ import annotations

from typing import cast

from training.objectives.base import Objective
from training.recipe.pretraining import PretrainConfig


def of(config: PretrainConfig) -> Objective:
    """The objective of a run: a plug-in's, or the program's own."""
    added = config.added.get(config.objective)
    return load(config.objective) if added is None else cast(Objective, added)


def load(name: str) -> Objective:
    """The program's own objective of this name."""
    from training.objectives import (  # not above: they import this package
        causal,
        denoising,
        distillation,
        electra,
        mlm,
        mlm_nsp,
        mlm_sop,
        span_corruption,
    )

    return {
        "causal": causal,
        "mlm": mlm,
        "mlm_nsp": mlm_nsp,
        "mlm_sop": mlm_sop,
        "distillation": distillation,
        "electra": electra,
        "span_corruption": span_corruption,
        "denoising": denoising,
    }[name].OBJECTIVE

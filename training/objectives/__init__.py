"""The objectives by the names that a recipe gives them."""

from __future__ import annotations

from training.objectives.base import Objective


def load(name: str) -> Objective:
    """The objective of this name."""
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

"""The way of the data from sources to the curated corpus, as a list of steps."""

from __future__ import annotations

from pipeline import balance, funnel, ingest, materialise
from pipeline.build import STAGES, Step, measure_step
from pipeline.dedup import exact, minhash
from pipeline.recipe import Recipe
from pipeline.stages import perplexity

_STEPS = {
    "urls": lambda: [measure_step("urls", "URL rules")],
    "language": lambda: [measure_step("language", "Language ID")],
    "heuristics": lambda: [measure_step("heuristics", "Heuristic filters")],
    "perplexity": perplexity.steps,
    "pii": lambda: [measure_step("pii", "Personal data")],
    "exact": exact.steps,
    "minhash": minhash.steps,
    "balance": balance.steps,
}


def steps(recipe: Recipe) -> list[Step]:
    """Every step from the sources to the curated corpus that ``recipe`` asks for, in order."""
    chosen = [step for stage in STAGES if getattr(recipe, stage, None) is not None for step in _STEPS[stage]()]
    return [*ingest.steps(), *chosen, *materialise.steps(), *funnel.steps()]

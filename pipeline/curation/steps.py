"""The way of the data from sources to the curated corpus, as a list of steps."""

from __future__ import annotations

from pipeline.build.build import STAGES, Step, measure_step
from pipeline.curation import account, canaries, corpus_card, ingest, write_corpus
from pipeline.curation.recipe import Recipe
from pipeline.stages.balance import stage as balance
from pipeline.stages.classifiers import quality, toxicity
from pipeline.stages.decontaminate import stage as decontaminate
from pipeline.stages.dedup import exact, index, minhash, passages, substring
from pipeline.stages.perplexity import stage as perplexity

_STEPS = {
    "urls": lambda: [measure_step("urls", "URL rules")],
    "language": lambda: [measure_step("language", "Language ID")],
    "heuristics": lambda: [measure_step("heuristics", "Heuristic filters")],
    "perplexity": perplexity.steps,
    "toxicity": toxicity.steps,
    "quality": quality.steps,
    "bad_words": lambda: [measure_step("bad_words", "Bad words")],
    "pii": lambda: [measure_step("pii", "Personal data")],
    "rules": lambda: [measure_step("rules", "Own rules")],
    "exact": exact.steps,
    "minhash": minhash.steps,
    "passages": passages.steps,
    "substring": substring.steps,
    "decontaminate": decontaminate.steps,
    "balance": balance.steps,
}


def steps(recipe: Recipe) -> list[Step]:
    """Every step from the sources to the curated corpus that ``recipe`` asks for, in order."""
    indexed = index.steps() if recipe.index else []
    planted = canaries.steps() if recipe.canaries else []
    accounted = [*write_corpus.steps(), *account.steps(), *corpus_card.steps()]
    return [*ingest.steps(), *stage_steps(recipe), *planted, *indexed, *accounted]


def stage_steps(recipe: Recipe) -> list[Step]:
    """The steps of the stages alone: those that write ledgers."""
    return [step for stage in STAGES if getattr(recipe, stage, None) is not None for step in _STEPS[stage]()]

"""The way of the data from sources to the curated corpus, as a list of steps."""

from __future__ import annotations

from pipeline.build.build import Step, steps_of
from pipeline.curation import account, canaries, corpus_card, ingest, write_corpus
from pipeline.curation.recipe import Recipe
from pipeline.stages.dedup import index


def steps(recipe: Recipe) -> list[Step]:
    """Every step from the sources to the curated corpus that ``recipe`` asks for, in order."""
    indexed = index.steps() if recipe.index else []
    planted = canaries.steps() if recipe.canaries else []
    accounted = [*write_corpus.steps(), *account.steps(), *corpus_card.steps()]
    return [*ingest.steps(), *stage_steps(recipe), *planted, *indexed, *accounted]


def stage_steps(recipe: Recipe) -> list[Step]:
    """The steps of the stages alone: those that write ledgers."""
    return [step for stage in recipe.registered if recipe.section(stage.name) is not None for step in steps_of(stage)]

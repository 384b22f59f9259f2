"""The stages, in the order in which documents pass them.

A recipe runs those that it has a section for. What each is stands in its own file; this list is all that knows of it.
"""

from __future__ import annotations

from pipeline.build.build import Build
from pipeline.build.stage import Stage
from pipeline.stages import bad_words, language, pii, urls
from pipeline.stages.balance import stage as balance
from pipeline.stages.classifiers import quality, toxicity
from pipeline.stages.decontaminate import stage as decontaminate
from pipeline.stages.dedup import exact, minhash, passages, substring
from pipeline.stages.heuristics import stage as heuristics
from pipeline.stages.perplexity import stage as perplexity
from pipeline.stages.rules import stage as own_rules
from pipeline.store.ledger import Rule

STAGES: tuple[Stage, ...] = (
    urls.STAGE,
    language.STAGE,
    heuristics.STAGE,
    perplexity.STAGE,
    bad_words.STAGE,
    toxicity.STAGE,
    quality.STAGE,
    pii.STAGE,
    own_rules.STAGE,
    exact.STAGE,
    minhash.STAGE,
    passages.STAGE,
    substring.STAGE,
    decontaminate.STAGE,
    balance.STAGE,
)
#: Their names.
NAMES = tuple(stage.name for stage in STAGES)


def named(name: str) -> Stage:
    """The stage of this name. Raises StopIteration if there is none."""
    return next(stage for stage in STAGES if stage.name == name)


def before(name: str | None) -> tuple[Stage, ...]:
    """The stages before that of this name, whether a recipe runs them or not; all for None."""
    return STAGES if name is None else STAGES[: STAGES.index(named(name))]


def rules(build: Build, name: str) -> list[Rule]:
    """The rules of a stage under the build's recipe; [] for a stage whose thresholds are found in the data."""
    return list(named(name).rules(build.section(name)))

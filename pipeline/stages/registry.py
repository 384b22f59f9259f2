"""The stages, in the order in which documents pass them.

A recipe runs those that it has a section for, and those of its plug-ins. What each is stands in its own file; this list
is all that knows of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.build.stage import Stage
from pipeline.stages import bad_words, language, pii, top, urls
from pipeline.stages.balance import stage as balance
from pipeline.stages.classifiers import quality, toxicity
from pipeline.stages.decontaminate import stage as decontaminate
from pipeline.stages.dedup import exact, minhash, passages, substring
from pipeline.stages.heuristics import stage as heuristics
from pipeline.stages.perplexity import stage as perplexity
from pipeline.stages.rules import stage as own_rules
from pipeline.store.ledger import VERDICT_COLUMNS, Rule

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
    top.STAGE,
    balance.STAGE,
)
#: The stage that a plug-in's follows unless it says which.
_AFTER = "pii"
#: Their names.
NAMES = tuple(stage.name for stage in STAGES)
#: The first that compares documents: what reaches it has been judged document by document.
FIRST_TO_COMPARE = next(stage.name for stage in STAGES if stage.compares)


def named(stages: Sequence[Stage], name: str) -> Stage:
    """The one of ``stages`` that has this name. Raises StopIteration if there is none."""
    return next(stage for stage in stages if stage.name == name)


def before(stages: Sequence[Stage], name: str | None) -> Sequence[Stage]:
    """Those of ``stages`` before that of this name, whether a recipe runs them or not; all for None."""
    return stages if name is None else stages[: next(at for at, stage in enumerate(stages) if stage.name == name)]


def rules(build: Build, name: str) -> list[Rule]:
    """The rules of a stage under the build's recipe; [] for a stage whose thresholds are found in the data."""
    return list(named(build.recipe.registered, name).rules(build.section(name)))


def with_plugins(added: Iterable[Stage]) -> tuple[Stage, ...]:
    """The stages with those of plug-ins, each in its place: behind the one that it follows, and those already there.

    Raises MillError, with the remedy, for one that does not fit.
    """
    stages = [*STAGES]
    for stage in added:
        _check(stage, stages)
        place = stages.index(named(stages, stage.after or _AFTER)) + 1
        while stages[place].plugin is not None:
            place += 1
        stages.insert(place, stage)
    return tuple(stages)


def _check(stage: Stage, stages: Sequence[Stage]) -> None:
    of = f"{stage.plugin}: stage {stage.name!r}"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", stage.name):
        raise MillError(f"{of}: its name becomes a section of recipes; write it in small letters, digits and _")
    if not stage.per_document or stage.steps is not None:
        raise MillError(f"{of} has steps of its own; a plug-in's stage looks at documents singly: give it `measure`")
    if stage.compares:
        raise MillError(f"{of} compares documents; a plug-in's stage looks at them singly: leave out `compares`")
    known = [other.name for other in stages[: stages.index(named(stages, "balance"))]]
    if (stage.after or _AFTER) not in known:
        raise MillError(f"{of} follows {stage.after!r}; `after` must be one of {', '.join(known)}")
    for other in stages:
        if taken := sorted({*stage.signals} & {*other.signals, *VERDICT_COLUMNS}):
            raise MillError(f"{of}: {other.name!r} has a signal {taken[0]!r} already; give it another name")

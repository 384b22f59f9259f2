"""How stages and their rules are named for people: in the report, in artifacts and in the terminal."""

from __future__ import annotations

from pipeline.stages import registry
from pipeline.text.formats import words

TITLES = {"ingest": "Ingest", **{stage.name: stage.title for stage in registry.STAGES}, "corpus": "Curated corpus"}
#: Stages that are the subject of their rules, as in "perplexity too high".
SUBJECTS = {stage.name for stage in registry.STAGES if stage.subject}


def title(stage: str) -> str:
    """The name of a stage for people."""
    return TITLES.get(stage, words(stage).capitalize())


def rule(name: str) -> str:
    """The name of a rule without its stage: ``heuristics.gopher.mean_word_length`` is ``gopher: mean word length``."""
    parts = name.split(".")
    if parts[0] in SUBJECTS and len(parts) == 2:
        return f"{words(parts[0])} {words(parts[1])}"
    if parts[0] in TITLES and len(parts) > 1:
        parts = parts[1:]
    return ": ".join(words(part) for part in parts)


def rule_of_stage(stage: str, name: str) -> str:
    """A rule with the title of its stage, and nothing twice: ``Perplexity: too high``."""
    return f"{title(stage)}: {rule(name).removeprefix(f'{words(stage)} ')}"

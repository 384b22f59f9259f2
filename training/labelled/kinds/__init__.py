"""The kinds of labelled rows, by the name of the fine-tuning task that learns of them."""

from __future__ import annotations

from collections.abc import Mapping

from training.labelled.kinds import questions, texts, words
from training.labelled.kinds.base import Kind
from training.labelled.rows import WrongRows
from training.recipe.finetuning import FinetuneConfig

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        texts.Classes(),
        texts.SeveralClasses(),
        texts.Scores(),
        words.Words(),
        questions.Questions(),
        texts.Targets(),
        texts.Likenesses(),
    )
}


def of(config: FinetuneConfig) -> Kind:
    """The kind of rows that a fine-tuning learns of: a plug-in's own, or the program's. Raises WrongRows."""
    if config.own_rows is None:
        return KINDS[config.like]
    if not isinstance(config.own_rows, Kind):
        raise WrongRows(
            f"{config.plugin}: `rows` of task {config.task!r} is no Kind; make an object of a class derived from"
            " training.labelled.kinds.base.Kind"
        )
    return config.own_rows

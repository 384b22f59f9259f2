"""The fine-tuning tasks, by the name that a recipe gives them."""

from __future__ import annotations

from typing import cast

from training.finetuning.tasks.answers import Answers
from training.finetuning.tasks.base import FinetuningTask, Task
from training.finetuning.tasks.classify import Classify
from training.finetuning.tasks.multi_label import MultiLabel
from training.finetuning.tasks.regression import Regression
from training.finetuning.tasks.similarity import Similarity
from training.finetuning.tasks.text2text import Text2Text
from training.finetuning.tasks.tokens import Tokens
from training.labelled.rows import Labelled
from training.recipe.finetuning import FinetuneConfig

TASKS: dict[str, type[Task]] = {
    "classify": Classify,
    "multi_label": MultiLabel,
    "regression": Regression,
    "tokens": Tokens,
    "answers": Answers,
    "text2text": Text2Text,
    "similarity": Similarity,
}


def task_of(config: FinetuneConfig, rows: Labelled) -> Task:
    """The task of a run: a plug-in's, or the program's own."""
    added = config.added.get(config.task)
    make = TASKS[config.task] if added is None else cast(FinetuningTask, added).make
    return make(config, rows)

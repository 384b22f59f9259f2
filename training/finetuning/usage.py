"""corpusmill.json of a published model: what is needed to predict with it beside weights, tokenizer and labels.

Columns, lengths, and what was chosen on the development rows. Without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from pipeline import MillError
from pipeline.store import files
from pipeline.store.recipe_file import Config
from training.recipe.finetuning import AnswersConfig, FinetuneConfig, SimilarityConfig, Text2TextConfig
from training.recipe.run import Share
from training.recipe.tasks import TASKS, Task

NAME = "corpusmill.json"
#: Fields of a fine-tuning that its model's use depends on.
_READ = frozenset({"name", "task", "text", "pair", "label", "sequence_length", "threshold", "costs"}) | {
    "answers", "text2text", "similarity"
}  # fmt: skip


class WrongUsage(MillError):
    """A corpusmill.json that says nothing of use; the message names its field."""


class Conformal(Config):
    """Sets of labels that hold the true one with a probability of 1 - ``alpha``: those of 1 - p <= ``quantile``."""

    alpha: Annotated[Share, Field(description="share of the sets that may miss the label")]
    quantile: Annotated[float, Field(ge=0, le=1, description="largest 1 - p of a label in the set")]


class Usage(Config):
    """What a published model is asked with, and how its answers are read."""

    version: Annotated[Literal[1], Field(description="of this file's format")] = 1
    name: Annotated[str, Field(description="name of the model")]
    task: Annotated[Task, Field(description="what it predicts of a row")]
    text: Annotated[str, Field(description="column of the text, of the question, or of the words")] = "text"
    pair: Annotated[str | None, Field(description="column of the second text, or of the context")] = None
    label: Annotated[str, Field(description="what it predicts, as its training rows called it")] = "label"
    sequence_length: Annotated[int, Field(ge=2, description="tokens that it reads of a text, at most")]
    temperature: Annotated[float, Field(gt=0, description="what logits of classes are divided by")] = 1.0
    spread: Annotated[
        float, Field(ge=0, lt=1, description="share of the probability of classes that is spread evenly over them")
    ] = 0.0
    curve: Annotated[
        list[tuple[float, float]],
        Field(
            description="probabilities and what a rising curve maps them to, after which a row is made to add up to 1"
        ),
    ] = []
    costs: Annotated[
        dict[str, dict[str, float]],
        Field(description="what errors cost: the label of the least expected cost is answered; default: the likeliest"),
    ] = {}
    cost_threshold: Annotated[
        float | None, Field(description="of two labels, the second's probability from which it is answered by `costs`")
    ] = None
    conformal: Annotated[Conformal | None, Field(description="of classes; default: no sets")] = None
    thresholds: Annotated[
        float | dict[str, float], Field(description="probability from which multi_label predicts a label, or each")
    ] = 0.5
    no_answer_above: Annotated[
        float | None, Field(description="lead of no answer above which none is given; default: always an answer")
    ] = None
    answers: Annotated[AnswersConfig, Field(description="options of the task answers")] = AnswersConfig()
    text2text: Annotated[Text2TextConfig, Field(description="options of the task text2text")] = Text2TextConfig()
    similarity: Annotated[SimilarityConfig, Field(description="options of the task similarity")] = SimilarityConfig()

    def config(self) -> FinetuneConfig:
        """As a task takes it."""
        return FinetuneConfig.model_validate(
            {
                **{"name": "model", "base": "./model", "data": {"train": "rows"}, "label": self.label},
                **{"task": self.task, "sequence_length": max(8, self.sequence_length)},
                **{name: getattr(self, name) for name in ("answers", "text2text", "similarity") if name == self.task},
            }
        )


def of_summary(summary: Mapping[str, Any]) -> Usage | None:
    """What the ``summary`` of a fine-tuning says of its model's use; None for the task of a plug-in."""
    if summary.get("task", "classify") not in TASKS:
        return None
    said = {name: value for name, value in summary["config"].items() if name in _READ}
    config = FinetuneConfig.model_validate({"base": "./model", "data": {"train": "rows"}, **said})
    chosen, confidence = summary.get("chosen") or {}, summary.get("confidence") or {}
    text, pair = config.text, config.pair
    if config.task == "answers":
        text, pair = "question" if text == "text" else text, pair or "context"
    if config.task == "tokens" and text == "text":
        text = "words"
    conformal = confidence.get("conformal")
    return Usage(
        name=summary["name"],
        task=config.task,
        text=text,
        pair=pair,
        label=config.label,
        sequence_length=config.sequence_length,
        temperature=confidence.get("temperature", 1.0),
        spread=confidence.get("spread", 0.0),
        curve=confidence.get("curve", []),
        costs=config.costs,
        cost_threshold=(summary.get("costs") or {}).get("threshold"),
        conformal=conformal and Conformal(alpha=conformal["alpha"], quantile=conformal["quantile"]),
        thresholds=chosen.get("thresholds", config.threshold or 0.5),
        no_answer_above=chosen.get("threshold_of_no_answer"),
        answers=config.answers,
        text2text=config.text2text,
        similarity=config.similarity,
    )


def write(folder: Path, usage: Usage | None) -> None:
    """Write ``usage``, where it is known, into the folder of its model."""
    if usage is None:
        return
    files.write_json(str(folder / NAME), usage.model_dump(mode="json", exclude_defaults=True) | {"version": 1})


def read(folder: str) -> Usage | None:
    """What ``folder`` says of its model's use, where it is one of ours: of an earlier version by its summary."""
    path, summary = files.join(folder, NAME), files.join(folder, "summary.json")
    if files.exists(path):
        try:
            return Usage.model_validate(files.read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise WrongUsage(f"{path}: {field}: {first['msg']}; correct it, or publish the model again") from error
    if files.exists(summary) and (said := files.read_json(summary)).get("kind") == "finetune":
        return of_summary(said)
    return None

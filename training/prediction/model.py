"""A fine-tuned model, opened to predict: one of ours, or any that transformers saved with the head of a task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from pipeline import MillError
from pipeline.store import files
from training.finetuning import bases, usage
from training.finetuning.encoded import Reader
from training.finetuning.long_text import side_files
from training.finetuning.strategies import adapter_file
from training.finetuning.tasks import TASKS
from training.finetuning.tasks.answers import Answers
from training.finetuning.tasks.base import Task
from training.finetuning.tasks.text2text import Text2Text
from training.finetuning.usage import Usage
from training.labelled.rows import Labelled
from training.loop import hardware
from training.models import architectures
from training.prediction import predictors
from training.prediction.predictions import Prediction
from training.prediction.rows import Row
from training.recipe import base_folder
from training.recipe.long_text import Head, LongText, reach
from training.recipe.tasks import Task as TaskName

#: Rows that are read before they are sorted by length, and characters of them: what memory is bounded by.
WINDOW_ROWS, WINDOW_CHARACTERS = 1_024, 8 << 20
BATCH = 32
#: Tokens that a model of unknown or endless length reads.
_LENGTH = 512
_HEADS: dict[str, TaskName] = {
    "ForSequenceClassification": "classify",
    "ForTokenClassification": "tokens",
    "ForQuestionAnswering": "answers",
    "ForConditionalGeneration": "text2text",
}
_KINDS: dict[str | None, TaskName] = {"multi_label_classification": "multi_label", "regression": "regression"}


class WrongModel(MillError):
    """A folder that nothing can be predicted with; the message says what it lacks."""


@dataclass(frozen=True)
class Model:
    """``labels`` are the classes or tags in the order of the model's outputs; of other tasks there are none."""

    name: str
    usage: Usage
    labels: list[str]
    model: PreTrainedModel
    reader: Reader
    task: Task

    def predict(self, rows: Sequence[Row]) -> list[Prediction]:
        """What the model says of each of ``rows``, in their order."""
        return list(self.stream(rows))

    @torch.inference_mode()
    def stream(self, rows: Iterable[Row], batch_size: int = BATCH) -> Iterator[Prediction]:
        """What the model says of each of ``rows``, in their order, in bounded memory.

        Rows are read in windows, within which those of like length are computed together. Neither that nor
        ``batch_size`` changes a prediction by more than rounding.
        """
        predict = predictors.PREDICTORS[self.usage.task]
        if getattr(self.model.config, "pad_token_id", None) is None and not self.model.config.is_encoder_decoder:
            batch_size = 1  # a decoder's head could not tell where a text ends
        for window in windows(rows):
            made: list[Prediction | None] = [None] * len(window)
            for paired in (False, True):
                chosen = [at for at, row in enumerate(window) if (row.pair is not None) == paired]
                if chosen:
                    predictions = predict(self, [window[at] for at in chosen], batch_size)
                    for at, prediction in zip(chosen, predictions, strict=True):
                        made[at] = prediction
            yield from (prediction for prediction in made if prediction is not None)

    def is_cut(self, row: Row) -> bool:
        """Whether the model does not read ``row`` to its end. Contexts of the task answers are read in windows."""
        if self.usage.task == "answers":
            half = self.reader.length // 2 - self.reader.tokenizer.num_special_tokens_to_add(is_pair=True)
            return bool(self.reader.read([row.text], length=half)[0].overflowing)
        prefix = self.usage.text2text.prefix if self.usage.task == "text2text" else ""
        pairs = None if row.pair is None else [row.pair]
        return bool(self.reader.read([prefix + row.text], pairs, self.reach(pairs is not None))[0].overflowing)

    def reach(self, paired: bool) -> int:
        """The most tokens of a row, or of one that is ``paired``, that are read, special ones counted."""
        special = self.reader.tokenizer.num_special_tokens_to_add(is_pair=paired)
        return reach(self.task.config.long_text, self.reader.length, special)


def windows(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """``rows`` in lists of up to WINDOW_ROWS, each about WINDOW_CHARACTERS or one row long at most."""
    window: list[Row] = []
    size = 0
    for row in rows:
        if window and (len(window) == WINDOW_ROWS or size + row.size > WINDOW_CHARACTERS):
            yield window
            window, size = [], 0
        window.append(row)
        size += row.size
    if window:
        yield window


def open(folder: str | Path, base: str | None = None) -> Model:
    """The model in ``folder``, ready to predict; of an adapter alone ``base`` is where its base lies now.

    Raises WrongModel, and bases.WrongBase, where the folder lacks something; DamagedFile where it has changed.
    """
    folder = str(folder)
    alone = (Path(folder) / adapter_file.NAME).is_file() and not any(Path(folder).glob("model*.safetensors"))
    if not alone and (problem := base_folder.problem(folder)):
        raise WrongModel(problem)
    files.check_folder(folder)
    with bases.opening(folder):
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    used = usage.read(folder) or _usage_of(folder, config)
    labels = [str(config.id2label[at]) for at in range(config.num_labels)] if used.task in _WITH_LABELS else []
    how = side_files.read(folder)
    task = _task(used, Head() if how is None else how.long_text, labels)
    model = adapter_file.load(folder, base) if alone else _load(task.auto, folder, config)
    if not alone:
        side_files.restore(folder, model)
    reader = bases.reader(folder, folder, used.sequence_length)
    if isinstance(task, Answers) and used.no_answer_above is not None:
        task.threshold = used.no_answer_above
    if isinstance(task, Text2Text):
        task.tokenizer = reader.tokenizer
        if usage.read(folder) is not None:
            task.prepare(model)  # an adapter's folder does not say how it writes
    return Model(used.name, used, labels, model.to(hardware.device()).eval(), reader, task)  # type: ignore[arg-type]


_WITH_LABELS = ("classify", "multi_label", "tokens")


def _task(used: Usage, long_text: LongText, labels: list[str]) -> Task:
    nothing = pa.table({"score": pa.array([], pa.float64())})
    rows = Labelled(used.task, labels, nothing, nothing, nothing, fingerprint="", audit={})
    config = used.config().model_copy(update={"long_text": long_text})
    return predictors.TASKS.get(used.task, TASKS[used.task])(config, rows)


def _usage_of(folder: str, config: PreTrainedConfig) -> Usage:
    """How a model that is none of ours is used, by its architecture and its configuration."""
    kind = (config.architectures or [""])[0]
    task: TaskName | None = next((task for ending, task in _HEADS.items() if kind.endswith(ending)), None)
    if task is None:
        raise WrongModel(
            f"{folder}: {kind or 'a model of unknown architecture'} has no head of a task; fine-tune it by `mill"
            " finetune`, or name a model that was"
        )
    if task == "classify":
        task = "regression" if config.num_labels == 1 else _KINDS.get(config.problem_type, task)
    columns = {"answers": ("question", "context"), "tokens": ("words", None)}.get(task, ("text", None))
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    length = min(tokenizer.model_max_length, architectures.positions(config) or _LENGTH, _LENGTH)
    return Usage(name=Path(folder).resolve().name, task=task, text=columns[0], pair=columns[1], sequence_length=length)


def _load(auto: Any, folder: str, config: PreTrainedConfig) -> PreTrainedModel:
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with bases.opening(folder):
            model, notes = auto.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                attn_implementation="sdpa",
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    finally:
        transformers_logging.set_verbosity(verbosity)
    if missing := sorted(notes["missing_keys"]):
        raise WrongModel(
            f"{folder}: its weights lack {', '.join(missing[:3])}, which {type(model).__name__} needs; fine-tune it by"
            " `mill finetune`, or take the whole folder again"
        )
    return model

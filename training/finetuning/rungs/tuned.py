"""The rungs that train the whole model, or a small part of it, by the fine-tuning that recipes have."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy.special import softmax
from transformers import AutoConfig, AutoModelForSequenceClassification

from pipeline.store import files
from training.finetuning import bases, deadline
from training.finetuning.encoded import Encoded, Order, encoded
from training.finetuning.finetune import run
from training.finetuning.forward import inputs
from training.finetuning.job import Job
from training.finetuning.rungs.base import Examples, Fit, sides
from training.labelled.rows import Labelled, identity
from training.pretraining import pretrain
from training.recipe.finetuning import FinetuneConfig

_BATCH, _TIMED, _EPOCHS = 32, 4, 3


@dataclass(frozen=True)
class Published:
    """A published model; its files live as long as ``folder`` does."""

    folder: tempfile.TemporaryDirectory
    length: int
    paired: bool

    @property
    def path(self) -> str:
        return files.join(self.folder.name, "model")

    def predict_proba(self, texts: list[str]) -> np.ndarray:
        reader = bases.reader(self.path, self.path, self.length)
        model = bases.load(AutoModelForSequenceClassification, self.path, {}, 0.0, 0).eval()
        return softmax(_logits(model, encoded(reader.read(*sides(texts, self.paired)), reader.pad, {})), axis=1)

    def save(self, folder: str) -> None:
        for path in Path(self.path).iterdir():
            if path.suffix == ".safetensors" or "token" in path.name or path.name == "config.json":
                shutil.copy(path, folder)


def tuned(base: str, length: int, paired: bool = False, **fields: Any) -> Fit:
    """Fine-tuning from ``base`` on texts of up to ``length`` tokens; ``fields`` are those of a recipe's `finetune`.

    ``paired`` says whether each is two texts, joined. The fit raises OutOfTime where a deadline passes.
    """

    def fit(train: Examples, dev: Examples, classes: int) -> Published:
        folder = tempfile.TemporaryDirectory(prefix="mill-tuned-")
        labels = [f"{label:06d}" for label in range(classes)]
        tables = {name: _table(part, labels, paired) for name, part in (("train", train), ("dev", dev), ("test", dev))}
        made = Published(folder, length, paired)
        job = Job(
            config=_config(base, length, fields),
            rows=Labelled("classify", labels, **tables, fingerprint=identity("classify", tables), audit={}),
            base=base,
            seed=0,
            result=made.path,
            work=files.join(folder.name, "work"),
            started_from=pretrain.weights_hash(base),
            made_from={"base": "the base of the ladder"},
            compared=False,
        )
        run(job)
        return made

    return fit


def seconds(base: str, length: int, train: Examples, asked: int, paired: bool = False, **fields: Any) -> float:
    """An estimate of the time that ``tuned`` takes of ``train``, and of asking it about ``asked`` texts.

    By some steps forward and back; a text that is asked about takes a third of one that is trained on.
    """
    config = _config(base, length, fields)
    with tempfile.TemporaryDirectory(prefix="mill-tuned-") as work:
        reader = bases.reader(base, bases.tokenizer_folder(base, work), length)
    model = bases.load(AutoModelForSequenceClassification, base, {"num_labels": 2}, config.dropout, 0)
    some = train.texts[:: max(1, len(train) // (_TIMED * config.batch_size))][: _TIMED * config.batch_size]
    data = encoded(reader.read(*sides(some, paired)), reader.pad, {})
    order = Order(data.lengths, config.batch_size, 0)
    started = time.perf_counter()
    for step in deadline.paced(range(order.steps_per_epoch)):
        _asked(model, data, order.rows(step)).square().sum().backward()
    each = (time.perf_counter() - started) / len(some)
    return each * (len(train) * config.epochs + asked / 3)


def _config(base: str, length: int, fields: dict[str, Any]) -> FinetuneConfig:
    """The learning rate is BERT's 5e-5 at its width of 768; narrower models take larger steps, up to recipes' 2e-4."""
    width = getattr(AutoConfig.from_pretrained(files.local(base), trust_remote_code=False), "hidden_size", 768)
    optimiser = {"learning_rate": min(2e-4, 5e-5 * 768 / width)}
    own = {"name": "rung", "base": base, "label": "label", "sequence_length": length}
    return FinetuneConfig.model_validate({**own, "epochs": _EPOCHS, "optimiser": optimiser, **fields})


def _table(part: Examples, labels: list[str], paired: bool) -> pa.Table:
    first, second = sides(part.texts, paired)
    ids = [f"{row:09d}" for row in range(len(part))]
    columns = {
        "id": ids,
        "group": part.groups,
        "place": ids,
        "text": first,
        **({} if second is None else {"pair": second}),
        "label": [labels[label] for label in part.labels],
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


@torch.no_grad()
def _logits(model: Any, data: Encoded) -> np.ndarray:
    order = np.argsort(data.lengths, kind="stable")
    batches = []
    for start in range(0, len(order), _BATCH):
        deadline.check()
        batches.append(_asked(model, data, order[start : start + _BATCH]).numpy())
    return np.concatenate(batches)[np.argsort(order, kind="stable")]


def _asked(model: Any, data: Encoded, rows: np.ndarray) -> torch.Tensor:
    arrays = {name: torch.from_numpy(array) for name, array in data.arrays(rows).items()}
    return model(**inputs(model, arrays)).logits.float()

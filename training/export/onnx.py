"""A fine-tuned model as ONNX, checked against torch before it is published.

    <folder>/   model.onnx, config.json, tokenizer files, export.json (the check's figures, versions, digests)

The graph takes int64 ``input_ids`` and ``attention_mask`` [batch, length] (and ``token_type_ids`` where the model tells
segments apart), both axes free, and gives ``logits``; ``start_logits`` and ``end_logits`` for the task answers;
``sentence_embedding`` [batch, width], of length 1, for the task similarity. For int8 its matrices are quantised, and
what flows through them as each batch needs (onnxruntime's dynamic quantisation, which reads no text).
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline import MillError, __version__
from pipeline.store import files, model_folder
from training.export import check
from training.export.check import Limits
from training.finetuning.long_text import pooling
from training.finetuning.tasks.answers import Answers
from training.finetuning.tasks.base import Task, inputs
from training.finetuning.tasks.similarity import Similarity, pooled
from training.models import architectures
from training.prediction.model import Model

#: Of ONNX's operators: the one that torch's exporter writes without converting.
OPSET = 18
NAME = "model.onnx"
#: Batch and length of the example that the graph is traced with; neither is in the graph.
_TRACED = (2, 8)
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_TYPES = "token_type_ids"


class CannotExport(MillError):
    """A model that cannot be exported; the message says why, and what to do."""


class ExportRefused(MillError):
    """The exported model says something else than torch's, or is slower; nothing was written."""


def require(model: Model) -> None:
    """Raise CannotExport where a package is missing, or where a graph alone is no use for the task."""
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise CannotExport(f"{', '.join(missing)}: not installed; run `pip install 'corpusmill[export]'`")
    if model.usage.task == "text2text":
        raise CannotExport(
            f"{model.name}: a text2text model writes token by token, by a loop and a cache that are outside of the"
            " graph; serve it with torch (`mill predict`), or export a model of another task"
        )
    if hasattr(model.model, pooling.NAME):
        raise CannotExport(
            f"{model.name}: it reads a long text in windows and pools them, and a graph reads one window; serve it with"
            " torch (`mill predict`), or fine-tune with `long_text` head, tail or head_tail"
        )


def export(
    model: Model, source: str, out: str, check_on: check.Examples, *, int8: bool = False, limits: Limits, threads: int,
) -> dict[str, Any]:  # fmt: skip
    """Publish ``model``, which lies in ``source``, as the folder ``out``; returns what its export.json says. Atomic.

    Raises CannotExport, and ExportRefused where the check on the examples goes beyond ``limits``: both figures are in
    the message.
    """
    require(model)
    wrapped = Outputs(model.model.cpu().eval(), model.task)
    with files.replacing_folder(out) as aside:
        path = aside / NAME
        _write(wrapped, model, path)
        if int8:
            _quantise(path)
        comparison = check.compare(wrapped, Session(path, threads), model, check_on, threads)
        if faults := limits.broken(comparison):
            raise ExportRefused(
                f"{source}: the exported model is refused, {'; '.join(faults)}. {comparison.sentence()}"
            )
        for name in ("config.json", *_tokenizer_files(Path(source))):
            shutil.copy(Path(source, name), aside / name)
        said = {
            "task": model.usage.task,
            "precision": "int8" if int8 else "fp32",
            "opset": OPSET,
            "inputs": wrapped.given,
            "outputs": wrapped.made,
            "sequence_length": model.usage.sequence_length,
            "check": {**asdict(comparison), **asdict(limits), "rows_from": check_on.where, "threads": threads},
            "versions": {"corpusmill": __version__, **{name: metadata.version(name) for name in ("torch", *_NEEDED)}},
            "source": {"folder": source, "digest": model_folder.digest(source)},
            "sentence": comparison.sentence(),
            "files": files.sizes(str(aside), sorted(entry.name for entry in aside.iterdir() if entry.is_file())),
        }
        files.write_json(str(aside / "export.json"), said)
    return said


class Outputs(nn.Module):
    """A model that takes what the graph takes, in the order of ``given``, and gives what it gives, ``made``."""

    def __init__(self, model: nn.Module, task: Task) -> None:
        super().__init__()
        self.model, self.task = model, task
        example = {"tokens": torch.ones(1, 1), "types": torch.ones(1, 1), "mask": torch.ones(1, 1)}
        self.given = list(inputs(model, example))
        self.made = ["logits"]
        if isinstance(task, Answers):
            self.made = ["start_logits", "end_logits"]
        if isinstance(task, Similarity):
            self.made = ["sentence_embedding"]

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Any:
        types = {} if token_type_ids is None else {_TYPES: token_type_ids}
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, **types)
        if isinstance(self.task, Answers):
            return outputs.start_logits, outputs.end_logits
        if isinstance(self.task, Similarity):
            hidden = pooled(outputs.last_hidden_state, attention_mask, self.task.config.similarity.pooling)
            return F.normalize(hidden, dim=-1)
        return outputs.logits

    def run(self, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs for ``arrays``, by the names of ``given``."""
        with torch.inference_mode():
            outputs = self(*(torch.from_numpy(arrays[name]) for name in self.given))
        return [part.numpy() for part in (outputs if isinstance(outputs, tuple) else (outputs,))]


class Session:
    """A graph under onnxruntime, on ``threads`` threads of the CPU."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        outputs: Any = self._session.run(None, {given.name: arrays[given.name] for given in self._session.get_inputs()})
        return outputs


def _write(wrapped: Outputs, model: Model, path: Path) -> None:
    ids = torch.full(_TRACED, model.reader.pad, dtype=torch.int64)
    example = {"input_ids": ids, "attention_mask": torch.ones_like(ids), _TYPES: torch.zeros_like(ids)}
    longest = architectures.positions(model.model.config)  # type: ignore[arg-type]
    axes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("length", min=1, max=longest)}
    try:
        with _quiet():
            torch.onnx.export(
                wrapped,
                tuple(example[name] for name in wrapped.given),
                str(path),
                input_names=wrapped.given,
                output_names=wrapped.made,
                opset_version=OPSET,
                dynamic_shapes=tuple(axes for _ in wrapped.given),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        kind = model.model.config.model_type  # type: ignore[union-attr]
        raise CannotExport(
            f"{model.name}: torch's exporter cannot trace the architecture {kind!r}"
            f" ({str(error).strip().splitlines()[0]}); serve it with torch (`mill predict`)"
        ) from error


def _quantise(path: Path) -> None:
    """Replace the graph in ``path`` by one with 8-bit matrices."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    made = path.with_name("quantised.onnx")
    with _quiet():
        quantize_dynamic(path, made, weight_type=QuantType.QInt8)
    made.replace(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters print, warn and log of their own progress: what is wrong with a graph they raise."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _tokenizer_files(folder: Path) -> list[str]:
    return [
        path.name
        for path in sorted(folder.iterdir())
        if path.name in model_folder.TOKENIZERS or path.name.startswith(("tokenizer", "special_tokens"))
    ]

"""Distillation: a smaller encoder learns to predict what a trained one predicts.

Sanh et al. 2019, "DistilBERT", with the weights of its published run: 5.0 x the divergence KL(teacher || student) of
the two distributions at temperature 2, times its square (Hinton 2015), at every token that is not padding; 2.0 x the
cross-entropy of the masked tokens (as in ``mlm``); 1.0 x (1 - cosine) of last hidden states, again at every token that
is not padding. Tokens are masked with odds of (their count in the corpus) ** -0.7, so that rare ones are not forgotten
(``rare_word_power``; from Conneau 2019, "XLM").

The student's layers start as layers of the teacher, the first, the last and evenly between (of 12 the layers 0, 2, 4,
7, 9, 11 for 6), its embeddings and head as the teacher's; token types are left out, as in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from pipeline import MillError
from pipeline.store import files, model_folder
from pipeline.store.packed_tokens import PackedTokens
from training.batches.batch import Batch
from training.batches.windows import IGNORE, NOTHING, Windows
from training.models import architectures, new_tokens
from training.objectives import masking, mlm
from training.objectives.base import Objective, Task
from training.recipe.objectives import DistillationConfig

#: DistilBERT's names for BERT's parts.
_RENAMED = {
    "bert.embeddings.": "distilbert.embeddings.",
    "bert.encoder.layer.": "distilbert.transformer.layer.",
    "attention.self.query.": "attention.q_lin.",
    "attention.self.key.": "attention.k_lin.",
    "attention.self.value.": "attention.v_lin.",
    "attention.output.dense.": "attention.out_lin.",
    "attention.output.LayerNorm.": "sa_layer_norm.",
    "intermediate.dense.": "ffn.lin1.",
    "cls.predictions.transform.dense.": "vocab_transform.",
    "cls.predictions.transform.LayerNorm.": "vocab_layer_norm.",
    "cls.predictions.decoder.": "vocab_projector.",
    "output.dense.": "ffn.lin2.",
    "output.LayerNorm.": "output_layer_norm.",
}


class Distillation(nn.Module):
    """The student, and a teacher that is neither trained nor saved with it and stays in evaluation mode.

    They are compared on the first ``size`` entries of the vocabulary: what either has beyond is padding.
    """

    def __init__(
        self, student: PreTrainedModel, teacher: PreTrainedModel, options: DistillationConfig, size: int
    ) -> None:
        super().__init__()
        self.student, self.options, self.size = student, options, size
        self.__dict__["teacher"] = teacher.eval().requires_grad_(False)  # no part of this module's state
        if options.freeze_positions:
            cast(Any, student.base_model).embeddings.position_embeddings.requires_grad_(False)

    def _apply(self, fn: Any, recurse: bool = True) -> Distillation:
        self.__dict__["teacher"]._apply(fn, recurse)
        return super()._apply(fn, recurse)


def create(task: Task) -> Distillation:
    """Raises MillError where student and teacher do not fit each other."""
    options = task.config.distillation
    assert options is not None  # the recipe's check
    assert task.teacher is not None  # the caller's part
    config = architectures.configuration(task.config.shape, task.vocabulary, task.config.sequence_length)
    student = architectures.create("masked", config, task.seed)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # it would list a pretraining head that is left out
    if problem := model_folder.weights_problem(str(task.teacher)):
        raise MillError(f"distillation: the teacher {problem}")
    files.check_folder(str(task.teacher))
    teacher = AutoModelForMaskedLM.from_pretrained(
        task.teacher, dtype=torch.float32, attn_implementation="sdpa", use_safetensors=True, trust_remote_code=False
    )
    transformers_logging.set_verbosity(verbosity)
    copy_layers(teacher, student, task.vocabulary.size)
    return Distillation(student, teacher, options, task.vocabulary.size)


def kept_layers(teacher: int, student: int) -> list[int]:
    """Which of the teacher's layers become the student's."""
    return np.rint(np.linspace(0, teacher - 1, student)).astype(int).tolist()


def copy_layers(teacher: PreTrainedModel, student: PreTrainedModel, size: int) -> None:
    """Start ``student`` from layers, embeddings and head of ``teacher``; raises MillError where they do not fit.

    Of the vocabulary, which either may have padded, both need ``size`` entries.
    """
    kinds = teacher.config.model_type, student.config.model_type
    if kinds[0] != kinds[1] and kinds != ("bert", "distilbert"):
        raise MillError(f"distillation: a {kinds[1]} student has no {kinds[0]} teacher; take a teacher of bert")
    taught, layers = architectures.dimensions(teacher.config)[0], architectures.dimensions(student.config)[0]
    if layers > taught:
        raise MillError(f"distillation: the student has {layers} layers, its teacher only {taught}")
    place = {number: at for at, number in enumerate(kept_layers(taught, layers))}
    tensors = {}
    for name, tensor in teacher.state_dict().items():
        head, layer, rest = name.partition(".layer.")
        if layer:
            number, _, part = rest.partition(".")
            if int(number) not in place:
                continue
            name = f"{head}{layer}{place[int(number)]}.{part}"
        tensors[_renamed(name) if kinds[0] != kinds[1] else name] = tensor
    weights = student.state_dict()
    tables = {table.data_ptr() for table in new_tokens.vocabulary_tables(student)}
    for name, tensor in weights.items():
        source = tensors.get(name)
        if source is not None and "position_embeddings" in name:
            source = source[: len(tensor)]
        if source is not None and tensor.data_ptr() in tables:
            tensor, source = tensor[:size], source[:size]
        if source is None or source.shape != tensor.shape:
            lack = "has no such weights" if source is None else f"has {list(source.shape)}"
            raise MillError(f"distillation: {name} of the student is {list(tensor.shape)}, its teacher {lack}")
        with torch.no_grad():
            tensor.copy_(source)


def _renamed(name: str) -> str:
    for old, new in _RENAMED.items():
        name = name.replace(old, new)
    return name


def informed(task: Task, packed: PackedTokens, _tokenizer: str) -> Task:
    options = task.config.distillation
    assert options is not None  # the recipe's check
    if options.rare_word_power == 0:
        return task
    return replace(task, odds=np.maximum(count(packed), 1.0) ** -options.rare_word_power)


def count(packed: PackedTokens) -> np.ndarray:
    """How often each entry of the vocabulary stands in ``packed``, int64 [vocabulary]; each document once."""
    counts = np.zeros(packed.vocab_size, np.int64)
    block = 1 << 24  # tokens; memory stays bounded
    for start in range(0, len(packed), block):
        tokens = packed.tokens(start, min(start + block, len(packed)))
        counts += np.bincount(tokens, minlength=packed.vocab_size)
    return counts


def examples(task: Task, windows: Windows) -> Batch:
    """The arrays of ``mlm``."""
    batch = mlm.examples(task, windows)
    options = task.config.distillation
    assert options is not None  # the recipe's check
    soft = batch.counts["mlm"] if options.only_masked else batch.tokens
    return Batch(batch.arrays, {"soft": soft, **batch.counts, "cosine": batch.tokens}, batch.tokens)


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) x temperature^2 of logits [n, v] at each place, [n], in nats."""
    log_student = F.log_softmax(student.float() / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher.float() / temperature, dim=-1)
    return (log_teacher.exp() * (log_teacher - log_student)).sum(-1) * temperature**2


def loss(module: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    both = cast(Distillation, module)
    labels, attended = arrays["labels"].flatten(), (arrays["segments"] != NOTHING).flatten()
    inputs = arrays["tokens"], arrays["segments"], arrays["positions"]
    hidden = architectures.hidden_states(both.student, *inputs, causal=False)
    student = architectures.masked_logits(both.student, masking.hidden_at(hidden, arrays["picked"]))
    nats = F.cross_entropy(student.float(), labels, ignore_index=IGNORE, reduction="sum")
    right = masking.right(student, labels)

    teacher_model = cast(PreTrainedModel, both.__dict__["teacher"])
    with torch.no_grad():
        taught = architectures.hidden_states(teacher_model, *inputs, causal=False)
    if both.options.only_masked:
        counted, places = labels != IGNORE, masking.hidden_at(taught, arrays["picked"])
    else:
        counted, places = attended, taught.flatten(0, 1)
        student = architectures.masked_logits(both.student, hidden.flatten(0, 1))
    with torch.no_grad():
        teacher = architectures.masked_logits(teacher_model, places)
    soft = divergence(student[:, : both.size], teacher[:, : both.size], both.options.temperature) * counted
    angle = 1 - F.cosine_similarity(hidden.flatten(0, 1).float(), taught.flatten(0, 1).float(), dim=-1)
    return {"soft": soft.sum(), "mlm": nats, "cosine": (angle * attended).sum(), "masked_accuracy": right}


def weights(task: Task) -> dict[str, float]:
    options = task.config.distillation
    assert options is not None  # the recipe's check
    return {"soft": options.soft, "mlm": options.mlm, "cosine": options.cosine, "masked_accuracy": 0.0}


def flops(module: nn.Module, task: Task) -> float:
    """The student forward and backward, the teacher forward only: a third."""
    both, length = cast(Distillation, module), task.config.sequence_length
    share = task.config.mask_share if both.options.only_masked else 1.0
    teacher = cast(PreTrainedModel, both.__dict__["teacher"])
    return (
        architectures.flops_per_token(both.student, length, share, task.pieces)
        + architectures.flops_per_token(teacher, length, share, task.pieces) / 3
    )


OBJECTIVE = Objective(
    name="distillation",
    version=3,
    weights=weights,
    order=mlm.order,
    create=create,
    examples=examples,
    loss=loss,
    checkpoint=lambda module: cast(Distillation, module).student,
    flops=flops,
    informed=informed,
    per_byte=("masked_bits_per_byte", "mlm"),
)

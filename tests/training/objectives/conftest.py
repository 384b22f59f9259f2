"""Tasks, orders and arrays of every objective on a few made-up documents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.store.packed_tokens import PackedTokens
from tests.training.conftest import END, SPECIAL, TINY, pack, pretrain_section, sentences, vocabulary
from training import objectives
from training.batches.batch import Batch
from training.models import architectures
from training.objectives.base import Task
from training.recipe.sections import PretrainConfig


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BERT of three layers that knows nothing yet."""
    folder = str(tmp_path_factory.mktemp("teacher"))
    shape = {**TINY["bert"], "num_hidden_layers": 3}
    config = architectures.configuration(shape, vocabulary(SPECIAL), 64)
    architectures.create("masked", config, seed=5).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PackedTokens]:
    """300 documents for each of the two kinds of tokenizer."""
    root = tmp_path_factory.mktemp("documents")
    return {name: pack(str(root / name), sentences(300), special) for name, special in SPECIALS.items()}


SPECIALS = {"bytes": END, "masked": SPECIAL}


def task(objective: str, teacher: str | None = None, seed: int = 0, length: int = 64, **fields) -> Task:
    config = PretrainConfig.model_validate(pretrain_section(objective, sequence_length=length, **fields))
    return Task(config, vocabulary(SPECIALS[config.tokenizer]), seed, teacher)


def read(found: Task, packed: PackedTokens, positions: np.ndarray) -> Batch:
    objective = objectives.load(found.config.objective)
    return objective.examples(found, objective.order(found, packed, 3, True).read(positions))


def pack_documents(folder: Path, found: Task, texts: list[str]) -> PackedTokens:
    return pack(str(folder), texts, SPECIALS[found.config.tokenizer])


def tensors(arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def losses(module: nn.Module, objective: str, arrays) -> dict[str, float]:
    with torch.no_grad():
        found = objectives.load(objective).loss(module, tensors(arrays))
    return {name: float(value) for name, value in found.items()}

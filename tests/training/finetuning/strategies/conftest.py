"""A tiny base of each architecture with a tokenizer, and labelled rows that are quick to learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel

from tests.training.conftest import SPECIAL, TINY, vocabulary, write_tokenizer
from training.finetuning import bases
from training.finetuning.job import Job
from training.labelled import rows
from training.labelled.rows import Labelled
from training.models import architectures
from training.pretraining import pretrain
from training.recipe.finetuning import FinetuneConfig
from training.recipe.strategies import Strategy

LENGTH = 24
#: Every strategy by a name for the test; small sizes.
STRATEGIES: dict[str, Any] = {
    "full": "full",
    "features": "features",
    "partial": {"kind": "partial", "layers": 1},
    "electra": "layerwise_decay",
    "sun": {"kind": "layerwise_decay", "convention": "sun"},
    "gradual_unfreezing": "gradual_unfreezing",
    "lora": {"kind": "lora", "rank": 4},
    "unmerged": {"kind": "lora", "rank": 4, "rslora": True, "targets": ["query", "dense"], "merge": False},
    "adapters": {"kind": "adapters", "size": 4},
    "prefix": {"kind": "prefix", "tokens": 3},
    "reparametrised": {"kind": "prefix", "tokens": 3, "reparametrised": True, "hidden": 8},
    "prompt": {"kind": "prompt", "tokens": 3},
    "bitfit": "bitfit",
}


@pytest.fixture(scope="session")
def bases_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A folder for each architecture: an untrained model without a head, and a tokenizer of bytes."""
    made = {}
    for kind in TINY:
        folder = tmp_path_factory.mktemp(kind)
        torch.manual_seed(1)
        config = architectures.configuration(
            TINY[kind], vocabulary(SPECIAL), 64, initializer_range=0.2, decoder_start_token_id=256
        )
        model = AutoModel.from_config(config)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)  # zeros would hide what is wrong with them
        model.save_pretrained(folder)
        write_tokenizer(str(folder), SPECIAL)
        made[kind] = str(folder)
    return made


def classifier(folder: str, dropout: float = 0.0) -> PreTrainedModel:
    return bases.load(AutoModelForSequenceClassification, folder, {"num_labels": 2}, dropout, seed=3)


def some_rows(count: int = 96) -> Labelled:
    """Rows of two labels that a word gives away."""
    draw = np.random.default_rng(0)
    words = [("sees", "hears")[at % 2] for at in range(count)]
    table = pa.table(
        {
            "id": [f"r{at:03d}" for at in range(count)],
            "group": [f"r{at:03d}" for at in range(count)],
            "place": [f"rows.csv:{at}" for at in range(count)],
            "text": [f"it {word} {draw.integers(10 ** (at % 7 + 1))}" for at, word in enumerate(words)],
            "label": words,
        }
    )
    sets = {"train": table[:64], "dev": table[64:80], "test": table[80:]}
    return Labelled("classify", ["hears", "sees"], **sets, fingerprint=rows.identity("classify", sets), audit={})


def job(root: Path, base: str, strategy: Any, **changed: Any) -> Job:
    settings = {
        **{"name": "tuned", "base": base, "data": {"train": "rows.csv"}, "label": "label", "sequence_length": LENGTH},
        **{"epochs": 3, "batch_size": 16, "precision": "fp32", "optimiser": {"learning_rate": 3e-3}},
    }
    config = FinetuneConfig.model_validate({**settings, "strategy": strategy, **changed})
    weights = pretrain.weights_hash(base)
    return Job(config, some_rows(), base, 0, str(root / "model"), str(root / "work"), weights, {"base": weights})


def read(strategy: Any) -> Strategy:
    """The strategy as a recipe gives it."""
    return FinetuneConfig.model_validate({"name": "x", "base": "x", "label": "x", "strategy": strategy}).strategy

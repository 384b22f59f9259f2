"""A BERT that transformers wrote, and labelled rows for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.helpers import foreign_models
from tests.training.conftest import NAMES, VERBS, sentences
from training.finetuning.job import Job
from training.labelled.rows import Labelled, identity
from training.pretraining import pretrain
from training.recipe.finetuning import FinetuneConfig


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return foreign_models.bert(tmp_path_factory.mktemp("bert"), sentences(200))


def classified(count: int = 160) -> Labelled:
    """Sentences whose verb is the label, half of them by two verbs each."""
    draw = np.random.default_rng(0)
    verbs = draw.integers(0, 4, count)
    texts = [f"the {NAMES[draw.integers(4)]} {VERBS[at]} the {NAMES[draw.integers(4)]}." for at in verbs]
    ids = [f"r{at:03d}" for at in range(count)]
    columns = {"id": ids, "group": ids, "place": [f"rows.csv:{at}" for at in range(count)], "text": texts}
    table = pa.table(columns | {"label": [("a", "b")[at % 2] for at in verbs]})
    return _labelled("classify", ["a", "b"], table)


def tagged(count: int = 120) -> Labelled:
    """Sentences in which the names of animals are tagged."""
    draw = np.random.default_rng(1)
    words = [["the", NAMES[draw.integers(4)], VERBS[draw.integers(4)], "it"] for _ in range(count)]
    ids = [f"r{at:03d}" for at in range(count)]
    columns: dict[str, Any] = {"id": ids, "group": ids, "place": [f"rows.conll:{at}" for at in range(count)]}
    table = pa.table(columns | {"words": words, "tags": [["O", "B-animal", "O", "O"]] * count})
    return _labelled("tokens", ["B-animal", "O"], table)


def _labelled(task: Any, labels: list[str], table: pa.Table) -> Labelled:
    count = len(table)
    dev, test = count // 2, count * 3 // 4
    sets = {"train": table[:dev], "dev": table[dev:test], "test": table[test:]}
    return Labelled(task, labels, **sets, fingerprint=identity(task, sets), audit={})


def job_on(rows: Labelled, base: str, root: Path, **changed: Any) -> Job:
    settings = {
        **{"name": "tuned", "base": base, "data": {"train": "rows.csv"}, "task": rows.task, "label": "label"},
        **{"sequence_length": 16, "epochs": 2, "batch_size": 16, "precision": "fp32", "dropout": 0.0},
        **{"optimiser": {"learning_rate": 1e-3}},
    }
    config = FinetuneConfig.model_validate({**settings, **changed})
    weights = pretrain.weights_hash(base)
    return Job(config, rows, base, 0, str(root / "model"), str(root / "work"), weights, {"base": weights})

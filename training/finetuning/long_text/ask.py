"""Ask a published model about texts of any length, read as it was trained to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from pipeline.store import files
from training.finetuning import bases
from training.finetuning.long_text import pooling, side_files, windows
from training.finetuning.strategies import adapter_file
from training.recipe.long_text import Head

_TEXTS = 8  # at once


@torch.no_grad()
def logits(folder: str, texts: list[str]) -> np.ndarray:
    """What the classifier in ``folder`` says of each text: float32 [texts, labels]."""
    model, how = opened(folder)
    reader = bases.reader(folder, folder, how.sequence_length)
    data = windows.encode(reader, texts, how.long_text, {})
    parts = [np.arange(start, min(start + _TEXTS, len(data))) for start in range(0, len(data), _TEXTS)]
    found = [pooling.logits(model, {n: torch.from_numpy(a) for n, a in data.arrays(part).items()}) for part in parts]
    return torch.cat(found).numpy()


def opened(folder: str) -> tuple[PreTrainedModel, side_files.How]:
    """The classifier in ``folder``, ready to predict, on its base where it is an adapter; and how it reads."""
    if any(Path(files.local(folder)).glob("model*.safetensors")):
        model = bases.load(AutoModelForSequenceClassification, folder, {}, 0.0, 0)
        how = side_files.restore(folder, model)
    else:
        model, how = adapter_file.load(folder), side_files.read(folder)
    if how is None:
        length = files.read_json(files.join(folder, "summary.json"))["sequence_length"]
        how = side_files.How(long_text=Head(), sequence_length=length)
    return model.eval(), how

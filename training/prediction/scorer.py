"""How likely a label is for documents under a fine-tuned classifier: what curation asks for (``pipeline.build.stage``).

Every text is a batch of its own, on one thread: its value then depends on nothing but itself, so that a build's answer
is the same for any shards and any number of workers. torch is imported by the first call: a worker that scores nothing
does without.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pipeline.store import model_folder

if TYPE_CHECKING:
    from training.prediction.model import Model


def probabilities(texts: Sequence[str], folder: str, labels: Sequence[str]) -> np.ndarray:
    """float32 [texts]: the probability of ``labels`` together; where a text may have several, that of the likeliest.

    They are those of ``mill predict``: scaled by the model's own temperature, of a text read as the model was trained
    to read it. Raises MillError for a folder that cannot be opened.
    """
    import torch

    from training.prediction.rows import Row

    model = _opened(folder, model_folder.digest(folder))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        scores = [model.predict([Row(text)])[0].fields()["scores"] for text in texts]
    finally:
        torch.set_num_threads(threads)
    shares = np.array([[score[label] for label in labels] for score in scores])
    several = model.usage.task == "multi_label"
    return (shares.max(1) if several else shares.sum(1).clip(0, 1)).astype(np.float32)


@lru_cache(maxsize=2)
def _opened(folder: str, _digest: str) -> Model:
    from training.prediction import model

    return model.open(folder)

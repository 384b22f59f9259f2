"""How likely a label is for documents under a fine-tuned classifier: what curation asks for (``pipeline.build.stage``).

Every text is a batch of its own, on one thread: its value then depends on nothing but itself, so that a build's answer
is the same for any shards and any number of workers. torch is imported by the first call: a worker that scores nothing
does without.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from pipeline.store import files, model_folder


def probabilities(texts: Sequence[str], folder: str, labels: Sequence[str]) -> np.ndarray:
    """float32 [texts]: the probability of ``labels`` together; where a text may have several, that of the likeliest.

    They are scaled by the model's own temperature (``confidence``), where its summary has one. A text is read as
    the model was trained to read it. Raises bases.WrongBase for a folder that cannot be opened.
    """
    import torch

    model, reader, long_text, temperature, several = _opened(folder, model_folder.digest(folder))
    places = [model.config.label2id[label] for label in labels]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            found = [_one(model, reader, long_text, text, temperature, several)[places] for text in texts]
    finally:
        torch.set_num_threads(threads)
    shares = np.stack(found).astype(np.float64)
    return (shares.max(1) if several else shares.sum(1).clip(0, 1)).astype(np.float32)


def _one(model: Any, reader: Any, long_text: Any, text: str, temperature: float, several: bool) -> np.ndarray:
    """float32 [labels]: their probabilities for ``text``."""
    import torch

    from training.finetuning.encoded import encoded
    from training.finetuning.long_text import pooling, windows

    if long_text is None:
        data = encoded(reader.read([text]), reader.pad, {})
    else:
        data = windows.encode(reader, [text], long_text, {})
    arrays = {name: torch.from_numpy(array) for name, array in data.arrays(np.zeros(1, np.int64)).items()}
    logits = pooling.logits(model, arrays)[0] / temperature
    return (logits.sigmoid() if several else logits.softmax(0)).numpy()


@lru_cache(maxsize=2)
def _opened(folder: str, _digest: str) -> tuple[Any, Any, Any, float, bool]:
    """The model in ``folder``, how it reads a text and what of a long one (None: the head), the temperature that makes
    its confidence true (1 if none was found), and whether a text may have several labels.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from training.finetuning import bases
    from training.finetuning.long_text import side_files

    bases.check(folder)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    model = bases.opened(AutoModelForSequenceClassification, folder, config, seed=0).eval()
    path = files.join(folder, "summary.json")
    summary = files.read_json(path) if files.exists(path) else {}
    length = summary.get("sequence_length") or bases.longest(folder, config)
    temperature = summary.get("confidence", {}).get("temperature", 1.0)
    several = config.problem_type == "multi_label_classification"
    how = side_files.restore(folder, model)
    return model, bases.reader(folder, folder, length), how and how.long_text, temperature, several

"""A fastText model of a file, loaded once a process."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import fasttext

from pipeline import MillError
from pipeline.store import model_files


def load(path: str) -> Any:
    """The model in ``path``. Raises MillError if the file is none."""
    return _load(path, model_files.digest(path))


def labels(path: str) -> list[str]:
    """What the model in ``path`` can say of a text, without ``__label__``: languages, or classes."""
    return [label.removeprefix("__label__") for label in load(path).get_labels()]


@lru_cache(maxsize=4)  # it cannot be pickled
def _load(path: str, _digest: str) -> Any:
    try:
        return fasttext.load_model(path)
    except (ValueError, RuntimeError, MemoryError) as error:
        raise MillError(f"{path}: not a fastText model ({error}); give the path of one, .bin or .ftz") from error

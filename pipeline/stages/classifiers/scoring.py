"""Probabilities of a label under a fastText classifier."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import MillError
from pipeline.store import fasttext_model
from pipeline.text.excerpts import excerpts
from pipeline.text.sentence_folding import sentences


class NoSuchLabel(MillError):
    """The model does not know the label that the recipe asks for; the message names those that it knows."""


def probability(texts: pa.StringArray, path: str, labels: Sequence[str]) -> pa.Array:
    """float32 in 0..1 for each text: how likely one of ``labels`` (without ``__label__``) is; null without a visible
    character.

    ``texts`` are given to the model as they are, line ends as blanks. Raises NoSuchLabel.
    """
    known = require(path, labels)
    lines = pc.replace_substring(pc.replace_substring(texts, "\n", " "), "</s>", " ").to_pylist()
    predictions, values = fasttext_model.load(path).predict(lines, k=len(known)) if lines else ([], [])
    wanted = {f"__label__{label}" for label in labels}
    positive = (
        sum(score for name, score in zip(names, scores, strict=True) if name in wanted)
        for names, scores in zip(predictions, values, strict=True)
    )
    scores = np.clip(np.fromiter(positive, np.float32, len(lines)), 0, 1)
    return pa.array(scores, mask=blank(texts))


def blank(texts: pa.StringArray) -> np.ndarray:
    """bool [texts]: those without a visible character."""
    return pc.invert(pc.match_substring_regex(texts, r"[^\s\p{Z}\p{C}]")).to_numpy(zero_copy_only=False)


def require(path: str, labels: Iterable[str]) -> list[str]:
    """The labels of the fastText model in ``path`` (without ``__label__``). Raises NoSuchLabel unless it has all of
    ``labels``.
    """
    known = fasttext_model.labels(path)
    require_known(path, labels, known)
    return known


def require_known(path: str, labels: Iterable[str], known: Collection[str]) -> None:
    """Raise NoSuchLabel unless the model in ``path``, whose labels are ``known``, has all of ``labels``."""
    for label in labels:
        if label not in known:
            raise NoSuchLabel(
                f"{path}: the model knows no label {label!r}; correct `label`. It knows {', '.join(known)}"
            )


def shortened(texts: pa.StringArray, max_bytes: int | None) -> pa.StringArray:
    """What a classifier reads of each text: excerpts of ``max_bytes`` of longer ones; all for None."""
    return texts if max_bytes is None else excerpts(texts, max_bytes)


def folded(texts: pa.StringArray) -> pa.StringArray:
    """Each text as one line of words as our own classifiers see them: lower-cased, marks apart, digits as 0."""
    lines, _, first = sentences(texts)
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(first.astype(np.int32)), lines), " ")

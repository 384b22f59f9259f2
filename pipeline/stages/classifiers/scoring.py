"""Probabilities of a label under a fastText classifier."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import MillError
from pipeline.store import fasttext_model
from pipeline.text.excerpts import excerpts
from pipeline.text.fasttext_prediction import predict
from pipeline.text.sentence_folding import sentences


class NoSuchLabel(MillError):
    """The model does not know the label that the recipe asks for; the message names those that it knows."""


def probability(texts: pa.StringArray, path: str, labels: Sequence[str]) -> pa.Array:
    """float32 in 0..1 for each text: how likely one of ``labels`` (without ``__label__``) is; null without a visible
    character.

    ``texts`` are given to the model as they are. Raises NoSuchLabel.
    """
    known = require(path, labels)
    wanted = np.isin(known, list(labels))
    places, values = predict(fasttext_model.load(path), texts, len(known))
    scores = np.clip(np.where(wanted[places] & (places >= 0), values, 0).sum(1), 0, 1)
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

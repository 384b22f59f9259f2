"""Probabilities of a label under a fastText classifier."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import MillError
from pipeline.store import fasttext_model
from pipeline.text.sentence_folding import sentences


class NoSuchLabel(MillError):
    """The model does not know the label that the recipe asks for; the message names those that it knows."""


def probability(texts: pa.StringArray, path: str, label: str) -> pa.Array:
    """float32 in 0..1 for each text: how likely ``label`` (without ``__label__``) is; null without a visible character.

    ``texts`` are given to the model as they are, line ends as blanks. Raises NoSuchLabel.
    """
    known = require(path, label)
    lines = pc.replace_substring(pc.replace_substring(texts, "\n", " "), "</s>", " ").to_pylist()
    names, values = fasttext_model.load(path).predict(lines, k=len(known)) if lines else ([], [])
    wanted = f"__label__{label}"
    positive = (
        scores[labels.index(wanted)] if wanted in labels else 0.0 for labels, scores in zip(names, values, strict=True)
    )
    scores = np.clip(np.fromiter(positive, np.float32, len(lines)), 0, 1)
    blank = pc.invert(pc.match_substring_regex(texts, r"[^\s\p{Z}\p{C}]")).to_numpy(zero_copy_only=False)
    return pa.array(scores, mask=blank)


def require(path: str, label: str) -> list[str]:
    """The labels of the fastText model in ``path`` (without ``__label__``). Raises NoSuchLabel if ``label`` is none."""
    known = fasttext_model.labels(path)
    if label not in known:
        raise NoSuchLabel(f"{path}: the model knows no label {label!r}; correct `label`. It knows {', '.join(known)}")
    return known


def folded(texts: pa.StringArray) -> pa.StringArray:
    """Each text as one line of words as our own classifiers see them: lower-cased, marks apart, digits as 0."""
    lines, _, first = sentences(texts)
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(first.astype(np.int32)), lines), " ")

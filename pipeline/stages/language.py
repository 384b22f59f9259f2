"""Language identification with fastText (Joulin et al. 2016, "Bag of tricks for efficient text classification").

The default model, lid.176, names 176 languages by ISO 639-1 where that has a code. Any fastText model whose labels are
languages will do (GlotLID). A text without a visible character is ``und`` with score 0.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Any

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipeline import models, stage
from pipeline.stage import Batch, Measured, Stage
from pipeline.store.ledger import Rule
from pipeline.text.excerpts import SMALLEST, excerpts

VERSION = 1
UNDETERMINED = "und"  # ISO 639-2
OTHERS = "*"

Score = Annotated[float, Field(ge=0, le=1)]


class Config(stage.Config):
    """``keep``: the lowest score with which a text of each language stays; ``"*"`` is for all that are not named, and
    without it they are dropped. The default is datatrove's.

    A text longer than ``max_bytes`` is judged by an excerpt of so many; null reads all of it. ``top_k`` > 1 stores that
    many languages and scores of each text in the signal ``languages``.
    """

    model: str = "lid.176"
    keep: Annotated[dict[str, Score], Field(min_length=1)] = {"en": 0.65}
    max_bytes: Annotated[int, Field(ge=SMALLEST)] | None = 1000
    top_k: Annotated[int, Field(ge=1, le=10)] = 1


GUESSES = pa.list_(pa.struct([("language", pa.string()), ("score", pa.float32())]))
SIGNALS = {"language": pa.dictionary(pa.int32(), pa.string()), "language_score": pa.float32(), "languages": GUESSES}


def rules(config: Config) -> list[Rule]:
    wanted = {OTHERS: math.inf, **dict.fromkeys(config.keep, 0.0)}  # no score is enough for a language not named
    return [
        Rule("language.not_wanted", "language_score", minimum=wanted, by="language"),
        Rule("language.low_score", "language_score", minimum=config.keep, by="language"),
    ]


def measure(config: Config, batch: Batch) -> Measured:
    """``language``, ``language_score`` (0 to 1) and, if asked for, ``languages`` (best first)."""
    path = batch.models["language"]
    texts = batch.texts if config.max_bytes is None else excerpts(batch.texts, config.max_bytes)
    labels, scores = _model(path, models.digest(path)).predict(_lines(texts), k=config.top_k)
    visible = pc.match_substring_regex(texts, r"[^\s\p{Z}\p{C}]").to_numpy(zero_copy_only=False)
    guesses = [
        list(zip((label.removeprefix("__label__") for label in names), np.minimum(values, 1).tolist(), strict=True))
        if seen
        else []
        for names, values, seen in zip(labels, scores, visible, strict=True)
    ]
    best = [guess[0] if guess else (UNDETERMINED, 0.0) for guess in guesses]
    signals = {
        "language": pa.array([language for language, _ in best], pa.string()).dictionary_encode(),
        "language_score": pa.array([score for _, score in best], pa.float32()),
    }
    if config.top_k > 1:
        named = [[{"language": language, "score": score} for language, score in guess] for guess in guesses]
        signals["languages"] = pa.array(named, GUESSES)
    return Measured(signals)


def _lines(texts: pa.StringArray) -> list[str]:
    """Each text as one line, as fastText reads it; a ``</s>`` of the text would end the line there."""
    return pc.replace_substring(pc.replace_substring(texts, "\n", " "), "</s>", " ").to_pylist()


@lru_cache(maxsize=2)
def _model(path: str, _digest: str) -> Any:
    """Loaded once a process: it cannot be pickled."""
    return fasttext.load_model(path)


def _measured(config: Config) -> list[str]:
    return [name for name in SIGNALS if name != "languages" or config.top_k > 1]


STAGE = Stage(
    name="language",
    title="Language ID",
    version=VERSION,
    signals=SIGNALS,
    rules=rules,
    measure=measure,
    models=lambda config: {"language": config.model},
    measured=_measured,
)

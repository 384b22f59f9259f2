"""Toxicity: documents that a classifier takes for toxic are dropped.

What a text has, says a classifier: one that the user brings, fastText's or a fine-tuned one, or one that the build
trains on labelled texts (``pipeline.stages.classifiers``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import pyarrow as pa
from pydantic import Field

from pipeline.build.build import Step
from pipeline.build.stage import Batch, Measured, Stage
from pipeline.stages.classifiers import fine_tuned
from pipeline.stages.classifiers import steps as classifier
from pipeline.stages.classifiers.config import Bound, Classifier, require_language
from pipeline.store.ledger import Rule

VERSION = 2
SIGNALS = {"toxicity_score": pa.float32()}


class Config(Classifier):
    """A classifier, brought (``model``, ``label``) or trained (``train``: positive are toxic texts).

    ``maximum`` is the highest probability of the label with which a document stays: one for all, or by language
    (``{en: 0.5}``; documents in other languages are scored and stay).
    """

    maximum: Annotated[
        Bound, Field(description="highest probability of the label that stays: one for all, or by language")
    ] = 0.5


def steps() -> list[Step]:
    title = "Toxicity classifier"
    return [classifier.step("toxicity", title), *fine_tuned.steps(STAGE, title)]


def rules(config: Config) -> list[Rule]:
    by = "language" if isinstance(config.maximum, Mapping) else None
    return [Rule("toxicity.maximum", "toxicity_score", maximum=config.maximum, by=by)]


def measure(config: Config, batch: Batch) -> Measured:
    """``toxicity_score``: the probability of the label, null for a text without a visible character (it stays)."""
    return Measured({"toxicity_score": classifier.measure(config, batch)})


STAGE = Stage(
    name="toxicity",
    title="Toxicity",
    about="drop documents that a classifier finds toxic",
    subject=True,
    config=Config,
    check=lambda config, recipe: require_language("toxicity.maximum", config.maximum, recipe),
    version=VERSION,
    signals=SIGNALS,
    rules=rules,
    measure=measure,
    models=lambda config: classifier.model_of("toxicity", config),
    steps=steps,
    reuse=partial(fine_tuned.reuse, "toxicity"),
)

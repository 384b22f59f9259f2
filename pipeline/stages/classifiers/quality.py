"""Quality: documents that a classifier does not take for good ones are dropped (as in GPT-3, DCLM: Li et al. 2024).

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
SIGNALS = {"quality_score": pa.float32()}


class Config(Classifier):
    """A classifier, brought (``model``, ``label``) or trained (``train``: positive are good texts, negative
    for example a crawl as it is).

    ``minimum`` is the lowest probability of the label with which a document stays: one for all, or by language
    (``{en: 0.5}``; documents in other languages are scored and stay).
    """

    minimum: Annotated[
        Bound, Field(description="lowest probability of the label that stays: one for all, or by language")
    ] = 0.5


def steps() -> list[Step]:
    title = "Quality classifier"
    return [classifier.step("quality", title), *fine_tuned.steps(STAGE, title)]


def rules(config: Config) -> list[Rule]:
    by = "language" if isinstance(config.minimum, Mapping) else None
    return [Rule("quality.minimum", "quality_score", minimum=config.minimum, by=by)]


def measure(config: Config, batch: Batch) -> Measured:
    """``quality_score``: the probability of the label, null for a text without a visible character (it stays)."""
    return Measured({"quality_score": classifier.measure(config, batch)})


STAGE = Stage(
    name="quality",
    title="Quality",
    about="drop documents that a classifier finds of low quality (GPT-3, DCLM)",
    subject=True,
    config=Config,
    check=lambda config, recipe: require_language("quality.minimum", config.minimum, recipe),
    version=VERSION,
    signals=SIGNALS,
    rules=rules,
    measure=measure,
    models=lambda config: classifier.model_of("quality", config),
    steps=steps,
    reuse=partial(fine_tuned.reuse, "quality"),
)

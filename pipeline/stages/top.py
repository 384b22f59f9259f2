"""The best of the corpus: the share of the documents with the highest values of a signal stays.

As DCLM takes the top tenth by its quality score (Li et al. 2024), where the rules before judge by a value. The cut-off
is found exactly, over all documents that reach the stage, or over those of each language: neither shards nor their
order matter. Of documents with the value at the cut-off all stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from math import ceil
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipeline import MillError
from pipeline.build.build import Build, Made, Outcome, Step, make
from pipeline.build.stage import Recipe, Stage
from pipeline.store import files, ledger, recipe_file
from pipeline.store.ledger import Rule
from pipeline.store.quantiles import order_statistics

VERSION = 1
Share = Annotated[float, Field(gt=0, le=1)]
_ALL = "*"


class Config(recipe_file.Config):
    """``keep``: the share that stays, of all documents or of each language's (``{en: 0.1, de: 0.3}``; documents in
    other languages stay). Documents without a value of ``signal`` are not counted and stay.
    """

    signal: Annotated[str, Field(description="what documents are ranked by, higher is better")] = "quality_score"
    keep: Annotated[
        Share | Annotated[dict[str, Share], Field(min_length=1)],
        Field(description="share of the documents that stays, the best ones: of all, or by language"),
    ]


def steps() -> list[Step]:
    return [
        Step("top.cutoffs", "Top share cut-offs", lambda _build: ["cutoffs.json"], _find_cutoffs),
        Step("top", "Top share", Build.shards, _judge),
    ]


def _path(build: Build) -> str:
    return build.path("work", "top.cutoffs", "cutoffs.json")


def _find_cutoffs(build: Build, _item: str) -> Outcome:
    """The lowest value that stays, of all documents ("*") or of each language that the recipe names."""
    config: Config = build.section("top")
    views = [build.view_fingerprint(shard, "top") for shard in build.shards()]
    made_by = files.fingerprint("top.cutoffs", VERSION, config, views)
    return make(_path(build), made_by, partial(_cutoffs, build, config))


def _cutoffs(build: Build, config: Config) -> Made:
    shares = config.keep if isinstance(config.keep, Mapping) else {_ALL: config.keep}
    cutoffs, documents = {}, 0
    for language, share in sorted(shares.items()):
        batches = partial(_values, build, config.signal, None if language == _ALL else language)
        count = sum(map(len, batches()))
        if count:
            stay = max(1, ceil(round(share * count, 6)))  # 0.1 of 30 is 3, and 3.0000000000000004 in floats
            (cutoffs[language],) = order_statistics(batches, [count - stay])
        documents += count
    return Outcome(documents), {"minimum": cutoffs, "documents": documents}


def _values(build: Build, signal: str, language: str | None) -> Iterator[np.ndarray]:
    """float32: the values of the documents that reach the stage, shard by shard."""
    for shard in build.shards():
        _, columns = _seen(build, shard, signal)
        mask = pc.is_valid(columns[signal])
        if language is not None:
            mask = pc.and_(mask, pc.equal(columns["language"].cast(pa.string()), language).fill_null(False))
        values = columns[signal].filter(mask).to_numpy()
        if len(values) and not values.min() >= 0:
            raise MillError(f"top.signal: {signal} is below 0 or no number in {shard}, and cannot be ranked")
        yield values


def _seen(build: Build, shard: str, signal: str) -> tuple[np.ndarray, dict[str, pa.Array]]:
    """Which documents of the shard reach the stage (bool), and of these the signal, and the language if it is known."""
    ledgers = [build.ledger(name, shard) for name in build.stages_before("top")]
    alive = ledger.alive(ledgers, len(ledgers[0]))
    columns = {
        name: entry[name].combine_chunks().filter(pa.array(alive))
        for entry in ledgers
        for name in (signal, "language")
        if name in entry.column_names
    }
    return alive, columns


def _judge(build: Build, shard: str) -> Outcome:
    config: Config = build.section("top")
    cutoffs = files.read_json(_path(build))["minimum"]
    made_by = files.fingerprint("top", VERSION, config.signal, cutoffs, build.view_fingerprint(shard, "top"))
    return make(build.ledger_path("top", shard), made_by, partial(_verdicts, build, shard, config.signal, cutoffs))


def _verdicts(build: Build, shard: str, signal: str, cutoffs: dict[str, float]) -> Made:
    alive, columns = _seen(build, shard, signal)
    rule = Rule("top.share", signal, minimum=cutoffs, by="language")
    count = int(alive.sum())
    return Outcome(count), pa.table(ledger.spread(alive, ledger.judge([rule], columns, count).columns()))


def _check(config: Config, recipe: Recipe) -> None:
    ranked = sorted(name for name, kind in recipe.signals_before("top").items() if kind == pa.float32())
    if config.signal not in ranked:
        known = f"one of {', '.join(ranked)}" if ranked else "there is none yet: add a `quality` section"
        raise MillError(f"`top.signal` is {config.signal!r}, which no stage before measures as a score; {known}")
    if isinstance(config.keep, Mapping) and recipe.section("language") is None:
        raise MillError("`top.keep` is given by language: add a `language` section, or give one number")


STAGE = Stage(
    name="top",
    title="Top share",
    about="keep the share of the documents with the highest scores (DCLM)",
    config=Config,
    check=_check,
    steps=steps,
)

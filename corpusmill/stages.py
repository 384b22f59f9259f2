"""One stage on texts of your own, without a build."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from corpusmill import texts as given
from pipeline import MillError
from pipeline.build.build import edited, measure
from pipeline.build.stage import Batch, Stage
from pipeline.curation.plugins import resolve
from pipeline.curation.recipe import Recipe, checked
from pipeline.stages import registry
from pipeline.stages.rules import stage as own_rules
from pipeline.store import ledger, model_files, shards

#: A recipe of nothing but a source, to check a section as a part of.
_RECIPE = {"name": "texts", "sources": [{"name": "texts", "kind": "text", "path": "texts"}]}


def run_stage(
    stage: str | Stage,
    config: Mapping[str, Any],
    texts: Iterable[str] | pa.Array | pa.ChunkedArray | pa.Table,
    plugins: Sequence[str | Path] = (),
) -> pa.Table:
    """Measure and judge ``texts`` by one stage that looks at documents singly, such as ``heuristics``, ``language``,
    ``pii``, ``urls``, ``bad_words`` or ``rules``; ``stage`` is its name or a Stage of your own. The name may be that of
    a stage of one of the files ``plugins``, which are run, or of an installed plug-in.

    ``config`` is its section of a recipe (``mill fields heuristics``), ``{}`` its defaults. ``texts`` are strings, an
    Arrow array of them, or a table with the column ``text``; its other columns stand for the document's (``url``,
    ``domain``) and for what earlier stages measured (``language``): what one stage returns can go to the next.

    Returns a table, a row a text in the same order: bool ``kept``; string ``dropped_by``, the rule that failed, with
    double ``value`` and ``threshold`` (null where kept); ``text``, with the stage's edits made; the other columns of
    ``texts``; the stage's signals. Every row is judged: to leave out what is dropped, take
    ``table.filter(table["kept"])``.

    Raises MillError: for a stage that there is not, or that compares documents with each other; a wrong config; a null
    or something else than text; a model or a column that is not there.
    """
    recipe = Recipe if isinstance(stage, Stage) else _with_plugins(stage, plugins)
    known = stage if isinstance(stage, Stage) else _known(stage, recipe)
    if not known.per_document:
        names = ", ".join(entry.name for entry in recipe.registered if entry.per_document)
        raise MillError(f"{known.name}: compares documents with each other, and needs a build; single texts: {names}")
    blocks = list(given.blocks(texts))
    checked_config = _config(known, config, blocks[0].schema)
    return pa.concat_tables(_judged(known, checked_config, block) for block in blocks)


def _with_plugins(stage: str, plugins: Sequence[str | Path]) -> type[Recipe]:
    """Recipe with what ``plugins`` add, and the package that announces ``stage``, if one does."""
    return resolve({"plugins": [str(plugin) for plugin in plugins], stage: {}}, Recipe, ".")[1]


def _known(name: str, recipe: type[Recipe]) -> Stage:
    names = [stage.name for stage in recipe.registered]
    if name not in names:
        raise MillError(f"{name}: no such stage; there are {', '.join(names)}")
    return registry.named(recipe.registered, name)


def _config(stage: Stage, values: Mapping[str, Any], columns: pa.Schema) -> Any:
    """``values`` as the stage's config, checked as a recipe's section would be; a column ``language`` stands for that
    section.
    """
    if stage not in registry.STAGES or stage.name == own_rules.STAGE.name:
        config = checked(dict(values), stage.config, stage.name)
        if isinstance(config, own_rules.Config):
            own_rules.check(config, {field.name: field.type for field in columns})
        return config
    sections: dict[str, Any] = {"language": {}} if "language" in columns.names else {}
    return checked({**_RECIPE, **sections, stage.name: dict(values)}, Recipe).section(stage.name)


def _judged(stage: Stage, config: Any, table: pa.Table) -> pa.Table:
    columns = {name: column.combine_chunks() for name, column in zip(table.column_names, table.columns, strict=True)}
    texts = columns.pop("text")
    absent = {field.name: pa.nulls(len(texts), field.type) for field in shards.DOCUMENT_SCHEMA if field.name != "text"}
    models = {name: _model(stage, value) for name, value in stage.models(config).items()}
    measured = measure(stage, config, Batch(texts, {**absent, **columns}, columns, models))
    signals = {**columns, **measured.signals}
    rules = stage.rules(config)
    if missing := {rule.signal for rule in rules} - signals.keys():
        raise MillError(f"{stage.name}: its rules read {', '.join(sorted(missing))}: give a table with such columns")
    verdicts = ledger.judge(rules, signals, len(texts)).columns()
    edits: dict[str, pa.Array] = {} if measured.spans is None else {"spans": measured.spans}
    if measured.overwrites is not None:
        edits["overwrites"], edits["overwritten_with"] = measured.overwrites
    after, _ = edited(texts, [pa.table(edits)])
    result = {
        "kept": pa.array(np.asarray(verdicts["dropped_by"].is_null())),
        **verdicts,
        "text": after,
        **{name: column for name, column in signals.items() if name not in ("kept", *ledger.VERDICT_COLUMNS)},
    }
    return pa.table({name: _plain(column) for name, column in result.items()})


def _model(stage: Stage, value: str) -> str:
    if value.startswith(model_files.BUILD):
        raise MillError(f"{stage.name}: this config takes a model that a build trains; name the file of a model")
    return model_files.locate(value, ".")


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column

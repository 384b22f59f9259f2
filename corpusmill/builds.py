"""A finished build: its corpus, and questions to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.build.build import Build
from pipeline.curation.settings import with_settings
from pipeline.questions import whatif as trials
from pipeline.questions.similar import signatures as signatures
from pipeline.questions.similar import similar as similar
from pipeline.questions.why import why as why
from pipeline.store import files, shards
from training.recipe.sections import finished_build

if TYPE_CHECKING:
    import datasets


def open_build(path: str | Path) -> Build:
    """The build in the folder ``path`` (``data/builds/demo``), with the recipe that it ran. Nothing is locked.

    Raises MillError unless there is a build whose curation is finished.
    """
    return finished_build(str(path))


def tables(build: Build) -> Iterator[pa.Table]:
    """The corpus of ``build``, a table a shard, by memory map: string columns ``id``, ``text``, ``source``, ``domain``,
    ``url`` and ``metadata`` (null, or a JSON object), and int32 ``repeats``, how often training reads the document in a
    pass.

    Raises MillError, naming the file and the remedy, if a shard is not there or damaged.
    """
    for name in files.read_json(build.path("corpus", "manifest.json"))["shards"]:
        yield shards.read_table(build.path("corpus", name)).replace_schema_metadata()


def documents(build: Build) -> Iterator[dict[str, Any]]:
    """The documents of the corpus of ``build`` one by one, with the columns of ``tables`` as keys; errors as there."""
    for table in tables(build):
        for batch in table.to_batches(max_chunksize=1024):
            yield from batch.to_pylist()


def dataset(build: Build) -> datasets.Dataset:
    """The corpus of ``build`` as a ``datasets.Dataset`` with the columns of ``tables``: the shards as they are, by
    memory map, without a copy in the cache of ``datasets``. The build must be on a mounted disk.
    """
    from datasets import load_from_disk

    return load_from_disk(build.path("corpus"))["train"]  # type: ignore[return-value]


def whatif(build: Build, settings: Mapping[str, Any]) -> trials.Answer:
    """What ``build`` would be with other settings: ``{"language.keep.en": 0.7, "gopher_quality.min_words": 80}``.

    A key is a field of the recipe, dotted, or the name of a rule. The answer holds ``before`` and ``after`` (funnels,
    each with the list ``stages``, the last of which is the corpus: ``documents``, ``bytes``, ``domains``, ``dropped``),
    ``measured`` (documents that had to be measured, by step) and ``notes`` (what a real run would do otherwise).
    Nothing of the build is changed. Raises MillError for an unknown field, with the nearest, for a value that is not
    allowed, and for settings that would need other documents.
    """
    return trials.ask(build, with_settings(build.recipe, settings))

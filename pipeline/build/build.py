"""A build: one run of a recipe, in a folder; and the steps it is made of.

    documents/  quarantine/  ledgers/<stage>/  work/<step>/  models/  corpus/  tokenizers/  tokens/  report/

A step is a map over items (mostly shards). Items are independent, their outputs carry fingerprints, and a step starts
only when the one before it is done; so any runner may carry them out, in any order, and a killed build goes on where it
was. Nothing here knows what runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, Generic, TypeAlias

import numpy as np
import pyarrow as pa
from typing_extensions import TypeVar

from pipeline import MillError
from pipeline.build.stage import Batch, Measured, Recipe, Scorer, Stage
from pipeline.store import files, ledger, model_files, model_folder, shards
from pipeline.text import spans


@dataclass(frozen=True)
class Outcome:
    """What one item of work came to. ``reused``: its output was there already, made by exactly the same inputs."""

    documents: int = 0
    bytes: int = 0
    reused: bool = False


#: What one item of work came to, and the content of each file that it writes, in their order.
Made: TypeAlias = tuple[Outcome, *tuple[pa.Table | dict[str, Any], ...]]


def make(
    paths: str | Sequence[str],
    made_by: str,
    maker: Callable[[], Made],
    complete: Callable[[dict[str, Any]], bool] = lambda _content: True,
) -> Outcome:
    """Have in ``paths`` what ``made_by``, a fingerprint of all that decides their content, stands for.

    If it is there, it is reused. Otherwise ``maker`` is called, and each content takes the place of its file at once,
    whole: a table, with the fingerprint in its schema, or for a path in .json a dict, with the key ``fingerprint``.
    Files that are current, as after a run that was cut off between two, stay as they are.
    ``complete`` says of the content of a current .json whether the files that it names are there, too.
    In a block of ``files.looking`` NotCurrent is raised instead of the work.
    """
    paths = [paths] if isinstance(paths, str) else paths
    stale = [path for path in paths if not _is_made(path, made_by, complete)]
    if files.current(not stale):
        return Outcome(reused=True)
    outcome, *contents = maker()
    for path, content in zip(paths, contents, strict=True):
        if path not in stale:
            continue
        if isinstance(content, dict):
            files.write_json(path, {"fingerprint": made_by, **content})
        else:
            shards.write_table(path, content, made_by)
    return outcome


def _is_made(path: str, made_by: str, complete: Callable[[dict[str, Any]], bool]) -> bool:
    if not path.endswith(".json"):
        return shards.read_fingerprint(path) == made_by
    content = files.read_json(path) if files.exists(path) else {}
    return content.get("fingerprint") == made_by and complete(content)


@dataclass(frozen=True)
class Step:
    """One step of a build: ``work(build, item)`` for each of ``items(build)``.

    ``items`` is called when the step starts, after all earlier steps. ``work`` is a module-level function (it travels
    to worker processes by name), atomic and idempotent: it returns at once when its output is current, as ``make``
    does; what is skipped in another way asks ``files.current``, so that a block of ``files.looking`` finds it out.
    """

    name: str
    title: str
    items: Callable[[Build], Sequence[str]]
    work: Callable[[Build, str], Outcome]


@dataclass(frozen=True)
class View:
    """The documents of a shard that are alive before a stage, with the edits of earlier stages made.

    ``alive`` is a boolean mask over the shard's rows; ``rows`` the positions of its true entries (int64);
    ``texts``, ``documents`` and ``signals`` have one entry for each of ``rows``. ``cuts`` are the byte ranges already
    taken out of ``texts``, in the coordinates of the shard's text; None if no earlier stage edits.
    """

    alive: np.ndarray
    texts: pa.StringArray
    cuts: pa.ListArray | None
    documents: dict[str, pa.Array]
    signals: dict[str, pa.Array]

    @cached_property
    def rows(self) -> np.ndarray:
        return np.flatnonzero(self.alive)


R_co = TypeVar("R_co", bound=Recipe, default=Any, covariant=True)


@dataclass(frozen=True)
class Build(Generic[R_co]):
    """The folder ``root`` and the recipe that fills it. Small and picklable: it travels with every item of work.

    ``scorer`` opens models that the pipeline cannot; None where nothing above the pipeline offers one.
    """

    root: str
    recipe: R_co
    scorer: Scorer | None = None

    @property
    def address(self) -> str:
        """What people call the folder: an address, where ``root`` stands for one in an object store."""
        return files.url_of(self.root)

    def path(self, *names: str) -> str:
        """The path of ``names`` in the build. Raises MillError where it would lead out of it."""
        if ".." in "/".join(names) and any(".." in name.split("/") for name in names):
            raise MillError(f"{'/'.join(names)!r} leads out of the folder of the build, {self.root}")
        return files.join(self.root, *names)

    def section(self, name: str) -> Any:
        """The section ``name`` of the recipe; None where there is none."""
        return self.recipe.section(name)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that this recipe runs, in order."""
        return self.recipe.stages_before(None)

    def stages_before(self, stage: str | None) -> tuple[str, ...]:
        """The stages that run before ``stage``; all of them for None."""
        return self.recipe.stages_before(stage)

    def shards(self) -> list[str]:
        """Names of the document shards, in the order of the documents."""
        return list(self.places())

    def place(self, shard: str) -> int:
        """The number of ``shard`` in ``shards()``, from 0."""
        return self.places()[shard]

    def places(self) -> Mapping[str, int]:
        """The number of each document shard in ``shards()``, from 0."""
        path = self.path("documents", "manifest.json")
        try:
            stamp = files.stamp(path)
        except FileNotFoundError:
            raise MillError(f"{self.root}: no documents here yet; run `mill curate` first") from None
        return _places(path, stamp)

    def documents(self, shard: str) -> pa.Table:
        return shards.read_table(self.path("documents", shard))

    def ledger_path(self, stage: str, shard: str) -> str:
        return self.path("ledgers", stage, shard)

    def ledger(self, stage: str, shard: str) -> pa.Table:
        return shards.read_table(self.ledger_path(stage, shard))

    def view(self, shard: str, before: str | None = None) -> View:
        """What a stage sees of ``shard``: the survivors of the stages before ``before`` (None: of all)."""
        table = self.documents(shard)
        ledgers = [self.ledger(stage, shard) for stage in self.stages_before(before)]
        mask = ledger.alive(ledgers, len(table))
        kept = None if mask.all() else pa.array(mask)
        texts, cuts = edited(_kept(_one(table["text"]), kept), [_kept(_edits(entry), kept) for entry in ledgers])
        signals = {
            name: _kept(_one(column), kept)
            for entry in ledgers
            for name, column in zip(entry.column_names, entry.columns, strict=True)
            if name not in ledger.VERDICT_COLUMNS
        }
        documents = {name: _kept(_one(table[name]), kept) for name in table.column_names if name != "text"}
        return View(mask, texts, cuts, documents, signals)

    def view_fingerprint(self, shard: str, before: str | None = None) -> str:
        """Names everything that ``view`` depends on. Raises MillError if a part has not been made yet."""
        paths = [self.path("documents", shard)]
        paths += [self.ledger_path(stage, shard) for stage in self.stages_before(before)]
        fingerprints = [shards.read_fingerprint(path) for path in paths]
        for path, value in zip(paths, fingerprints, strict=True):
            if value is None:
                raise MillError(f"{path}: not there, or not made by corpusmill; run the build again")
        return files.fingerprint(fingerprints)

    def write_ledger(self, stage: str, shard: str, columns: dict[str, pa.Array], fingerprint: str) -> None:
        """Write the ledger of ``stage`` for ``shard``; every array has one entry a row of the shard."""
        shards.write_table(self.ledger_path(stage, shard), pa.table(columns), fingerprint)


@lru_cache(maxsize=8)  # every item of every step asks for it, and it is as long as the corpus has shards
def _places(manifest: str, _stamp: Any) -> dict[str, int]:
    return {name: place for place, name in enumerate(files.read_json(manifest)["shards"])}


def _one(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array: our files hold one batch, and `combine_chunks` would copy even that."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


Rows = TypeVar("Rows", pa.Array, pa.Table, default=pa.Array)


def _kept(rows: Rows, mask: pa.BooleanArray | None) -> Rows:
    """``rows`` where ``mask`` says so; for None all, without a copy."""
    return rows if mask is None else rows.filter(mask)


def edited(texts: pa.StringArray, ledgers: Sequence[pa.Table]) -> tuple[pa.StringArray, pa.ListArray | None]:
    """``texts`` after the edits of some stages, and what these cut of them (None: no stage cuts).

    ``ledgers`` are those of the stages, in order, their rows the texts'. Ranges lie in the coordinates of ``texts``,
    and overwriting moves nothing: so all of it is done before the cuts.
    """
    for entry in ledgers:
        if "overwrites" in entry.column_names:
            ranges, fill = (_one(entry[name]) for name in ("overwrites", "overwritten_with"))
            texts = spans.overwrite(texts, ranges, fill)
    cuts = [_one(entry["spans"]) for entry in ledgers if "spans" in entry.column_names]
    if not cuts:
        return texts, None
    merged = spans.merge(cuts)
    return spans.cut(texts, merged), merged


def _edits(entry: pa.Table) -> pa.Table:
    return entry.select([name for name in ("dropped_by", *ledger.EDIT_COLUMNS) if name in entry.column_names])


def steps_of(stage: Stage) -> list[Step]:
    """The steps that carry out ``stage``, in order."""
    return [measure_step(stage)] if stage.steps is None else list(stage.steps())


def measure_step(stage: Stage) -> Step:
    """The step that runs a per-document stage over all shards."""
    return Step(stage.name, stage.title, Build.shards, partial(_measure_shard, stage))


def ledger_fingerprint(stage: Stage, build: Build, shard: str) -> str:
    """Names everything that the ledger of a per-document stage depends on."""
    config = build.section(stage.name)
    digests = {key: _digest(path) for key, path in _model_paths(stage, build).items()}
    view = build.view_fingerprint(shard, before=stage.name)
    version = stage.version if stage.plugin is None else [stage.version, stage.plugin.made_by]
    return files.fingerprint(stage.name, version, config, digests, view)


def measure_view(stage: Stage, build: Build, view: View) -> dict[str, pa.Array]:
    """The signals of the documents of ``view``, and its edits, if any, in the coordinates of the shard's texts."""
    config = build.section(stage.name)
    batch = Batch(view.texts, view.documents, view.signals, _model_paths(stage, build), build.scorer)
    measured = measure(stage, config, batch)
    columns: dict[str, pa.Array] = dict(measured.signals)
    if measured.spans is not None:
        columns["spans"] = measured.spans if view.cuts is None else spans.lift(measured.spans, view.cuts)
    if measured.overwrites is not None:
        ranges, columns["overwritten_with"] = measured.overwrites
        columns["overwrites"] = ranges if view.cuts is None else spans.lift(ranges, view.cuts)
    return columns


def measure(stage: Stage, config: Any, batch: Batch) -> Measured:
    """What ``stage`` measures on ``batch``. Raises MillError where a plug-in's measures something else than it says."""
    measured = stage.measure(config, batch)
    if stage.plugin is not None:
        sizes = {name: (len(values), values.type) for name, values in measured.signals.items()}
        names = stage.signals if stage.measured is None else stage.measured(config)
        if sizes != (wanted := {name: (len(batch.texts), stage.signals[name]) for name in names}):
            raise MillError(
                f"{stage.plugin}: stage {stage.name!r} must measure (signal, values, type) {_listed(wanted)}, and it"
                f" measured {_listed(sizes)}"
            )
    return measured


def _listed(signals: dict[str, tuple[int, pa.DataType]]) -> str:
    return ", ".join(f"{name}, {count}, {kind}" for name, (count, kind) in signals.items()) or "nothing"


def _digest(path: str) -> str:
    return model_folder.digest(path) if files.local(path).is_dir() else model_files.digest(path)


def _model_paths(stage: Stage, build: Build) -> dict[str, str]:
    config = build.section(stage.name)
    return {key: model_files.locate(value, build.root) for key, value in stage.models(config).items()}


def _measure_shard(stage: Stage, build: Build, shard: str) -> Outcome:
    made_by = ledger_fingerprint(stage, build, shard)

    def measurements() -> Made:
        view = build.view(shard, before=stage.name)
        measured = measure_view(stage, build, view)
        verdicts = ledger.judge(stage.rules(build.section(stage.name)), {**view.signals, **measured}, len(view.texts))
        columns = ledger.spread(view.alive, {**measured, **verdicts.columns()})
        return Outcome(len(view.texts), view.texts.nbytes), pa.table(columns)

    return make(build.ledger_path(stage.name, shard), made_by, measurements)


def texts_before(build: Build, shard: str, rows: Sequence[int], stage: str | None) -> pa.StringArray:
    """The texts of ``rows`` as ``stage`` sees them (None: as the corpus holds them): edits of earlier stages made."""
    take = pa.array(rows, pa.int64())
    texts = build.documents(shard)["text"].take(take).combine_chunks()
    return edited(texts, [build.ledger(name, shard).take(take) for name in build.stages_before(stage)])[0]

"""What a changed policy would make of a build, answered from what the build has stored.

A trial is a folder of links to a build's files in which the steps of the changed recipe run. What they would write
again is first filled from the build, document by document: a text that was measured, and that no change touches, is
judged again and not measured again; only documents that come alive where they had not been are. What may be kept of a
stage with steps of its own says ``Stage.reuse``. So the answer is a real run's, but for what ``Answer.notes`` names:
language models that a build trained stay as they are. Nothing of the build itself is written.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from pipeline import MillError
from pipeline.build.build import Build, Step, ledger_fingerprint, measure_view, steps_of
from pipeline.build.linked_copy import LINKED, link_tree
from pipeline.build.reuse import Refill, Reuse, refilled
from pipeline.build.stage import Stage
from pipeline.curation import account
from pipeline.curation.recipe import Recipe
from pipeline.stages import registry
from pipeline.store import files, ledger, shards


class CannotAnswer(MillError):
    """The build does not hold what the question needs; the message says what to do."""


@dataclass(frozen=True)
class Answer:
    """Funnels (as ``funnel.summarise`` gives) of the build and of the trial, the trial's last entry ``corpus``.

    ``measured`` counts for each step the documents that had to be measured; ``notes`` say what a real run would do
    otherwise.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    measured: Mapping[str, int]
    notes: tuple[str, ...]


def ask(build: Build, recipe: Recipe) -> Answer:
    """What ``recipe`` would make of the documents of ``build``, a finished build with the recipe that it ran.

    Raises CannotAnswer if the build is not finished, or ``recipe`` reads other documents.
    """
    with trial(build, recipe) as made:
        measured = made.run()
        return Answer(_account(build), _account(made.new), measured, tuple(made.notes()))


@contextlib.contextmanager
def trial(build: Build, recipe: Recipe) -> Iterator[Trial]:
    """A trial of ``recipe`` on ``build``, in a hidden folder of the build that goes when the block ends."""
    if not files.exists(build.path("funnel.json")):
        raise CannotAnswer(f"{build.root}: this build is not finished; run `mill build` first")
    for name in ("sources", "normalise", "shard_bytes", "seed"):
        if build.section(name) != recipe.section(name):
            raise CannotAnswer(f"{name}: the build has other documents than this recipe; run `mill build` instead")
    root = files.local_name(build.root)
    root.mkdir(parents=True, exist_ok=True)  # of a build in a store, nothing may be here yet
    with tempfile.TemporaryDirectory(prefix=".whatif-", dir=root) as folder:
        for name in LINKED:
            link_tree(files.local(build.path(name)), Path(folder, name))
        yield Trial(build, replace(build, root=folder, recipe=recipe))


@dataclass(frozen=True)
class Trial:
    """The build ``old``, and the trial ``new`` beside it."""

    old: Build
    new: Build

    def run(self) -> dict[str, int]:
        """Run the stages; returns the number of documents measured, by step."""
        measured: dict[str, int] = {}
        for stage in self._stages():
            reuse = self._reuse(stage)
            for step in steps_of(stage):
                if step.name in reuse.kept:
                    continue
                work = self._filling(stage, step, reuse)
                for item in step.items(self.new):
                    if work is None:
                        step.work(self.new, item)
                    else:
                        measured[step.title] = measured.get(step.title, 0) + work(item)
            if stage.signals and not stage.per_document and not reuse.refills:
                for shard in self.new.shards():
                    self._touch(shard, np.ones(len(self.new.documents(shard)), bool))
        return measured

    def notes(self) -> Iterator[str]:
        """What a real run would do otherwise."""
        for stage in self._stages():
            note = self._reuse(stage).note
            if note and any(
                self.old.view_fingerprint(shard, stage.name) != self.new.view_fingerprint(shard, stage.name)
                for shard in self.new.shards()
            ):
                yield note

    def _stages(self) -> list[Stage]:
        return [registry.named(self.new.recipe.registered, name) for name in self.new.stages]

    def _reuse(self, stage: Stage) -> Reuse:
        """What the stage says may be kept; nothing where the old build does not run it."""
        old, new = self.old.section(stage.name), self.new.section(stage.name)
        return (None if old is None else stage.reuse(old, new)) or Reuse()

    def _filling(self, stage: Stage, step: Step, reuse: Reuse) -> Callable[[str], int] | None:
        """What does the work of ``step`` with the old build's measurements; None where it is run as it is."""
        if refill := reuse.refills.get(step.name):
            return partial(self._refill, stage, refill)
        if step.name == stage.name and stage.per_document and not stage.of_signals:
            return partial(self._judge, stage)
        return None

    def _refill(self, stage: Stage, refill: Refill, shard: str) -> int:
        """The file of a step that allows it; returns the number of documents that had to be measured."""
        view, known = self.new.view(shard, stage.name), self._known(stage.name, shard)
        fresh = view.alive & ~known
        table = refill.table(shards.read_table(refill.path(self.old, shard)), self.new, view, known)
        path = refill.path(self.new, shard)
        shards.write_table(path, table, files.fingerprint("whatif", path, self.new.view_fingerprint(shard, stage.name)))
        self._touch(shard, fresh)
        return int(fresh.sum())

    def _judge(self, stage: Stage, shard: str) -> int:
        """The ledger of a per-document stage; returns the number of documents that had to be measured."""
        made_by = ledger_fingerprint(stage, self.new, shard)
        path = self.new.ledger_path(stage.name, shard)
        if shards.is_current(path, made_by):
            return 0
        view = self.new.view(shard, stage.name)
        rules = stage.rules(self.new.section(stage.name))
        known = self._known(stage.name, shard) if self._facts_stay(stage, shard) else np.zeros(len(view.alive), bool)
        stored = self.old.ledger(stage.name, shard) if known.any() else None
        fresh = view.alive & ~known
        signals = refilled(stored, view, known, partial(measure_view, stage, self.new))
        alive = pa.array(view.alive)
        measured = {name: column.filter(alive) for name, column in signals.items()}
        verdicts = ledger.judge(rules, {**view.signals, **measured}, len(view.texts))
        columns = {**measured, **verdicts.columns()}
        self.new.write_ledger(stage.name, shard, ledger.spread(view.alive, columns), made_by)
        self._touch(shard, fresh)
        return int(fresh.sum())

    def _facts_stay(self, stage: Stage, shard: str) -> bool:
        """Whether what the old build measured is what the new recipe would measure on the same texts.

        It is if fields were changed that only rules read: those whose change changes the rules, and that switch no
        family of rules on or off; and if all that the rules read was measured.
        """
        old, new = self.old.section(stage.name), self.new.section(stage.name)
        path = self.old.ledger_path(stage.name, shard)
        if old is None or not shards.is_current(path, ledger_fingerprint(stage, self.old, shard)):
            return False
        if not all(only_judges(stage, old, change) for change in changes(old, new)):
            return False
        measured = set(self.old.ledger(stage.name, shard).column_names)
        measured |= {name for before in self.new.stages_before(stage.name) for name in self._columns(before, shard)}
        return all(rule.signal in measured for rule in stage.rules(new))  # a missing `by` is missing for both

    def _columns(self, stage: str, shard: str) -> list[str]:
        return self.new.ledger(stage, shard).column_names

    def _known(self, stage: str, shard: str) -> np.ndarray:
        """Boolean mask over the shard: documents that the old build's ``stage`` saw just as the new one does."""
        count = len(self.new.documents(shard))
        before = self.old.stages_before(stage)
        if set(before) - set(self.new.stages):
            return np.zeros(count, bool)
        known = ledger.alive([self.old.ledger(name, shard) for name in before], count)
        known &= ledger.alive([self.new.ledger(name, shard) for name in self.new.stages_before(stage)], count)
        for name in before:
            if not stage_of(self.old, name):  # what one document loses there hangs on others
                known &= _same_spans(self.old.ledger(name, shard), self.new.ledger(name, shard))
        path = self._touched_path(shard)
        if files.exists(path):
            known &= ~shards.read_table(path)["touched"].to_numpy()
        return known

    def _touch(self, shard: str, fresh: np.ndarray) -> None:
        """Note the documents that have been measured: later stages may see them otherwise than in the old build."""
        path = self._touched_path(shard)
        if files.exists(path):
            fresh = fresh | shards.read_table(path)["touched"].to_numpy()
        shards.write_table(path, pa.table({"touched": fresh}), "whatif.touched")

    def _touched_path(self, shard: str) -> str:
        return self.new.path("work", "whatif.touched", shard)


Change = tuple[tuple[Any, ...], Any]


_ABSENT = object()


def changes(old: Any, new: Any, path: tuple[Any, ...] = ()) -> list[Change]:
    """Where two configurations of one model differ: path and new value of each field or key, or of a section that only
    one has; _ABSENT for a key that the new one lacks.
    """
    differences: list[Change] = []
    for name in {**old, **new} if isinstance(new, Mapping) else type(new).model_fields:
        before, after = _inside(old, name), _inside(new, name)
        if isinstance(before, Mapping) and after is _ABSENT:
            after = {}
        elif isinstance(after, Mapping) and before is _ABSENT:
            before = {}
        if type(before) is type(after) and isinstance(after, BaseModel | Mapping):
            differences += changes(before, after, (*path, name))
        elif before != after:
            differences.append(((*path, name), after))
    return differences


def _inside(config: Any, name: Any) -> Any:
    """A field of a model, or the value of a mapping's key."""
    if config is _ABSENT:
        return _ABSENT
    return config.get(name, _ABSENT) if isinstance(config, Mapping) else getattr(config, name)


def only_judges(stage: Stage, config: Any, change: Change) -> bool:
    """Whether ``change`` of ``config`` concerns a field that only the rules of ``stage`` read."""
    path, value = change
    changed = replaced(config, path, value)
    before = _at(config, path)
    switched = any(isinstance(entry, BaseModel) for entry in (before, value))
    switched |= None in (before, value) and any(isinstance(entry, Mapping) for entry in (before, value))
    return not switched and list(stage.rules(changed)) != list(stage.rules(config))


def _at(config: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        config = _inside(config, name)
    return config


def replaced(config: Any, path: tuple[Any, ...], value: Any) -> Any:
    """``config`` with ``value`` at ``path``, unchecked."""
    head, rest = path[0], path[1:]
    inner = replaced(_inside(config, head), rest, value) if rest else value
    if config is _ABSENT or isinstance(config, Mapping):
        known = {} if config is _ABSENT else config
        return {name: entry for name, entry in {**known, head: inner}.items() if entry is not _ABSENT}
    return config.model_copy(update={head: inner})


def _same_spans(old: pa.Table, new: pa.Table) -> np.ndarray:
    """Boolean mask of the rows in which two ledgers of a shard cut the same."""
    if "spans" not in old.column_names and "spans" not in new.column_names:
        return np.ones(len(new), bool)
    if "spans" not in old.column_names or "spans" not in new.column_names:
        return np.zeros(len(new), bool)
    one, other = (table["spans"].combine_chunks() for table in (old, new))
    counts = [pc.list_value_length(spans).fill_null(0).to_numpy() for spans in (one, other)]
    same = counts[0] == counts[1]
    one, other = (spans.filter(pa.array(same)) for spans in (one, other))
    parents, flat = pc.list_parent_indices(one).to_numpy(), (one.flatten(), other.flatten())
    differ = np.zeros(len(parents), bool)
    for edge in ("start", "end"):
        differ |= flat[0].field(edge).to_numpy() != flat[1].field(edge).to_numpy()
    same[np.flatnonzero(same)[parents[differ]]] = False
    return same


def stage_of(build: Build, step: str) -> Stage | None:
    """The per-document stage that ``step`` of ``build`` runs, if it is one."""
    return next((stage for stage in build.recipe.registered if stage.name == step and stage.per_document), None)


def _account(build: Build) -> dict[str, Any]:
    """The funnel of a build from its ledgers."""
    total: dict[tuple[Any, ...], list[int]] = {}
    last = build.stages[-1] if build.stages else "ingest"
    for shard in build.shards():
        for row in account.flows(build, shard, build.documents(shard)):
            names = [row.stage, "corpus"] if (row.stage, row.rule) == (last, account.KEPT) else [row.stage]
            for name in names:
                entry = total.setdefault((name, row.rule, row.source, row.domain, row.language), [0, 0])
                entry[0] += row.documents
                entry[1] += row.bytes
    counted = [
        {**dict(zip(account.KEYS, key, strict=True)), "documents_sum": documents, "bytes_sum": size}
        for key, (documents, size) in total.items()
    ]
    return account.summarise(counted, build.stages)

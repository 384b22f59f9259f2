"""Decontamination: documents that hold items of evaluation sets (Brown et al. 2020, appendix C: 13-grams, rare ones).

An item is held by a document if a share of ``min_overlap`` of its grams stands there. A gram that stands in more than
``max_document_frequency`` documents is common (a famous quotation, boilerplate): it counts neither as found nor among
the item's. An item of fewer than ``min_words`` words cannot be checked, one with common grams only is not judged; the
report names both.

    work/decontaminate.index/{items,grams}.arrow   work/decontaminate.hits/<shard>   work/decontaminate.frequency/
    work/decontaminate.held/<shard>   decontamination.json (per set and item: documents, overlap, byte ranges)
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from pipeline import stage
from pipeline.build import Build, Outcome, Step, View
from pipeline.decontaminate import evaluation
from pipeline.decontaminate.grams import Grams, find, item_grams
from pipeline.dedup import folding, rows
from pipeline.dedup.shingles import shingle_sets
from pipeline.store import files, ledger, shards
from pipeline.text import spans

VERSION = 1
NAME = "decontaminate"
RULE = "decontaminate.overlap"


class Config(stage.Config):
    """``cut_span`` cuts the grams of the items held, and drops a document only if no word would be left."""

    sets: Annotated[list[evaluation.EvaluationSet], Field(min_length=1)]
    ngram: Annotated[int, Field(ge=1, le=100)] = 13
    min_words: Annotated[int, Field(ge=1)] = 8
    min_overlap: Annotated[float, Field(gt=0, le=1)] = 0.5
    max_document_frequency: Annotated[int, Field(ge=1)] = 10
    action: Literal["drop_document", "cut_span"] = "drop_document"

    @model_validator(mode="after")
    def _makes_sense(self) -> Config:
        names = [chosen.name for chosen in self.sets]
        if len(set(names)) < len(names):
            raise ValueError("sets: a name occurs more than once; give each set its own")
        if self.min_words > self.ngram:
            raise ValueError("min_words: at most ngram, from which on an item is matched by its n-grams")
        return self


def steps() -> list[Step]:
    return [
        Step("decontaminate.index", "Decontamination: index", lambda _build: ["grams.arrow"], _index),
        Step("decontaminate.hits", "Decontamination: search", Build.shards, _search),
        Step("decontaminate.frequency", "Decontamination: rarity", lambda _build: ["frequency.arrow"], _count),
        Step(NAME, "Decontamination", Build.shards, _judge),
        Step("decontaminate.report", "Decontamination: report", lambda _build: ["decontamination.json"], _report),
    ]


def _config(build: Build) -> Config:
    return build.recipe.decontaminate  # type: ignore[return-value]


def _path(build: Build, step: str, item: str) -> str:
    return build.path("work", f"{NAME}.{step}", item)


def _index(build: Build, item: str) -> Outcome:
    config = _config(build)
    digests = [evaluation.digest(chosen) for chosen in config.sets]
    made_by = files.fingerprint(
        NAME, VERSION, folding.UNICODE_VERSION, config.sets, config.ngram, config.min_words, digests
    )
    paths = _path(build, "index", "items.arrow"), _path(build, "index", item)
    if all(shards.is_current(path, made_by) for path in paths):
        return Outcome(reused=True)
    items = [entry for chosen in config.sets for entry in evaluation.read(chosen)]
    texts = pa.array([entry.text for entry in items], pa.string())
    grams, words, offsets, members = item_grams(texts, config.ngram, config.min_words)
    lists = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(members.astype(np.int32)))
    columns = {
        "set": pa.array([entry.set for entry in items], pa.string()),
        "item": pa.array([entry.id for entry in items], pa.string()),
        "text": texts,
        "words": pa.array(words),
        "grams": lists,
    }
    shards.write_table(paths[0], pa.table(columns), made_by)
    shards.write_table(
        paths[1], pa.table({name: pa.array(values) for name, values in grams._asdict().items()}), made_by
    )
    return Outcome(len(items), texts.nbytes)


def _items(build: Build) -> pa.Table:
    return shards.read_table(_path(build, "index", "items.arrow"))


def _search(build: Build, shard: str) -> Outcome:
    """Every place where a gram of an item stands: ``text`` (among those alive), ``gram``, ``start``, ``end``."""
    config = _config(build)
    index = _path(build, "index", "grams.arrow")
    made_by = files.fingerprint(NAME, VERSION, rows.fingerprints([index]), build.view_fingerprint(shard, NAME))
    path = _path(build, "hits", shard)
    if shards.is_current(path, made_by):
        return Outcome(reused=True)
    view, table = build.view(shard, before=NAME), shards.read_table(index)
    grams = Grams(*(rows.array(table, name) for name in Grams._fields))
    hits = find(view.texts, grams, rows.column(_items(build), "text"), config.ngram, config.min_words)
    names = ("text", "gram", "start", "end")
    shards.write_table(path, pa.table(dict(zip(names, map(pa.array, hits), strict=True))), made_by)
    return Outcome(len(view.texts), view.texts.nbytes)


def _hits(build: Build, shard: str) -> tuple[np.ndarray, ...]:
    table = shards.read_table(_path(build, "hits", shard))
    return tuple(rows.array(table, name) for name in ("text", "gram", "start", "end"))


def _count(build: Build, item: str) -> Outcome:
    """In how many documents each gram stands."""
    inputs = [_path(build, "hits", shard) for shard in build.shards()]
    made_by = files.fingerprint("decontaminate.frequency", VERSION, rows.fingerprints(inputs))
    path = _path(build, "frequency", item)
    if shards.is_current(path, made_by):
        return Outcome(reused=True)
    grams = len(shards.read_table(_path(build, "index", "grams.arrow")))
    frequency = np.zeros(grams, np.int64)
    for shard in build.shards():
        text, gram, _, _ = _hits(build, shard)
        frequency += np.bincount(np.unique(np.stack([text, gram]), axis=1)[1], minlength=grams)
    shards.write_table(path, pa.table({"documents": frequency}), made_by)
    return Outcome()


def _rare(build: Build) -> np.ndarray:
    """bool, one a gram: whether it counts."""
    frequency = rows.array(shards.read_table(_path(build, "frequency", "frequency.arrow")), "documents")
    return frequency <= _config(build).max_document_frequency


def _judge(build: Build, shard: str) -> Outcome:
    config = _config(build)
    inputs = [_path(build, "hits", shard), _path(build, "frequency", "frequency.arrow")]
    made_by = files.fingerprint(
        NAME, VERSION, config.model_dump(mode="json"), rows.fingerprints(inputs), build.view_fingerprint(shard, NAME)
    )
    paths = build.ledger_path(NAME, shard), _path(build, "held", shard)
    if all(shards.is_current(path, made_by) for path in paths):
        return Outcome(reused=True)
    view, items = build.view(shard, before=NAME), _items(build)
    text, item, overlap, ranges = _pairs(build, shard, items)
    held = overlap >= config.min_overlap
    count = np.bincount(text[held], minlength=len(view.texts))
    largest = np.zeros(len(view.texts))
    best = np.full(len(view.texts), -1)
    order = np.lexsort((-item, overlap, text))  # the last entry of a text: the largest share, the first such item
    largest[text[order]], best[text[order]] = overlap[order], item[order]
    chosen = pa.array(np.flatnonzero(held))
    ranges = ranges.take(chosen)
    columns: dict[str, pa.Array] = {
        "contaminated_items": pa.array(count.astype(np.int32)),
        "contamination_overlap": pa.array(largest),
        "contamination_item": rows.column(items, "item").take(pa.array(best, mask=best < 0)),
    }
    dropped = count > 0
    if config.action == "cut_span":
        cuts = _by_text(text[held], ranges, len(view.texts))
        dropped &= _without_words(view.texts, cuts)
        cuts = cuts.filter(pa.array(~dropped)).take(pa.array(np.cumsum(~dropped) - 1, mask=dropped))
        columns["spans"] = _lifted(cuts, view, np.arange(len(view.texts)))
    verdicts = ledger.Verdicts(
        np.where(dropped, 0, -1).astype(np.int16), largest, np.full(len(largest), config.min_overlap), (RULE,)
    )
    found = {
        "document": view.documents["id"].take(pa.array(text[held])),
        "item": pa.array(item[held]),
        "overlap": pa.array(overlap[held]),
        "ranges": _lifted(ranges, view, text[held]),
    }
    shards.write_table(paths[1], pa.table(found), made_by)
    build.write_ledger(NAME, shard, ledger.spread(view.alive, {**columns, **verdicts.columns()}), made_by)
    return Outcome(len(view.texts), view.texts.nbytes)


def _pairs(build: Build, shard: str, items: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray, pa.ListArray]:
    """``(text, item, overlap, ranges)``, ascending: each pair with a rare gram in common, its share, and where."""
    rare = _rare(build)
    lists = rows.column(items, "grams")
    offsets, members = lists.offsets.to_numpy(), lists.values.to_numpy()
    owners = np.repeat(np.arange(len(items)), np.diff(offsets))
    countable = np.bincount(owners, weights=rare[members], minlength=len(items))
    order = np.argsort(members, kind="stable")
    first = np.searchsorted(members[order], np.arange(len(rare) + 1))
    hits = _hits(build, shard)
    text, gram, start, end = (values[rare[hits[1]]] for values in hits)
    many = np.diff(first)[gram]  # how many items have the gram that was found
    hit = np.repeat(np.arange(len(gram)), many)
    within = np.arange(len(hit)) - np.repeat(np.cumsum(many) - many, many)
    item = owners[order][first[gram[hit]] + within]
    pairs, pair = np.unique(text[hit] * max(len(items), 1) + item, return_inverse=True)
    distinct = np.unique(np.stack([pair, gram[hit]]), axis=1)[0]
    texts, item = np.divmod(pairs, max(len(items), 1))
    overlap = np.bincount(distinct, minlength=len(pairs)) / countable[item]
    order = np.lexsort((end[hit], start[hit], pair))
    edges = np.searchsorted(pair[order], np.arange(len(pairs) + 1))
    return texts, item, overlap, spans.merge([spans.from_ranges(edges, start[hit][order], end[hit][order])])


def _by_text(text: np.ndarray, ranges: pa.ListArray, texts: int) -> pa.ListArray:
    """The ranges of all pairs of a text united; ``text`` (ascending) names the text of each entry of ``ranges``."""
    offsets, starts, ends = spans.to_ranges(ranges)
    return spans.merge([spans.from_ranges(offsets[np.searchsorted(text, np.arange(texts + 1))], starts, ends)])


def _without_words(texts: pa.StringArray, cuts: pa.ListArray) -> np.ndarray:
    """bool, one a text: whether no word is left after the cuts."""
    left = np.ones(len(texts), bool)
    touched = np.flatnonzero(np.diff(spans.to_ranges(cuts)[0]))
    take = pa.array(touched)
    left[touched] = np.diff(shingle_sets(spans.cut(texts.take(take), cuts.take(take)), 1)[1]) > 0
    return ~left


def _lifted(ranges: pa.ListArray, view: View, text: np.ndarray) -> pa.ListArray:
    """``ranges`` of the texts ``text`` of ``view`` in the coordinates of the shard."""
    return ranges if view.cuts is None else spans.lift(ranges, view.cuts.take(pa.array(text)))


def _report(build: Build, item: str) -> Outcome:
    items, rare = _items(build), _rare(build)
    documents: dict[int, list[dict[str, Any]]] = {}
    for shard in build.shards():
        for row in shards.read_table(_path(build, "held", shard)).to_pylist():
            ranges = [[part["start"], part["end"]] for part in row["ranges"]]
            entry = {"document": row["document"], "overlap": row["overlap"], "bytes": ranges}
            documents.setdefault(row["item"], []).append(entry)
    lists = rows.column(items, "grams")
    names, sets = items["item"].to_pylist(), items["set"].to_pylist()
    report = {
        chosen.name: {"items": 0, "held": {}, "not_checkable": [], "common": []} for chosen in _config(build).sets
    }
    for number, (name, grams) in enumerate(zip(names, lists, strict=True)):
        entry = report[sets[number]]
        entry["items"] += 1
        if not len(grams.values):
            entry["not_checkable"].append(name)
        elif not rare[grams.values.to_numpy()].any():
            entry["common"].append(name)
        if number in documents:
            entry["held"][name] = documents[number]
    files.write_json(build.path(item), report)
    return Outcome(len(items))

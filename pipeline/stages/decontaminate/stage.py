"""Decontamination: documents that hold items of evaluation sets (Brown et al. 2020, appendix C: 13-grams, rare ones).

An item is held by a document if a share of ``min_overlap`` of its grams stands there, or of those of a part of it: the
text between the labels that all items of a set share (see ``prompts``). A gram that stands in more than
``max_document_frequency`` of the documents, and in more than ``frequency_floor``, is common (a famous quotation,
boilerplate): it counts neither as found nor among the item's. What is not acted upon for that reason alone is counted;
an item of fewer than ``min_words`` words cannot be checked. The report names both.

    work/decontaminate.index/{items,grams}.arrow   work/decontaminate.hits/<shard>   work/decontaminate.frequency/
    work/decontaminate.{held,passed}/<shard>   decontamination.json (per set and item: documents, overlap, byte ranges)
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator, model_validator

from pipeline import MillError
from pipeline.build import row_numbers
from pipeline.build.build import Build, Made, Outcome, Step, View, make
from pipeline.build.canaries import SALT, Canaries, Canary, Host, Maker, Room
from pipeline.build.stage import Stage
from pipeline.stages.decontaminate import evaluation_sets, prompts
from pipeline.stages.decontaminate.grams import Grams, find, item_grams
from pipeline.store import files, ledger, recipe_file, shards
from pipeline.text import folding, seams, spans
from pipeline.text.hashing import document_hash
from pipeline.text.shingles import shingle_sets

VERSION = 3
NAME = "decontaminate"
RULE = "decontaminate.overlap"
#: Documents that were searched, in the metadata of the hits and of the frequencies.
_DOCUMENTS = b"corpusmill.documents"


class Config(recipe_file.Config):
    """``cut_span`` cuts the grams of the items held, and drops a document only if no word would be left.

    Brown et al. call a gram common that stands in more than ten documents, whatever their number; but a popular item
    stands in many, and then nothing would be done about it. A share grows with the corpus.
    """

    sets: Annotated[list[evaluation_sets.EvaluationSet], Field(min_length=1)] = Field(
        description="The evaluation sets whose items are searched for."
    )
    ngram: Annotated[int, Field(ge=1, le=100)] = Field(
        default=13, description="Words of a run that an item is recognised by (Brown et al. 2020: 13)."
    )
    min_words: Annotated[int, Field(ge=1)] = Field(
        default=8, description="Items of fewer words are not searched for, because too many texts hold them by chance."
    )
    min_overlap: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.5, description="Share of an item's word runs from which on a document holds the item."
    )
    max_document_frequency: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.001, description="Share of the documents above which a word run is common and does not count."
    )
    frequency_floor: Annotated[int, Field(ge=0)] = Field(
        default=100, description="A word run in at most this many documents always counts, however small the corpus."
    )
    action: Literal["drop_document", "cut_span"] = Field(
        default="drop_document",
        description="Whether a document that holds an item is dropped, or only the item cut from it.",
    )

    @field_validator("max_document_frequency", mode="before")
    @classmethod
    def _is_a_share(cls, value: Any) -> Any:
        if isinstance(value, int | float) and value > 1:
            raise MillError(f"{value} is not a share; for a number of documents use `frequency_floor: {value}`")
        return value

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
    return build.section("decontaminate")


def _path(build: Build, step: str, item: str) -> str:
    return build.path("work", f"{NAME}.{step}", item)


def _index(build: Build, item: str) -> Outcome:
    config = _config(build)
    digests = [evaluation_sets.digest(chosen) for chosen in config.sets]
    made_by = files.fingerprint(
        NAME, VERSION, folding.UNICODE_VERSION, config.sets, config.ngram, config.min_words, digests
    )
    paths = _path(build, "index", "items.arrow"), _path(build, "index", item)
    return make(paths, made_by, partial(_grams, config))


def _grams(config: Config) -> Made:
    items = list(_to_search(config.sets))
    texts = pa.array([text for _, _, text in items], pa.string())
    grams, words, offsets, members = item_grams(texts, config.ngram, config.min_words)
    lists = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(members.astype(np.int32)))
    columns = {
        "number": pa.array([number for number, _, _ in items], pa.int64()),
        "set": pa.array([entry.set for _, entry, _ in items], pa.string()),
        "item": pa.array([entry.id for _, entry, _ in items], pa.string()),
        "text": texts,
        "words": pa.array(words),
        "grams": lists,
    }
    table = pa.table({name: pa.array(values) for name, values in grams._asdict().items()})
    return Outcome(len(items), texts.nbytes), pa.table(columns), table


def _to_search(sets: Sequence[evaluation_sets.EvaluationSet]) -> Iterator[tuple[int, evaluation_sets.Item, str]]:
    """Number, item and text of every item, and of every part of it that may stand without the rest."""
    number = 0
    for chosen in sets:
        items = list(evaluation_sets.read(chosen))
        for item, parts in zip(items, prompts.parts([item.text for item in items]), strict=True):
            yield number, item, item.text
            yield from ((number, item, part) for part in parts)
            number += 1


def _items(build: Build) -> pa.Table:
    return shards.read_table(_path(build, "index", "items.arrow"))


def _search(build: Build, shard: str) -> Outcome:
    """Every place where a gram of an item stands: ``text`` (among those alive), ``gram``, ``start``, ``end``."""
    config = _config(build)
    index = _path(build, "index", "grams.arrow")
    made_by = files.fingerprint(NAME, VERSION, row_numbers.fingerprints([index]), build.view_fingerprint(shard, NAME))

    def places() -> Made:
        view, table = build.view(shard, before=NAME), shards.read_table(index)
        grams = Grams(*(row_numbers.array(table, name) for name in Grams._fields))
        hits = find(view.texts, grams, row_numbers.column(_items(build), "text"), config.ngram, config.min_words)
        columns = dict(zip(("text", "gram", "start", "end"), map(pa.array, hits), strict=True))
        searched = {_DOCUMENTS: str(len(view.texts))}
        return Outcome(len(view.texts), view.texts.nbytes), pa.table(columns, metadata=searched)

    return make(_path(build, "hits", shard), made_by, places)


def _hits(build: Build, shard: str) -> tuple[np.ndarray, ...]:
    table = shards.read_table(_path(build, "hits", shard))
    return tuple(row_numbers.array(table, name) for name in ("text", "gram", "start", "end"))


def _count(build: Build, item: str) -> Outcome:
    """In how many documents each gram stands."""
    inputs = [_path(build, "hits", shard) for shard in build.shards()]
    made_by = files.fingerprint("decontaminate.frequency", VERSION, row_numbers.fingerprints(inputs))

    def counts() -> Made:
        grams = len(shards.read_table(_path(build, "index", "grams.arrow")))
        frequency, documents = np.zeros(grams, np.int64), 0
        for shard, source in zip(build.shards(), inputs, strict=True):
            text, gram, _, _ = _hits(build, shard)
            frequency += np.bincount(np.unique(np.stack([text, gram]), axis=1)[1], minlength=grams)
            documents += int((shards.read_metadata(source) or {})[_DOCUMENTS])
        return Outcome(), pa.table({"documents": frequency}, metadata={_DOCUMENTS: str(documents)})

    return make(_path(build, "frequency", item), made_by, counts)


def _most(build: Build) -> int:
    """In how many documents a gram that counts may stand."""
    documents = (shards.read_metadata(_path(build, "frequency", "frequency.arrow")) or {})[_DOCUMENTS]
    config = _config(build)
    return max(int(config.max_document_frequency * int(documents)), config.frequency_floor)


def _rare(build: Build) -> np.ndarray:
    """bool, one a gram: whether it counts."""
    frequency = row_numbers.array(shards.read_table(_path(build, "frequency", "frequency.arrow")), "documents")
    return frequency <= _most(build)


def _judge(build: Build, shard: str) -> Outcome:
    config = _config(build)
    inputs = [_path(build, "hits", shard), _path(build, "frequency", "frequency.arrow")]
    made_by = files.fingerprint(
        NAME,
        VERSION,
        config.model_dump(mode="json"),
        row_numbers.fingerprints(inputs),
        build.view_fingerprint(shard, NAME),
    )
    paths = _path(build, "held", shard), _path(build, "passed", shard), build.ledger_path(NAME, shard)
    return make(paths, made_by, partial(_verdicts, config, build, shard))


def _verdicts(config: Config, build: Build, shard: str) -> Made:
    view, items = build.view(shard, before=NAME), _items(build)
    rare = _rare(build)
    text, item, overlap, ranges = _pairs(build, shard, items, rare)
    matches = overlap >= config.min_overlap
    names = row_numbers.column(items.group_by("number").aggregate([("item", "min")]).sort_by("number"), "item_min")
    count = np.bincount(text[matches], minlength=len(view.texts))
    largest = np.zeros(len(view.texts))
    best = np.full(len(view.texts), -1)
    order = np.lexsort((-item, overlap, text))  # the last entry of a text: the largest share, the first such item
    largest[text[order]], best[text[order]] = overlap[order], item[order]
    chosen = pa.array(np.flatnonzero(matches))
    ranges = ranges.take(chosen)
    columns: dict[str, pa.Array] = {
        "contaminated_items": pa.array(count.astype(np.int32)),
        "contamination_overlap": pa.array(largest),
        "contamination_item": names.take(pa.array(best, mask=best < 0)),
    }
    dropped = count > 0
    if config.action == "cut_span":
        cuts = _by_text(text[matches], ranges, len(view.texts))
        dropped &= _without_words(view.texts, cuts)
        stays = pa.array(np.arange(len(dropped)), mask=dropped)
        tidied = seams.columns(seams.tidy(view.texts, cuts), view.cuts)
        columns |= {name: column.take(stays) for name, column in tidied.items()}
    verdicts = ledger.Verdicts(
        np.where(dropped, 0, -1).astype(np.int16), largest, np.full(len(largest), config.min_overlap), (RULE,)
    )
    entries = {
        "document": view.documents["id"].take(pa.array(text[matches])),
        "item": pa.array(item[matches]),
        "overlap": pa.array(overlap[matches]),
        "ranges": _lifted(ranges, view, text[matches]),
    }
    passed = _passed(build, shard, items, rare, set(zip(text[matches], item[matches], strict=True)))
    entry = ledger.spread(view.alive, {**columns, **verdicts.columns()})
    return Outcome(len(view.texts), view.texts.nbytes), pa.table(entries), passed, pa.table(entry)


def _pairs(
    build: Build, shard: str, items: pa.Table, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, pa.ListArray]:
    """``(text, item, overlap, ranges)``, ascending: each pair with a gram of ``counts`` (bool, one a gram) in common.

    ``item`` is its number; ``overlap`` the largest share among it and its parts; ``ranges`` where its grams stand.
    """
    lists, number = row_numbers.column(items, "grams"), row_numbers.array(items, "number")
    offsets, members = lists.offsets.to_numpy(), lists.values.to_numpy()
    owners = np.repeat(np.arange(len(items)), np.diff(offsets))
    countable = np.bincount(owners, weights=counts[members], minlength=len(items))
    order = np.argsort(members, kind="stable")
    first = np.searchsorted(members[order], np.arange(len(counts) + 1))
    hits = _hits(build, shard)
    text, gram, start, end = (values[counts[hits[1]]] for values in hits)
    many = np.diff(first)[gram]  # how many items and parts have the gram that was found
    hit = np.repeat(np.arange(len(gram)), many)
    within = np.arange(len(hit)) - np.repeat(np.cumsum(many) - many, many)
    row = owners[order][first[gram[hit]] + within]
    codes, place = np.unique(text[hit] * max(len(items), 1) + row, return_inverse=True)
    distinct = np.unique(np.stack([place, gram[hit]]), axis=1)[0]
    texts, part = np.divmod(codes, max(len(items), 1))
    shares = np.bincount(distinct, minlength=len(codes)) / countable[part]
    pairs, pair = np.unique(texts * max(len(items), 1) + number[part], return_inverse=True)
    overlap = np.zeros(len(pairs))
    np.maximum.at(overlap, pair, shares)
    order = np.lexsort((end[hit], start[hit], pair[place]))
    edges = np.searchsorted(pair[place][order], np.arange(len(pairs) + 1))
    ranges = spans.merge([spans.from_ranges(edges, start[hit][order], end[hit][order])])
    return *np.divmod(pairs, max(len(items), 1)), overlap, ranges


def _passed(build: Build, shard: str, items: pa.Table, rare: np.ndarray, matches: set[tuple[int, int]]) -> pa.Table:
    """What would be held if common grams counted: of each item, and of each set (``item`` null), how many documents,
    and the first of them by id.
    """
    schema = pa.schema(
        [("set", pa.string()), ("item", pa.int64()), ("documents", pa.int64()), ("example", pa.string())]
    )
    text, item, overlap, _ = _pairs(build, shard, items, np.ones(len(rare), bool))
    enough = np.flatnonzero(overlap >= _config(build).min_overlap)
    pairs = [(text[i], item[i]) for i in enough.tolist() if (text[i], item[i]) not in matches]
    if not pairs:
        return schema.empty_table()
    sets = dict(zip(items["number"].to_pylist(), items["set"].to_pylist(), strict=True))
    ids = build.view(shard, before=NAME).documents["id"]
    documents: dict[tuple[str, int | None], set[str]] = {}
    for row, number in pairs:
        for key in ((sets[number], int(number)), (sets[number], None)):
            documents.setdefault(key, set()).add(ids[row].as_py())
    rows = [
        {"set": chosen, "item": number, "documents": len(names), "example": min(names)}
        for (chosen, number), names in documents.items()
    ]
    return pa.Table.from_pylist(rows, schema)


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
    items = _items(build)
    documents: dict[int, list[dict[str, Any]]] = {}
    passed: dict[tuple[str, int | None], tuple[int, str]] = {}
    for shard in build.shards():
        for row in shards.read_table(_path(build, "held", shard)).to_pylist():
            ranges = [[part["start"], part["end"]] for part in row["ranges"]]
            entry = {"document": row["document"], "overlap": row["overlap"], "bytes": ranges}
            documents.setdefault(row["item"], []).append(entry)
        for row in shards.read_table(_path(build, "passed", shard)).to_pylist():
            before = passed.get((row["set"], row["item"]), (0, row["example"]))
            more = before[0] + row["documents"], min(before[1], row["example"])
            passed[row["set"], row["item"]] = more
    report: dict[str, dict[str, Any]] = {
        chosen.name: {"items": 0, "held": {}, "not_checkable": [], "common": {}, "common_documents": 0}
        for chosen in _config(build).sets
    }
    checkable = items.filter(pc.greater(pc.list_value_length(items["grams"]), 0))["number"].to_pylist()
    every = dict(
        zip(
            items["number"].to_pylist(),
            zip(items["set"].to_pylist(), items["item"].to_pylist(), strict=True),
            strict=True,
        )
    )
    for number in sorted(every.keys() - set(checkable)):
        report[every[number][0]]["not_checkable"].append(every[number][1])
    for number, (chosen, name) in every.items():
        entry = report[chosen]
        entry["items"] += 1
        if number in documents:
            entry["held"][name] = documents[number]
        if (chosen, number) in passed:
            entry["common"][name] = dict(zip(("documents", "example"), passed[chosen, number], strict=True))
    for chosen, entry in report.items():
        entry["common_documents"], _ = passed.get((chosen, None), (0, ""))
        entry["common_above"] = _most(build)
    files.write_json(build.path(item), report)
    return Outcome(len(every))


def _digests(build: Build) -> list[list[str]]:
    config = build.section(NAME)
    return [] if config is None else [evaluation_sets.digest(chosen) for chosen in config.sets]


def _plant(build: Build, choices: Sequence[random.Random]) -> Iterator[Maker]:
    """Items that can be checked, chosen by the hash of their text."""
    items = _items(build)
    items = items.filter(pc.greater(pc.list_value_length(items["grams"]), 0))
    order = document_hash(items["text"].combine_chunks(), build.recipe.seed ^ SALT)
    rows = items.take(pa.array(np.argsort(order, kind="stable")[: len(choices)])).to_pylist()
    return (
        partial(_with_item, rng=rng, item=f"{row['set']}: {row['item']}", text=row["text"])
        for rng, row in zip(choices, rows, strict=False)
    )


def _with_item(host: Host, rng: random.Random, item: str, text: str) -> Canary:
    """The host with an evaluation item between two of its lines."""
    lines = host.text.split("\n")
    at = rng.randrange(len(lines) + 1)
    return Canary("\n".join([*lines[:at], text, *lines[at:]]), item, host)


def _caught(room: Room, canaries: Mapping[str, Canary]) -> set[str]:
    report = files.read_json(room.build.path("decontamination.json"))
    finds = {
        (f"{chosen}: {item}", entry["document"])
        for chosen, result in report.items()
        for item, entries in result["held"].items()
        for entry in entries
    }
    return {name for name, canary in canaries.items() if (canary.fact, name) in finds}


STAGE = Stage(
    name=NAME,
    title="Decontamination",
    about="drop or cut documents that hold items of evaluation sets",
    config=Config,
    steps=steps,
    canaries=Canaries("evaluation items", _plant, _caught, inputs=_digests),
)

"""Passages that occur more than once, cut everywhere but once; what ``passages`` and ``substring`` have in common.

A passage is a run of a given number of units (tokens, sentences, lines, paragraphs). All documents stand in one order,
the one to keep first (``keep``). A passage that has occurred before, in an earlier document or earlier in its own
without overlap, is cut. So every unit that is cut stands in an earlier passage, too: there it is kept, or cut again for
one yet earlier, and nothing is lost altogether. Whitespace around a cut is tidied, and words do not grow together
(``seams``). A few words between two cuts go with them, and a document of which only a few would be left is dropped,
unless others' passages are kept there.

Out of core: every shard writes the hashes of its passages in ascending order, every partition of the hash space finds
those that occur again, every shard unites what was found into byte ranges. Two different passages are taken for one
with a probability of 2**-64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipeline.build import row_numbers
from pipeline.build.build import Build, Made, Outcome, Step, make
from pipeline.stages.dedup import exchange
from pipeline.stages.dedup.survivors import Keep, facts, survivors_first
from pipeline.store import files, ledger, shards
from pipeline.store.recipe_file import Config
from pipeline.text import folding, seams, spans
from pipeline.text.buffers import text_buffers
from pipeline.text.jit import njit
from pipeline.text.shingles import roll, word_counts, words_between
from pipeline.text.units import Unit, code_of, split_units

VERSION = 3

# no empty tables: pyarrow imports pandas for the first of them, which takes longer than this module
_ROWS = pa.schema([("row", pa.int64())])
_FOUND = pa.schema([("row", pa.int64()), ("survivor", pa.int64())])
_FOUND_IDS = pa.schema([("row", pa.int64()), ("survivor", pa.int64()), ("id", pa.string())])

#: A partition holds the passages of about this much text: at most some hundred million bytes of hashes.
PARTITION_BYTES = 1 << 27


Length = Annotated[int, Field(ge=1, le=10_000)]
Minimum = Annotated[int, Field(ge=0)]
#: Of fewer words nothing can be learned; a shorter rest than 10 is a heading, a date or a broken sentence.
_WORDS_LEFT = 10


class Repeats(Config):
    """``length`` units make a passage; one with fewer than ``minimum`` characters (whitespace aside) is never cut."""

    unit: Annotated[Unit, Field(description="unit that passages are made of")]
    length: Annotated[Length, Field(description="units in a passage")]
    minimum: Annotated[Minimum, Field(description="characters, whitespace aside, below which a passage is never cut")]
    keep: Annotated[
        Keep,
        Field(
            description="document whose copy of a passage stays: the longest, the earliest, by order of sources,"
            " or highest by a signal"
        ),
    ] = "longest"
    min_words_left: Annotated[int, Field(ge=0)] = Field(
        default=_WORDS_LEFT,
        description="A document of which something was cut and fewer words are left is dropped; so are fewer words"
        " between two cuts; 0 keeps every rest.",
    )


def steps(stage: str, title: str) -> list[Step]:
    return [
        Step(f"{stage}.hashes", f"{title}: hashes", Build.shards, partial(_hash_shard, stage)),
        Step(f"{stage}.exchange", f"{title}: hashes by partition", _groups, partial(_exchange, stage)),
        Step(f"{stage}.packed", f"{title}: documents in groups", _groups, partial(_pack, stage)),
        Step(f"{stage}.repeats", f"{title}: repeats", _bundles, partial(_find_repeats, stage)),
        Step(f"{stage}.found", f"{title}: repeats by shard", _groups, partial(_gather, stage)),
        Step(stage, title, Build.shards, partial(_judge_shard, stage)),
    ]


def _config(build: Build, stage: str) -> Repeats:
    return build.section(stage)


def _partitions(build: Build) -> list[str]:
    return row_numbers.partition_names(row_numbers.corpus_size(build, "bytes"), PARTITION_BYTES)


def _groups(build: Build) -> list[str]:
    return exchange.group_names(len(build.shards()))


def _bundles(build: Build) -> list[str]:
    return exchange.bundles(_partitions(build), len(build.shards()))


def _hash_shard(stage: str, build: Build, shard: str) -> Outcome:
    """Two tables: of each document its row, first unit and ``keep.facts``; of each passage its hash and first unit."""
    config = _config(build, stage)
    made_by = files.fingerprint(stage, VERSION, config, folding.UNICODE_VERSION, build.view_fingerprint(shard, stage))

    def tables() -> Made:
        view = build.view(shard, before=stage)
        hashes, units, first = passages(view.texts, config)
        columns = {"row": pa.array(view.rows), "unit": pa.array(first[:-1]), **facts(config.keep, view)}
        order = np.argsort(hashes, kind="stable")
        by_hash = pa.table({"hash": hashes[order], "unit": units[order]})
        return Outcome(len(view.texts), view.texts.nbytes), pa.table(columns), by_hash

    return make([build.path("work", f"{stage}.{name}", shard) for name in ("documents", "hashes")], made_by, tables)


def passages(texts: pa.StringArray, config: Repeats) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(hashes, units, first)``: of each passage its hash (uint64) and the number of its first unit (int32), counted
    over all texts; and of each text the number of its first unit (int32 [n + 1]).
    """
    data, offsets = text_buffers(texts)
    tables = folding.word_table(), folding.text_table(case=False)
    return _passages(data, offsets, *tables, code_of(config.unit), config.length, config.minimum)


@njit(cache=True, nogil=True)
def _passages(data, offsets, words, spaces, unit, length, minimum):
    hashes, starts, ends, sizes = _room(offsets)
    first = np.zeros(len(offsets), np.int32)
    keys, units, size = np.empty(1024, np.uint64), np.empty(1024, np.int32), 0
    for text in range(len(offsets) - 1):
        count = split_units(data, offsets[text], offsets[text + 1], unit, words, spaces, hashes, starts, ends, sizes)
        first[text + 1] = first[text] + count
        runs = roll(hashes, count, length)
        if runs == 0:
            continue
        if size + runs > len(keys):
            more = np.empty(2 * (size + runs), np.uint64)
            more[:size] = keys[:size]
            keys = more
            more_units = np.empty(2 * (size + runs), np.int32)
            more_units[:size] = units[:size]
            units = more_units
        characters = sizes[:length].sum()
        for i in range(runs):
            if characters >= minimum:
                keys[size], units[size] = hashes[i], first[text] + i
                size += 1
            if i + 1 < runs:
                characters += sizes[i + length] - sizes[i]
    return keys[:size].copy(), units[:size].copy(), first


@njit(cache=True, nogil=True)
def _room(offsets):
    longest = 0
    for text in range(len(offsets) - 1):
        longest = max(longest, offsets[text + 1] - offsets[text])
    return (
        np.empty(longest, np.uint64),
        np.empty(longest, np.int64),
        np.empty(longest, np.int64),
        np.empty(longest, np.int64),
    )


def _hash_paths(stage: str, build: Build) -> list[str]:
    return [build.path("work", f"{stage}.hashes", shard) for shard in build.shards()]


def _exchange(stage: str, build: Build, group: str) -> Outcome:
    paths = _hash_paths(stage, build)
    return exchange.scatter(build, f"{stage}.exchange", group, paths, _bundles(build), "hash", _part)


def _part(number: int, table: pa.Table, partition: str) -> pa.Table:
    """What the shard ``number`` has of ``partition``, with global numbers of units."""
    hashes = row_numbers.array(table, "hash")
    here = row_numbers.part_of(hashes, partition)
    units = row_numbers.array(table, "unit")[here] + np.int64(number * row_numbers.SHARD)
    return pa.table({"hash": hashes[here], "unit": units})


def _pack(stage: str, build: Build, group: str) -> Outcome:
    paths = [build.path("work", f"{stage}.documents", shard) for shard in build.shards()]
    return exchange.pack(build, f"{stage}.packed", group, paths, ["unit", "rank", "tie", "id"])


def _gather(stage: str, build: Build, group: str) -> Outcome:
    inputs = len(build.shards())
    of = [
        exchange.gather(
            build,
            f"{stage}.{name}.found",
            group,
            [build.path("work", f"{stage}.{name}", f"{bundle}.{group}") for bundle in _bundles(build)],
            inputs,
        )
        for name in ("keepers", "repeats")
    ]
    return exchange.together(of)


def _find_repeats(stage: str, build: Build, partition: str) -> Outcome:
    """Of each passage to cut: ``row``, its first unit (shard times ``rows.SHARD`` plus number, ascending), and
    ``survivor``, the document that has it first (shard times ``rows.SHARD`` plus place among its documents). Beside it
    the distinct survivors of other documents' passages, ``row``.
    """
    paths = _hash_paths(stage, build)
    if exchange.groups(inputs := len(paths)):
        paths = exchange.between(build, f"{stage}.exchange", partition, inputs)
        paths += exchange.packed(build, f"{stage}.packed", inputs)
        made_by = files.fingerprint(f"{stage}.repeats", VERSION, partition, row_numbers.fingerprints(paths))
        outputs = [exchange.between(build, f"{stage}.{name}", partition, inputs) for name in ("keepers", "repeats")]
        return make(
            [path for each in outputs for path in each],
            made_by,
            partial(_exchanged_repeats, stage, build, partition, inputs),
        )
    made_by = files.fingerprint(f"{stage}.repeats", VERSION, partition, row_numbers.fingerprints(paths))
    outputs = [build.path("work", f"{stage}.{name}", partition) for name in ("keepers", "repeats")]
    return make(outputs, made_by, partial(_direct_repeats, stage, build, partition, paths))


def _direct_repeats(stage: str, build: Build, partition: str, paths: Sequence[str]) -> Made:
    parts = [_part(number, shards.read_table(file), partition) for number, file in enumerate(paths)]
    documents = partial(_documents, stage, build)
    return _repeats(pa.concat_tables(parts), documents, len(paths), _config(build, stage).length)


def _exchanged_repeats(stage: str, build: Build, bundle: str, inputs: int) -> Made:
    tables = [shards.read_table(path) for path in exchange.between(build, f"{stage}.exchange", bundle, inputs)]
    packs = exchange.packed(build, f"{stage}.packed", inputs)
    documents = [table for path in packs for table in shards.read_batches(path)].__getitem__
    count, keepers, repeats = 0, [], []
    for partition in exchange.inside(bundle, _partitions(build)):
        passages = pa.concat_tables(exchange.slices(tables, "hash", partition))
        outcome, kept, cut = _repeats(passages, documents, inputs, _config(build, stage).length)
        count, keepers, repeats = count + outcome.documents, [*keepers, kept], [*repeats, _with_ids(cut, documents)]
    tables = [pa.concat_tables(each).sort_by("row").combine_chunks() for each in (keepers, repeats)]
    return Outcome(count), *(part for table in tables for part in exchange.by_group(table, inputs))


def _with_ids(cut: pa.Table, documents: Callable[[int], pa.Table]) -> pa.Table:
    """``cut`` with a column ``id``: the survivor's, at the first row of each shard that has it."""
    shard, survivor = row_numbers.array(cut, "row") // row_numbers.SHARD, row_numbers.array(cut, "survivor")
    order = np.lexsort((survivor, shard))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(shard[order]) != 0) | (np.diff(survivor[order]) != 0)
    first = np.zeros(len(order), bool)
    first[order[new]] = True
    distinct, entry = np.unique(survivor, return_inverse=True)
    ids = row_numbers.column(_take(documents, distinct), "id").take(pa.array(entry, mask=~first))
    return cut.append_column("id", ids)


def _repeats(
    passages: pa.Table, documents: Callable[[int], pa.Table], inputs: int, length: int
) -> tuple[Outcome, pa.Table, pa.Table]:
    """What ``_find_repeats`` writes of ``passages`` (``hash`` and global ``unit``); ``documents``: those of a shard."""
    hashes, units = row_numbers.array(passages, "hash"), row_numbers.array(passages, "unit")
    order = np.argsort(hashes, kind="stable")
    hashes, units = hashes[order], units[order]
    again = np.zeros(len(hashes), bool)
    again[1:] = hashes[1:] == hashes[:-1]
    shared = again.copy()
    shared[:-1] |= again[1:]
    group, units = np.cumsum(~again[shared]), units[shared]
    document, place = _in_order_of_preference(documents, inputs, units)
    order = np.lexsort((units, place, group))
    group, units, document = group[order], units[order], document[order]
    first = np.searchsorted(group, group)
    overlaps = (document == document[first]) & (units < units[first] + length)
    cut = ~overlaps  # a passage overlaps with itself
    rows = pa.table({"row": units[cut], "survivor": document[first[cut]]}).sort_by("row")
    kept = document[first[cut]]
    return Outcome(len(np.unique(document))), pa.table({"row": np.unique(kept[kept != document[cut]])}), rows


def _documents(stage: str, build: Build, number: int) -> pa.Table:
    return shards.read_table(build.path("work", f"{stage}.documents", build.shards()[number]))


def _in_order_of_preference(
    documents: Callable[[int], pa.Table], inputs: int, units: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of each of ``units`` its document, and the place of that document in the order of all documents of ``units``."""
    document = np.empty(len(units), np.int64)
    shard = units // row_numbers.SHARD
    by_shard = np.argsort(shard, kind="stable")
    edges = np.searchsorted(shard[by_shard], np.arange(inputs + 1))
    for number in np.unique(shard).tolist():
        here = by_shard[edges[number] : edges[number + 1]]
        first = row_numbers.array(documents(number), "unit")
        in_shard = np.searchsorted(first, units[here] - number * row_numbers.SHARD, side="right") - 1
        document[here] = in_shard + number * row_numbers.SHARD
    distinct, inverse = np.unique(document, return_inverse=True)
    place = np.empty(len(distinct), np.int64)
    place[survivors_first(np.zeros(len(distinct), np.int64), _take(documents, distinct))] = np.arange(len(distinct))
    return document, place[inverse]


def _take(documents: Callable[[int], pa.Table], chosen: np.ndarray) -> pa.Table:
    """The ``keep.facts`` of the documents ``chosen``, which ascend. Opens only the shards that have some."""
    parts = []
    for number in np.unique(chosen // row_numbers.SHARD).tolist() or [0]:  # with none, the columns without rows
        first, last = np.searchsorted(chosen, [number * row_numbers.SHARD, (number + 1) * row_numbers.SHARD])
        table = documents(number).select(["rank", "tie", "id"])
        parts.append(table.take(pa.array(chosen[first:last] - number * row_numbers.SHARD)))
    return pa.concat_tables(parts).combine_chunks()


def _judge_shard(stage: str, build: Build, shard: str) -> Outcome:
    """The ledger: ``spans``; as signals the share of a document's units that is cut, ``<stage>_fraction``, and the ids
    of the documents that keep them, ``<stage>_survivors``, and the words that are left where something is cut,
    ``<stage>_words_left``, and how many pieces of a few words between two cuts went, too, ``<stage>_fragments``. A
    document of which nothing would be left is dropped, and one with a rest of a few words.
    """
    config, number, every = _config(build, stage), build.place(shard), build.shards()
    grouped = bool(exchange.groups(len(every)))
    keepers, findings = (
        row_numbers.in_shard(
            [schema.empty_table(), *map(shards.read_table, _findings(stage, build, name, number))], number
        )
        for name, schema in (("keepers", _ROWS), ("repeats", _FOUND_IDS if grouped else _FOUND))
    )
    kept = np.unique(row_numbers.array(keepers, "row"))
    units, survivors = row_numbers.array(findings, "row"), row_numbers.array(findings, "survivor")
    holders, holder = np.unique(survivors // row_numbers.SHARD, return_inverse=True)
    cuts = pa.table({"row": units, "holder": holder, "survivor": survivors % row_numbers.SHARD})
    if grouped:
        named = findings.filter(pc.is_valid(findings["id"]))
        distinct, entry = np.unique(row_numbers.array(named, "survivor"), return_index=True)
        ids = row_numbers.column(named, "id").take(pa.array(entry))
        names = row_numbers.digest(pa.table({"survivor": distinct % row_numbers.SHARD, "id": ids}))
    else:
        ids = None
        names = row_numbers.fingerprints(
            [build.path("work", f"{stage}.documents", every[place]) for place in holders.tolist()]
        )
    made_by = files.fingerprint(
        [stage, VERSION, config, folding.UNICODE_VERSION],
        build.view_fingerprint(shard, stage),
        row_numbers.digest(cuts),
        row_numbers.digest(pa.table({"row": kept})),
        names,
    )
    verdicts = partial(_verdicts, stage, build, shard, kept, units, survivors, ids)
    return make(build.ledger_path(stage, shard), made_by, verdicts)


def _findings(stage: str, build: Build, name: str, number: int) -> list[str]:
    """The paths of what was found about the shard ``number``, and maybe others."""
    if exchange.groups(len(build.shards())):
        return [exchange.findings_path(build, f"{stage}.{name}.found", number)]
    return [build.path("work", f"{stage}.{name}", partition) for partition in _partitions(build)]


def _verdicts(
    stage: str,
    build: Build,
    shard: str,
    kept: np.ndarray,
    units: np.ndarray,
    survivors: np.ndarray,
    ids: pa.Array | None,
) -> Made:
    """``ids``: of the distinct ``survivors``, ascending; None where the shards that hold them say them."""
    config, view = _config(build, stage), build.view(shard, before=stage)
    ranges, fraction = cut_units(view.texts, config, units)
    whole = fraction == 1
    keeps = np.zeros(len(whole), bool)
    keeps[kept] = True
    ranges, fragments = without_fragments(view.texts, ranges, config.min_words_left, keeps)
    tidied = seams.tidy(view.texts, ranges)
    touched = np.diff(spans.to_ranges(tidied.cuts)[0]) > 0
    words = np.full(len(whole), -1)
    words[touched] = word_counts(_rest(view.texts, tidied, touched))
    short = touched & (words < config.min_words_left) & ~keeps
    verdicts = ledger.Verdicts(
        np.where(whole, 0, np.where(short, 1, -1)).astype(np.int16),
        np.where(short, words, fraction),
        np.where(short, config.min_words_left, 1.0),
        (f"{stage}_repeated", f"{stage}_remainder"),
    )
    stays = pa.array(np.arange(len(short)), mask=short)
    columns = {
        **verdicts.columns(),
        **{name: column.take(stays) for name, column in seams.columns(tidied, view.cuts).items()},
        f"{stage}_fraction": pa.array(fraction),
        f"{stage}_fragments": pa.array(fragments),
        f"{stage}_words_left": pa.array(words.astype(np.int32), mask=~touched),
        f"{stage}_survivors": _survivors(stage, build, shard, units, survivors, ids),
    }
    return Outcome(len(view.texts), view.texts.nbytes), pa.table(ledger.spread(view.alive, columns))


def without_fragments(
    texts: pa.StringArray, ranges: pa.ListArray, least: int, spared: np.ndarray
) -> tuple[pa.ListArray, np.ndarray]:
    """``ranges`` and the pieces of fewer than ``least`` words between two of them; int32 [n]: how many pieces of each.

    None of the texts ``spared`` (bool [n]).
    """
    offsets, starts, ends = spans.to_ranges(ranges)
    text = np.repeat(np.arange(len(texts)), np.diff(offsets))
    after = np.flatnonzero((text[1:] == text[:-1]) & ~spared[text[1:]])
    data, first = text_buffers(texts)
    edges = np.stack([ends[after], starts[after + 1]], 1) + first[text[after], None]
    short = after[words_between(data, edges.ravel())[::2] < least]
    pieces = np.bincount(text[short], minlength=len(texts))
    between = spans.from_ranges(np.concatenate([[0], np.cumsum(pieces)]), ends[short], starts[short + 1])
    return spans.merge([ranges, between]), pieces.astype(np.int32)


def _rest(texts: pa.StringArray, tidied: seams.Tidied, chosen: np.ndarray) -> pa.StringArray:
    """What is left of the texts ``chosen`` (bool)."""
    mask = pa.array(chosen)
    texts, cuts, overwrites, fill = (array.filter(mask) for array in (texts, *tidied))
    return spans.cut(spans.overwrite(texts, overwrites, fill), cuts)


def cut_units(texts: pa.StringArray, config: Repeats, passages: np.ndarray) -> tuple[pa.ListArray, np.ndarray]:
    """What to cut where passages start at the units ``passages`` (int64, ascending, counted over all texts).

    Returns byte ranges (``ledger.SPANS``), none for a text that would be cut whole; and the share of each text's units
    in the passages (float64 [n]; 0 for a text without units).
    """
    data, offsets = text_buffers(texts)
    tables = folding.word_table(), folding.text_table(case=False)
    span_offsets, starts, ends, fraction = _cut_units(
        data, offsets, *tables, code_of(config.unit), config.length, passages
    )
    return spans.from_ranges(span_offsets, starts, ends), fraction


@njit(cache=True, nogil=True)
def _cut_units(data, offsets, words, spaces, unit, length, passages):
    texts = len(offsets) - 1
    hashes, starts, ends, sizes = _room(offsets)
    span_offsets, fraction = np.zeros(texts + 1, np.int64), np.zeros(texts)
    out_starts, out_ends = np.empty(len(passages), np.int64), np.empty(len(passages), np.int64)
    cut_count, first, k = 0, 0, 0
    for text in range(texts):
        count = split_units(data, offsets[text], offsets[text + 1], unit, words, spaces, hashes, starts, ends, sizes)
        covered, end = 0, 0  # units cut so far, and the first one after them
        while k < len(passages) and passages[k] < first + count:
            start = passages[k] - first
            if cut_count > span_offsets[text] and start <= end:
                covered += start + length - end
            else:
                covered += length
                out_starts[cut_count] = starts[start]
                cut_count += 1
            end = start + length
            out_ends[cut_count - 1] = ends[end - 1]
            k += 1
        first += count
        if count:
            fraction[text] = covered / count
        if count and covered == count:
            cut_count = span_offsets[text]
        span_offsets[text + 1] = cut_count
    return span_offsets, out_starts[:cut_count], out_ends[:cut_count], fraction


def _survivors(
    stage: str, build: Build, shard: str, units: np.ndarray, survivors: np.ndarray, ids: pa.Array | None
) -> pa.ListArray:
    """For each document of ``shard`` the ids of those that keep what is cut from it, in the order of the cuts."""
    documents = partial(_documents, stage, build)
    own = documents(build.place(shard))
    document = np.searchsorted(row_numbers.array(own, "unit"), units, side="right") - 1
    pairs = np.stack([document, survivors], axis=1)
    changed = np.ones(len(pairs), bool)
    changed[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    _, place = np.unique(pairs[changed], axis=0, return_index=True)
    pairs = pairs[changed][np.sort(place)]
    distinct, entry = np.unique(pairs[:, 1], return_inverse=True)
    named = row_numbers.column(_take(documents, distinct), "id") if ids is None else ids
    offsets = np.searchsorted(pairs[:, 0], np.arange(len(own) + 1))
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), named.take(pa.array(entry)))

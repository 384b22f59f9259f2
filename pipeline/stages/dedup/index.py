"""Incremental deduplication: a new crawl against earlier ones, with the result of curating all at once.

A build's index holds what the exact and MinHash stages need to know of its documents: content hashes, band keys,
shingle sets, ids and what the keep policy asks. A later recipe names such folders in ``against``; their documents then
take part in both stages, and duplicates name survivors among them.

What was published cannot be edited from here. Where new documents change the verdict on an earlier one (a longer copy
arrives, or a document that joins two clusters), ``changes.arrow`` says so: take it out of the corpus, or put it back.

    index/manifest.json  index/changes.arrow  index/exact.hashes/  index/minhash.signatures/  index/minhash.shingles/
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.build import row_numbers
from pipeline.build.build import Build, Made, Outcome, Step, make
from pipeline.stages.dedup import clusters, earlier_builds, verify
from pipeline.stages.dedup.verdicts import FINDINGS
from pipeline.store import files, shards

VERSION = 1

#: The tables of an index, each one file a shard. The last column of those with ids is ``kept``: the stage's verdict.
_TABLES = {"exact": ("exact.hashes",), "minhash": ("minhash.signatures", "minhash.shingles")}

_FINDERS = {"exact": earlier_builds.exact_findings, "minhash": clusters.findings}

#: Documents of earlier builds whose verdict changed: whether they are kept now, and if not, because of which document.
CHANGES = pa.schema([("id", pa.string()), ("kept", pa.bool_()), ("duplicate_of", pa.string())])


def steps() -> list[Step]:
    """To be carried out after those of the exact and MinHash stages."""
    return [
        Step("index", "Index for later builds", Build.shards, _write_shard),
        Step("index.changes", "Changes to earlier builds", lambda _build: ["changes.arrow"], _write_changes),
        Step("index.manifest", "Write the index manifest", lambda _build: ["manifest.json"], _write_manifest),
    ]


def _stages(build: Build) -> list[str]:
    return [stage for stage in _TABLES if build.section(stage) is not None]


def _write_shard(build: Build, shard: str) -> Outcome:
    outcomes = [Outcome(reused=True)]
    for stage in _stages(build):
        for name in _TABLES[stage]:
            inputs = [build.path("work", name, shard), build.ledger_path(stage, shard)]
            view = build.view_fingerprint(shard, stage)
            made_by = files.fingerprint("index", VERSION, name, view, row_numbers.fingerprints(inputs))
            table = partial(_table, build, stage, name, shard)
            outcomes.append(make(build.path("index", name, shard), made_by, table))
    return Outcome(max(one.documents for one in outcomes), reused=all(one.reused for one in outcomes))


def _table(build: Build, stage: str, name: str, shard: str) -> Made:
    if name == "minhash.shingles":
        signed = shards.read_table(build.path("work", "minhash.signatures", shard))
        table = verify.describe(build, shard, row_numbers.array(signed, "row"))
    else:
        table = shards.read_table(build.path("work", name, shard))
    if "id" in table.column_names:
        dropped = build.ledger(stage, shard)["dropped_by"].take(table["row"])
        table = table.append_column("kept", dropped.is_null())
    return Outcome(len(table)), table


def _write_manifest(build: Build, item: str) -> Outcome:
    manifest = {
        "settings": earlier_builds.settings(build),
        "shards": build.shards(),
        "documents": row_numbers.corpus_size(build, "documents"),
    }
    path = build.path("index", item)
    if files.exists(path) and files.read_json(path) == manifest:
        return Outcome(reused=True)
    files.write_json(path, manifest)
    return Outcome(documents=manifest["documents"])


def _write_changes(build: Build, item: str) -> Outcome:
    earlier = range(earlier_builds.shards_before(build))
    findings = {stage: [_FINDERS[stage](build, number) for number in earlier or [0]] for stage in _stages(build)}
    folders = list(earlier_builds.indexes(build))
    before = [files.join(folder, "changes.arrow") for folder in folders]
    tables = [path for stage in _stages(build) for path in earlier_builds.inputs(build, _TABLES[stage][-1])]
    used = [path for path in tables if not path.startswith(build.path("work"))]
    paths = [*dict.fromkeys(path for stage in findings.values() for group in stage for path in group)]
    made_by = files.fingerprint("index.changes", VERSION, row_numbers.fingerprints([*before, *used, *paths]))
    path = build.path("index", item)
    return make(path, made_by, partial(_all_changes, build, findings, before))


def _all_changes(build: Build, findings: dict[str, list[list[str]]], before: Sequence[str]) -> Made:
    known = pa.concat_tables([*(shards.read_table(path) for path in reversed(before)), CHANGES.empty_table()])
    parts = [
        _changes(build, number, {stage: paths[number] for stage, paths in findings.items()}, known)
        for number in range(earlier_builds.shards_before(build))
    ]
    changes = pa.concat_tables([CHANGES.empty_table(), *parts])
    return Outcome(len(changes)), changes.sort_by("id")


def _changes(build: Build, number: int, findings: dict[str, list[str]], known: pa.Table) -> pa.Table:
    """What changed in the shard ``number`` of the earlier ones since ``known``, the changes so far, latest first."""
    tables = [shards.read_table(earlier_builds.inputs(build, _TABLES[stage][-1])[number]) for stage in findings]
    first = tables[0].select(["row", "id", "kept"]).sort_by("row")  # a later stage's documents are among these
    row, ids, kept = (
        row_numbers.array(first, "row"),
        row_numbers.column(first, "id"),
        row_numbers.array(first, "kept").copy(),
    )
    for table in tables[1:]:
        kept[np.searchsorted(row, row_numbers.array(table, "row"))] &= row_numbers.array(table, "kept")
    verdicts = row_numbers.column(known, "kept").take(pc.index_in(ids, value_set=row_numbers.column(known, "id")))
    kept = pc.coalesce(verdicts, pa.array(kept)).to_numpy(zero_copy_only=False)
    here = [row_numbers.of_shard(shards.read_table(path), number) for paths in findings.values() for path in paths]
    duplicates = pa.concat_tables([FINDINGS.empty_table(), *here])
    duplicates = duplicates.filter(pc.is_valid(duplicates["duplicate_of"])).combine_chunks()
    entry = np.full(len(row), -1)
    entry[np.searchsorted(row, row_numbers.array(duplicates, "row") - number * row_numbers.SHARD)] = np.arange(
        len(duplicates)
    )
    survivor = row_numbers.column(duplicates, "duplicate_of").take(pa.array(entry, mask=entry < 0))
    now = pa.table({"id": ids, "kept": entry < 0, "duplicate_of": survivor}, CHANGES)
    return now.filter(pa.array(kept != (entry < 0)))

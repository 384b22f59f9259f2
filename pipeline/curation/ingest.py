"""Ingest: from the files of the sources to document shards, in the order recipe, file name, record.

The files of a source are grouped into parts (a large file is one by itself), so that parts are units of work; each
writes its documents in shards of at most ``shard_bytes`` of text, and what it could not read to quarantine. Forgotten
documents are left out and counted. The order of the documents and their ids do not depend on either size. Memory is
bounded by the shard.

A part is named after its first file, not by its place, and other files do not change what it consists of: when files
are added, removed or changed, the parts without them stay, and so does all that was made of their shards.

    documents/<source>-<part>-<shard>.arrow     documents/manifest.json     quarantine/<source>-<part>.arrow
    work/ingest/<source>-<part>.files.json      work/ingest/<source>-<part>.json (what the part came to)
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import MillError
from pipeline.build.build import Build, Made, Outcome, Step, make
from pipeline.curation import forget_list, repair
from pipeline.sources import Source, quarantine
from pipeline.sources.base import (
    Document,
    File,
    FileConfig,
    Flagged,
    Rejected,
    Unread,
    excerpt,
    group,
    printable,
)
from pipeline.sources.base import left_out as sources_left_out
from pipeline.store import files, shards

VERSION = 2

#: A part of small files comes to this share of a shard on average: half as many bytes are read again when one of them
#: changes as with twice the share, and the build has twice as many shards.
_PART = 4


_REMEDY = "run the build again, and move files into the source's folder only when they are complete"


class SourceChanged(MillError):
    """A file of a source is not what it was when its source was listed, and what was read of it is not used."""


def steps() -> list[Step]:
    return [
        Step("ingest", "Read the sources", _plan, _read_part),
        Step("ingest.manifest", "Check what was read", lambda _build: ["manifest.json"], _write_manifest),
    ]


def _plan(build: Build) -> list[str]:
    """Names of the parts, in the order of the documents; which files each consists of is written beside them."""
    names, warnings = [], {}
    for source in build.recipe.sources:
        runs = parts(build, source)
        warnings[source.name] = sources_left_out(source) if isinstance(source, FileConfig) else []
        for run in runs:
            name = f"{source.name}-{files.fingerprint(run[0].name)[:16]}"
            named = [file._replace(path=files.masked(file.path)) for file in run]
            files.write_json(_plan_path(build, name), {"source": source.name, "files": named})
            names.append(name)
    files.write_json(build.path("work", "ingest", "plan-warnings.json"), warnings)
    files.write_json(build.path("work", "ingest", "plan.json"), names)
    return names


def parts(build: Build, source: Source) -> Iterator[list[File]]:
    """The files of ``source`` as they are read together."""
    return group(build.recipe.readers[source.kind].list_files(source), build.recipe.shard_bytes // _PART)


def _plan_path(build: Build, part: str) -> str:
    return build.path("work", "ingest", f"{part}.files.json")


def _report_path(build: Build, part: str) -> str:
    return build.path("work", "ingest", f"{part}.json")


def _quarantine_path(build: Build, part: str) -> str:
    return build.path("quarantine", f"{part}.arrow")


def _read_part(build: Build, part: str) -> Outcome:
    plan = files.read_json(_plan_path(build, part))
    source = next(source for source in build.recipe.sources if source.name == plan["source"])
    reader = build.recipe.readers[source.kind]
    run = _opened_by_name(reader, source, [File(*entry) for entry in plan["files"]])
    stamps = [_stamp(source, file) for file in run]
    content = [
        (printable(files.masked(file.path)), file.name, file.size, _identity(reader, source, file)) for file in run
    ]
    forgotten_ids = forget_list.of_files(forget_list.entries(build), source.name, run)
    text_settings = repair.settings(build.recipe.normalise)
    made_by = files.fingerprint(
        "ingest", VERSION, reader.VERSION, source, build.recipe.shard_bytes, content, forgotten_ids, text_settings
    )

    def has_tables(report: dict[str, Any]) -> bool:
        paths = [build.path("documents", shard["name"]) for shard in report["shards"]]
        expected = {path: files.fingerprint(made_by, number) for number, path in enumerate(paths)}
        expected[_quarantine_path(build, part)] = made_by
        return all(shards.read_fingerprint(path) == fingerprint for path, fingerprint in expected.items())

    def read() -> Made:
        outcome, report = _documents(build, part, source, run, forgotten_ids, made_by)
        try:
            for file, stamp, (path, *_, identity) in zip(run, stamps, content, strict=True):
                if _stamp(source, file) != stamp and _identity(reader, source, file) != identity:
                    raise SourceChanged(f"source {source.name!r}: {path} changed while it was read; {_REMEDY}")
        except SourceChanged:
            for shard in report["shards"]:  # or they would pass for those of the content, should that come back
                files.remove(build.path("documents", shard["name"]))
            raise
        return outcome, report

    return make(_report_path(build, part), made_by, read, has_tables)


def _stamp(source: Source, file: File) -> tuple[int, ...] | None:
    """What changes when a local file is written or replaced; an object store gives an object as it was when opened."""
    if not isinstance(source, FileConfig) or not files.is_local(file.path):
        return None
    with contextlib.suppress(FileNotFoundError):
        state = files.local_name(file.path).stat()
        return state.st_ino, state.st_size, state.st_mtime_ns
    return None


def _identity(reader: Any, source: Source, file: File) -> str:
    try:
        return reader.identity(source, file)
    except FileNotFoundError:
        path = printable(files.masked(file.path))
        raise SourceChanged(
            f"source {source.name!r}: {path} is gone since the source's files were listed; {_REMEDY}"
        ) from None


def _documents(
    build: Build, part: str, source: Source, run: list[File], forgotten_ids: list[str], made_by: str
) -> Made:
    account, left_out = quarantine.Account(source.name), LeftOut(frozenset(forgotten_ids))
    normaliser = repair.Normaliser(build.recipe.normalise) if build.recipe.normalise else None
    written = []
    tables = _tables(
        build.recipe.readers[source.kind], source, run, build.recipe.shard_bytes, account, left_out, normaliser
    )
    for number, table in enumerate(tables):
        name = f"{part}-{number:03d}.arrow"
        path, shard_made_by = build.path("documents", name), files.fingerprint(made_by, number)
        if not shards.is_current(path, shard_made_by):  # it is where an earlier run was cut off in mid part
            shards.write_table(path, table, shard_made_by)
        size = pc.sum(pc.binary_length(table["text"])).as_py()
        written.append({"name": name, "documents": len(table), "bytes": size})
    shards.write_table(_quarantine_path(build, part), account.table(), made_by)
    report = {
        "files": len(run),
        "stored": sum(file.size for file in run),
        "shards": written,
        "documents": sum(shard["documents"] for shard in written),
        "bytes": sum(shard["bytes"] for shard in written),
        **account.report,
        "forgotten": {"documents": left_out.documents, "bytes": left_out.bytes},
        "normalised": {name: vars(count) for name, count in normaliser.counts.items()} if normaliser else {},
    }
    return Outcome(report["documents"], report["bytes"]), report


def _opened_by_name(reader: Any, source: Source, run: list[File]) -> list[File]:
    """``run`` with the credentials of its addresses, which are in the recipe and not in the plan."""
    if not any("***" in file.path for file in run):
        return run
    paths = {file.name: file.path for file in reader.list_files(source)}
    return [file._replace(path=paths.get(file.name, file.path)) for file in run]


@dataclass
class LeftOut:
    """The documents of one part that the forget list names: how many there were, and their bytes as they were read."""

    ids: Container[str] = frozenset()
    documents: int = 0
    bytes: int = 0

    def takes(self, document: Document) -> bool:
        if document.id not in self.ids:
            return False
        self.documents += 1
        self.bytes += len(document.text.encode("utf-8", "surrogatepass"))
        return True


def _tables(
    reader: Any,
    source: Source,
    run: list[File],
    shard_bytes: int,
    account: quarantine.Account,
    left_out: LeftOut,
    normaliser: repair.Normaliser | None,
) -> Iterator[pa.Table]:
    """The documents of ``run`` in tables of at most ``shard_bytes`` of text; a longer document has one to itself."""
    rows: list[Document] = []
    texts: list[bytes] = []
    size = 0
    for file in run:
        position = 0
        for record in reader.read(source, file):
            if not isinstance(record, Flagged | Unread):
                position += record.count if isinstance(record, Rejected) else 1  # type: ignore[operator]
            if not isinstance(record, Document):
                account.add(record)
                continue
            if left_out.takes(record):
                continue
            try:
                text = (normaliser(record.text) if normaliser else record.text).encode()
            except UnicodeEncodeError:
                account.add(Rejected(file.path, position, None, "a lone surrogate", excerpt(record.text)))
                continue
            if len(text) > source.max_document_bytes:
                reason = "longer than max_document_bytes"
                account.add(Rejected(file.path, position, None, reason, excerpt(text)))
                continue
            if rows and size + len(text) > shard_bytes:
                yield _table(rows, texts)
                rows, texts, size = [], [], 0
            rows.append(record)
            texts.append(text)
            size += len(text)
    if rows:
        yield _table(rows, texts)


def _table(rows: list[Document], texts: list[bytes]) -> pa.Table:
    columns = dict(zip(Document._fields, zip(*rows, strict=True), strict=True))
    columns["text"] = pa.array(texts, pa.binary()).view(pa.string())  # encoded by us, so it is valid
    return pa.table(columns, schema=shards.DOCUMENT_SCHEMA)


def _write_manifest(build: Build, item: str) -> Outcome:
    parts = files.read_json(build.path("work", "ingest", "plan.json"))
    warnings = files.read_json(build.path("work", "ingest", "plan-warnings.json"))
    sources = {
        source.name: {**_empty(source.kind), "warnings": warnings.get(source.name, [])}
        for source in build.recipe.sources
    }
    names = []
    for part in parts:
        report = files.read_json(_report_path(build, part))
        total = sources[part.rpartition("-")[0]]
        names += [shard["name"] for shard in report["shards"]]
        for key in ("files", "stored", "documents", "bytes"):
            total[key] += report[key]
        quarantine.add(total, report)
        for unit in ("documents", "bytes"):
            total["forgotten"][unit] += report["forgotten"][unit]
        for step, count in report["normalised"].items():
            so_far = total["normalised"].setdefault(step, dict.fromkeys(count, 0))
            total["normalised"][step] = {key: so_far[key] + count[key] for key in count}
    for name, total in sources.items():
        quarantine.check(name, total, build.recipe.error_budget, build.path("quarantine"))
    _remove_traces(build, item, names)
    files.write_json(build.path("documents", item), {"shards": names, "sources": sources})
    _remove_all_but(build.path("documents"), [item, *names])
    _remove_all_but(build.path("quarantine"), [f"{part}.arrow" for part in parts])
    kept = [f"{part}{ending}" for part in parts for ending in (".json", ".files.json")]
    _remove_all_but(build.path("work", "ingest"), ["plan.json", "plan-warnings.json", *kept])
    return Outcome(sum(total["documents"] for total in sources.values()), sum(t["bytes"] for t in sources.values()))


def _empty(kind: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "files": 0,
        "stored": 0,
        "documents": 0,
        "bytes": 0,
        **quarantine.empty(),
        "forgotten": {"documents": 0, "bytes": 0},
        "normalised": {},
    }


def _remove_traces(build: Build, manifest: str, kept: Iterable[str]) -> None:
    """Remove what was made of shards that are there no longer: ledgers, samples, index entries."""
    path = build.path("documents", manifest)
    old_shards = set(files.read_json(path)["shards"] if files.exists(path) else []).difference(kept)
    for folder in ("ledgers", "work", "index") if old_shards else ():
        filesystem, inner = files.filesystem_of(build.path(folder))
        for file in filesystem.find(inner) if filesystem.exists(inner) else []:
            if file.rpartition("/")[2] in old_shards:
                files.remove(filesystem.unstrip_protocol(file))


def _remove_all_but(folder: str, kept: Iterable[str]) -> None:
    """Remove what earlier recipes left in ``folder``."""
    for name in set(files.list_files(folder)).difference(kept):
        files.remove(files.join(folder, name))

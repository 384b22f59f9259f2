"""The curated corpus: verdicts, span cuts and redactions applied; text is written a second and last time.

The folder opens with ``datasets.load_dataset``, which copies it to its cache, and on a mounted disk with
``datasets.load_from_disk``, which maps the shards as they are; each shard with ``datasets.Dataset.from_file``. Beside
the document's columns stands ``repeats`` (int32): how many times training reads it per pass. Its text is stored once.

A shard's name holds its number and how many there are. When others come or go its file gets the new name, and is not
written again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipeline import MillError
from pipeline.build.build import Build, Made, Outcome, Step, make
from pipeline.store import files, recipe_file, shards

VERSION = 2
#: Of the files beside the shards.
_LAYOUT = 2
_SPLIT = "train"
_INFO, _STATE = f"{_SPLIT}/dataset_info.json", f"{_SPLIT}/state.json"
#: What ``load_from_disk`` reads. In a folder below: ``load_dataset`` refuses one that holds a state.json.
_OPENED_BY = ("dataset_dict.json", _INFO, _STATE)
CORPUS_SCHEMA = shards.DOCUMENT_SCHEMA.append(pa.field("repeats", pa.int32(), nullable=False))


class Config(recipe_file.Config):
    parquet: Annotated[bool, Field(description="write the curated corpus as Parquet files, too")] = False


class NothingLeft(MillError):
    """No document survived the recipe."""


def steps() -> list[Step]:
    return [
        Step("corpus", "Write the curated corpus", Build.shards, _write_shard),
        Step("corpus.manifest", "Write the corpus manifest", lambda _build: ["manifest.json"], _write_manifest),
    ]


def shard_name(build: Build, shard: str) -> str:
    places = build.places()
    return f"data-{places[shard]:05d}-of-{len(places):05d}.arrow"


def corpus_table(build: Build, shard: str) -> pa.Table:
    """The curated documents of ``shard``, in CORPUS_SCHEMA."""
    view = build.view(shard)
    repeats = view.signals.get("repeats", pa.array([1] * len(view.texts), pa.int32()))
    columns = {**view.documents, "text": view.texts, "repeats": repeats}
    return pa.table([columns[field.name] for field in CORPUS_SCHEMA], schema=CORPUS_SCHEMA)


def _write_shard(build: Build, shard: str) -> Outcome:
    name = shard_name(build, shard)
    path = build.path("corpus", name)
    parquet = build.path("parquet", name.removesuffix(".arrow") + ".parquet")
    made_by = files.fingerprint("corpus", VERSION, build.view_fingerprint(shard))
    current = shards.is_current(path, made_by) or _renamed(build, path, made_by, shards.is_current)
    if not current:
        shards.write_table(path, corpus_table(build, shard), made_by)
    if build.recipe.corpus.parquet and not (
        files.current(_parquet_is_current(parquet, made_by)) or _renamed(build, parquet, made_by, _parquet_is_current)
    ):
        import pyarrow.parquet as pq  # with file systems that a recipe need not load

        with files.replacing(parquet) as handle:
            pq.write_table(shards.read_table(path), handle, compression="zstd")
        current = False
    if current:
        return Outcome(reused=True)
    return Outcome(*shards.read_size(path))


def _renamed(build: Build, path: str, made_by: str, is_current: Callable[[str, str], bool]) -> bool:
    """Whether ``path`` was to be had from the name that the shard had in the corpus so far."""
    manifest = build.path("corpus", "manifest.json")
    before = _names(manifest, files.stamp(manifest)).get(made_by) if files.exists(manifest) else None
    if before is None:
        return False
    folder, _, name = path.rpartition("/")
    source = files.join(folder, f"{before}.{name.rpartition('.')[2]}")
    return files.take_name(source, path, lambda copy: is_current(copy, made_by))


@lru_cache(maxsize=8)
def _names(manifest: str, _stamp: Any) -> dict[str, str]:
    """The names, without endings, of the shards that ``manifest`` lists, by what they were made by."""
    content = files.read_json(manifest)
    names = (name.removesuffix(".arrow") for name in content["shards"])
    return dict(zip(content.get("made_by", ()), names, strict=False))


def _parquet_is_current(path: str, made_by: str) -> bool:
    if not files.exists(path):
        return False
    import pyarrow.parquet as pq

    with files.opened(path) as handle:
        metadata = pq.read_schema(handle).metadata or {}
    return metadata.get(shards.FINGERPRINT) == made_by.encode()


def _write_manifest(build: Build, item: str) -> Outcome:
    """Name the shards, drop those of an earlier layout, and add what ``datasets`` wants to see."""
    names = [shard_name(build, shard) for shard in build.shards()]
    made_by = [shards.read_fingerprint(build.path("corpus", name)) for name in names]
    fingerprint = files.fingerprint("corpus.manifest", VERSION, _LAYOUT, made_by)

    def can_be_opened(_manifest: dict[str, Any]) -> bool:
        return all(files.exists(build.path("corpus", name)) for name in _OPENED_BY)

    manifest = partial(_manifest, build, names, made_by, fingerprint)
    return make(build.path("corpus", item), fingerprint, manifest, can_be_opened)


def _manifest(build: Build, names: list[str], made_by: list[str | None], fingerprint: str) -> Made:
    sizes = [shards.read_size(build.path("corpus", name)) for name in names]
    documents, text_bytes = (sum(values) for values in zip(*sizes, strict=True)) if sizes else (0, 0)
    for folder, wanted in (
        ("corpus", names),
        ("parquet", [n.removesuffix(".arrow") + ".parquet" for n in names]),
    ):
        for stale in set(files.list_files(build.path(folder))) - set(wanted):
            if stale.startswith("data-"):
                files.remove(build.path(folder, stale))
    if documents == 0:
        raise NothingLeft(_what_went(build))
    _write_split(build, names, fingerprint)
    manifest = {"shards": names, "made_by": made_by, "documents": documents, "bytes": text_bytes}
    return Outcome(documents, text_bytes), manifest


def _write_split(build: Build, names: list[str], fingerprint: str) -> None:
    """Write the files of ``_OPENED_BY``, and remove those of an earlier layout."""
    features = {
        field.name: {"dtype": "int32" if field.type == pa.int32() else "string", "_type": "Value"}
        for field in CORPUS_SCHEMA
    }
    info = {"features": features, "dataset_name": build.recipe.name}
    state = {
        "_data_files": [{"filename": f"../{name}"} for name in names],
        "_fingerprint": fingerprint[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": _SPLIT,
    }
    files.write_json(build.path("corpus", _INFO), info)
    files.write_json(build.path("corpus", _STATE), state)
    files.write_json(build.path("corpus", "dataset_dict.json"), {"splits": [_SPLIT]})
    for earlier in ("dataset_info.json", "state.json"):
        files.remove(build.path("corpus", earlier))


def _what_went(build: Build) -> str:
    """Why the corpus is empty: the sources hold nothing, or the rules that dropped it all, with their shares."""
    sources = files.read_json(build.path("documents", "manifest.json"))["sources"]
    read = sum(entry["documents"] for entry in sources.values())
    if not read:
        return f"no document was read from {', '.join(map(repr, sources))}: check the paths and fields of the sources"
    dropped: Counter[tuple[str, str]] = Counter()
    for shard in build.shards():
        for stage_name in build.stages:
            for row in pc.value_counts(build.ledger(stage_name, shard)["dropped_by"].cast(pa.string())).to_pylist():
                if row["values"] is not None:
                    dropped[stage_name, row["values"]] += row["counts"]
    rules = [
        f"\n  {documents:,} by {rule} (`{stage_name}`, {documents / read:.1%})"
        for (stage_name, rule), documents in dropped.most_common(8)
    ]
    more = f"\n  and the rest by {len(dropped) - 8} other rules" if len(dropped) > 8 else ""
    return (
        f"recipe {build.recipe.name!r} drops every document it reads, {read:,} in all:{''.join(rules)}{more}\n"
        "Loosen these rules, or leave out what is not meant for this text; `mill report` shows samples of what went."
    )

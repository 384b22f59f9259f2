"""A build written by hand through the real writers: documents, ledgers, a closed account; no stage is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from pipeline.build.build import Build
from pipeline.curation import account, write_corpus
from pipeline.sources.quarantine import empty
from pipeline.stages import language as language_stage
from pipeline.store import files, ledger, shards
from pipeline.text.spans import SPANS
from pipeline.tokenization.config import TokenizerConfig
from tests.helpers.sections import Sections

Documents = list[dict[str, Any]]


class Named(BaseModel):
    name: str


class SmallRecipe(Sections, BaseModel):
    """As much of a recipe as reading a build needs; a stage runs if its field is set."""

    name: str = "small"
    seed: int = 3
    sources: list[Named] = []
    language: language_stage.Config | None = None
    exact: dict | None = None
    minhash: dict | None = None
    decontaminate: dict | None = None
    corpus: write_corpus.Config = write_corpus.Config()
    tokenizers: list[TokenizerConfig] = []
    pretrain: list[Named] = []
    finetune: list[Named] = []


def document(number: int, text: str, **more: Any) -> dict[str, Any]:
    identity: dict[str, Any] = {
        "id": f"web/page.jsonl#{number}",
        "source": "web",
        "domain": "news",
        "url": None,
        "metadata": None,
    }
    return {**identity, "text": text, **more}


def open_small(root: Path, **sections: Any) -> Build:
    return Build(str(root), SmallRecipe(**sections))  # type: ignore[arg-type]


def write_documents(build: Build, documents: Documents, shard_size: int, quarantined: Sequence[dict] = ()) -> None:
    """Shards of ``shard_size`` documents of one source, its manifest, and its quarantine."""
    names = []
    for at in range(0, len(documents), shard_size):
        names.append(f"web-00000-{at // shard_size:03d}.arrow")
        table = pa.Table.from_pylist(documents[at : at + shard_size], shards.DOCUMENT_SCHEMA)
        shards.write_table(build.path("documents", names[-1]), table, files.fingerprint(table.to_pylist()))
    reasons: dict[str, dict[str, Any]] = {}
    for row in quarantined:
        example = {"count": 0, "file": row["file"], "record": row["record"]}
        reasons.setdefault(row["reason"], example)["count"] += 1
    if quarantined:
        shards.write_table(build.path("quarantine", "web-00000.arrow"), pa.Table.from_pylist(list(quarantined)), "q")
    size = sum(len(entry["text"].encode()) for entry in documents)
    source = {
        "documents": len(documents),
        "bytes": size,
        **empty(),
        "quarantined": len(quarantined),
        "reasons": reasons,
        "forgotten": {"documents": 0, "bytes": 0},
        "normalised": {},
    }
    files.write_json(build.path("documents", "manifest.json"), {"shards": names, "sources": {"web": source}})


def write_ledger(
    build: Build,
    stage: str,
    signals: Mapping[str, pa.Array],
    rules: Sequence[ledger.Rule] = (),
    dropped: Mapping[int, tuple[str, float, float]] | None = None,
    spans: list[list[dict[str, int]]] | None = None,
) -> None:
    """The ledger of ``stage``, judged by ``rules`` or as ``dropped`` says: row to (rule, value, threshold).

    ``signals`` and ``spans`` have an entry for every document of the build; those not alive become null.
    """
    start = 0
    for shard in build.shards():
        rows = len(build.documents(shard))
        mask = ledger.alive([build.ledger(name, shard) for name in build.stages_before(stage)], rows)
        part: dict[str, pa.Array] = {name: values.slice(start, rows) for name, values in signals.items()}
        verdicts: dict[str, pa.Array] = ledger.judge(rules, part, rows).columns()
        if dropped is not None:
            mine = [dropped.get(start + row) for row in range(rows)]
            fields = [pa.array([entry and entry[at] for entry in mine]) for at in range(3)]
            kinds = (pa.string(), pa.float64(), pa.float64())
            cast = [values.cast(kind) for values, kind in zip(fields, kinds, strict=True)]
            names = ("dropped_by", "value", "threshold")
            verdicts = dict(zip(names, [cast[0].dictionary_encode(), *cast[1:]], strict=True))
        columns = {**part, **verdicts}
        if spans is not None:
            columns["spans"] = pa.array(spans[start : start + rows], SPANS)
        alive = {name: values.filter(pa.array(mask)) for name, values in columns.items()}
        made_by = files.fingerprint({name: values.to_pylist() for name, values in columns.items()})
        build.write_ledger(stage, shard, ledger.spread(mask, alive), made_by)
        start += rows


def close(build: Build) -> None:
    """Write the corpus and its account by the real steps."""
    for step in [*write_corpus.steps(), *account.steps()]:
        for item in step.items(build):
            step.work(build, item)

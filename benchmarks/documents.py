"""What benchmarks measure: real English in pieces of about 3 KB for curation, documents of token ids for training."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.store import packed_tokens

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "prose"
PIECE = 3000


def prose(megabytes: float = 30, domain: str = "*") -> pa.StringArray:
    """About ``megabytes`` of prose, each document some ``PIECE`` characters cut at a line or space."""
    return pa.array([text for _, text in named_prose(megabytes, domain)], pa.string())


def named_prose(megabytes: float = 30, domain: str = "*") -> Iterator[tuple[str, str]]:
    """``prose`` as pairs of an id and a text; an id names file, record and piece (``news/abc.jsonl.gz#7.2``)."""
    budget = megabytes * 1e6
    for name, text in _texts(domain):
        for number, piece in enumerate(split(text)):
            yield f"{name}.{number}", piece
            budget -= len(piece)
        if budget <= 0:
            return


def split(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        end = min(len(text), at + PIECE)
        if end < len(text):
            end = max(text.rfind("\n", at + PIECE // 2, end), text.rfind(" ", at + PIECE // 2, end)) + 1 or end
        yield text[at:end]
        at = end


def _texts(domain: str) -> Iterator[tuple[str, str]]:
    if not SHARED.is_dir():
        yield from _environment()
        return
    files = sorted(SHARED.glob(f"{domain}/*.gz"))
    streams = [_file(path) for path in files]
    while streams:  # a text of each file in turn, so that any budget holds every domain
        for stream in list(streams):
            text = next(stream, None)
            if text is None:
                streams.remove(stream)
            else:
                yield text


def _file(path: Path) -> Iterator[tuple[str, str]]:
    name = f"{path.parent.name}/{path.name}"
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        if ".jsonl" not in path.name:
            yield f"{name}#0", lines.read()
            return
        gathered: list[str] = []
        first = 0
        for number, line in enumerate(lines):
            gathered.append(json.loads(line)["text"])
            if sum(map(len, gathered)) >= PIECE:  # short records (a paragraph, a forum line) together
                yield f"{name}#{first}", "\n\n".join(gathered)
                gathered, first = [], number + 1
        if gathered:
            yield f"{name}#{first}", "\n\n".join(gathered)


def _environment() -> Iterator[tuple[str, str]]:
    from pipeline.sources import READERS, environment
    from pipeline.sources.base import Document

    config = environment.Environment(name="python", kind="environment")
    for file in READERS["environment"].list_files(config):
        for number, record in enumerate(READERS["environment"].read(config, file)):
            if isinstance(record, Document):
                yield f"{file}#{number}", record.text


def packed(
    folder: str, documents: Sequence[Sequence[int] | np.ndarray], vocabulary: int, special: Mapping[str, int]
) -> packed_tokens.PackedTokens:
    """``documents`` of token ids, written to ``folder`` as packed tokens: each is one sentence, read once."""
    lengths = np.array([len(ids) for ids in documents], np.int32)
    columns = {
        "start": np.cumsum(lengths) - lengths,
        "length": lengths,
        "id": [str(row) for row in range(len(documents))],
        "domain": ["benchmark"] * len(documents),
        "bytes": lengths.astype(np.int64) * 4,
        "repeats": np.ones(len(documents), np.int32),
        "sentences": [[0]] * len(documents),
    }
    table = pa.table(columns, schema=packed_tokens.DOCUMENTS_SCHEMA)
    tokens = np.concatenate(documents).astype(packed_tokens.token_dtype(vocabulary))
    packed_tokens.write_shard(folder, 0, tokens, table, "benchmark")
    packed_tokens.write_manifest(folder, [0], vocabulary, dict(special), "benchmark")
    return packed_tokens.PackedTokens(folder)

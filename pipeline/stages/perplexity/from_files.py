"""A language model trained on text files or a curated corpus, for the perplexity stage of builds, or for KenLM.

The texts with the lowest hashes, each once, in the order of their hashes, up to ``max_bytes``: the model is the same
for any order and naming of the files. Memory is bounded by ``max_bytes``, not by the files.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import ByteSize, Field

from pipeline import MillError
from pipeline.sources import READERS, Source, quarantine
from pipeline.sources.base import Document, File
from pipeline.sources.jsonl import Jsonl
from pipeline.sources.parquet import Parquet
from pipeline.sources.text import Text
from pipeline.stages.perplexity import ccnet, train_model
from pipeline.store import files, model_files, recipe_file
from pipeline.text.hashing import document_hash
from pipeline.text.sentence_folding import sentences

VERSION = 2
#: Plain text is read in blocks of whole paragraphs of at least this size, so that a file may be of any size.
_BLOCK = ByteSize(64 << 10)
_BATCH = 1 << 10
_MOST_BAD = 0.01
_COLUMNAR = (".parquet", ".arrow", ".feather")


class Config(recipe_file.Config):
    """``inputs``: files or globs (JSON lines, Parquet, Arrow; all else is plain text), or the ``corpus`` folder of a
    build. ``sentencepiece``: train on pieces of text normalised as CCNet does, instead of folded words.
    """

    inputs: Annotated[list[str], Field(min_length=1)]
    order: Annotated[int, Field(ge=2, le=6)] = 5
    prune: train_model.Prune = [0, 0, 1]
    max_bytes: Annotated[ByteSize, Field(ge=1 << 16, le=1 << 30)] = ByteSize(256 << 20)
    text_field: str = "text"
    sentencepiece: str | None = None
    estimator: train_model.Estimator = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class NothingToTrainOn(MillError):
    """The inputs give no sentence, or too many of their records cannot be read."""


def train(config: Config, output: str) -> dict[str, Any]:
    """Write the ARPA file ``output`` and, beside it, ``<output>.json``: what made it, documents, bytes, sentences,
    n-grams by order, SHA-256. Returns this, with ``reused`` true if all of it was there already.

    Raises NoFiles, NothingToTrainOn, or MillError for a SentencePiece model that is not there.
    """
    if config.sentencepiece is not None and not files.exists(config.sentencepiece):
        raise MillError(f"{config.sentencepiece}: no such SentencePiece model")
    listed = [(source, file) for source in _sources(config) for file in READERS[source.kind].list_files(source)]
    made_by = files.fingerprint(
        "language_model",
        VERSION,
        config.model_copy(update={"inputs": []}),
        train_model.choose(config.estimator),
        config.sentencepiece and model_files.digest(config.sentencepiece),
        [[file.name, READERS[source.kind].identity(source, file)] for source, file in listed],
    )
    note = f"{output}.json"
    if files.exists(note) and files.exists(output):
        facts = files.read_json(note)
        if facts["fingerprint"] == made_by and facts["sha256"] == model_files.digest(output):
            return {**facts, "reused": True}
    sample = _Sample(config)
    for text in _texts(listed):
        sample.add(text)
    texts = sample.texts()
    lines = _lines(texts, config)
    if not len(lines):
        raise NothingToTrainOn(f"{', '.join(config.inputs)}: no sentence to train a language model on")
    train_model.train(lines, output, config.order, config.prune[: config.order], config.estimator)
    facts = {
        "fingerprint": made_by,
        "documents": len(texts),
        "bytes": texts.nbytes,
        "sentences": len(lines),
        "ngrams": _counts(output),
        "sha256": model_files.digest(output),
    }
    files.write_json(note, facts)
    return {**facts, "reused": False}


def _sources(config: Config) -> Iterator[Source]:
    for path in config.inputs:
        given = [path]
        if files.exists(files.join(path, "manifest.json")):  # a curated corpus: its folder holds other files, too
            given = [files.join(path, "data-*.arrow")]
        name = posixpath.basename(given[0]).lower()
        for ending in (".gz", ".zst"):
            name = name.removesuffix(ending)
        shared = {"name": "reference", "path": given}
        records = {
            **shared,
            "text_field": config.text_field,
            "id_field": None,
            "url_field": None,
            "metadata_fields": [],
        }
        if name.endswith((".jsonl", ".json", ".ndjson")):
            yield Jsonl(**records)
        elif name.endswith(_COLUMNAR):
            yield Parquet(**records)
        else:
            yield Text(**shared, block_bytes=_BLOCK)


def _texts(listed: Iterable[tuple[Source, File]]) -> Iterator[str]:
    """The texts of all files. Raises NothingToTrainOn where more than 1 % of a file's records cannot be read."""
    for source, file in listed:
        good, account = 0, quarantine.Account(source.name)
        for record in READERS[source.kind].read(source, file):
            if isinstance(record, Document):
                good += 1
                yield record.text
            else:
                account.add(record)
        bad, records = quarantine.bad_records(account.report, good, file.size)
        if bad > _MOST_BAD * records:
            raise NothingToTrainOn(
                f"{file.path}: {bad} of {records} records cannot be read: "
                f"{'; '.join(quarantine.examples(account.report))}. Correct the file, or name the field that holds the "
                "text (`text_field`)"
            )


class _Sample:
    """The texts with the lowest hashes that together hold at most ``max_bytes``; at most twice as many in memory."""

    def __init__(self, config: Config):
        self._config = config
        self._hashes = np.zeros(0, np.uint64)
        self._end = np.uint64(2**64 - 1)  # the lowest hash that did not fit: none from there on is in the sample
        self._chosen = pa.array([], pa.large_string())
        self._waiting: list[str] = []
        self._size = 0

    def add(self, text: str) -> None:
        self._waiting.append(text)
        self._size += len(text)
        if len(self._waiting) >= _BATCH or self._size >= self._config.max_bytes // 4:
            self._settle()

    def texts(self) -> pa.StringArray:
        """The sample, in the order of the hashes."""
        self._settle()
        return self._chosen.cast(pa.string())

    def _settle(self) -> None:
        clean = [text.encode("utf-8", "replace").decode() for text in self._waiting]  # lone surrogates
        fresh = pa.array(clean, pa.large_string())
        self._waiting, self._size = [], 0
        hashes = np.concatenate([self._hashes, document_hash(fresh, self._config.seed)])
        hashes, first = np.unique(hashes, return_index=True)
        first = first[hashes < self._end]
        hashes = hashes[hashes < self._end]
        chosen = pa.concat_arrays([self._chosen, fresh]).take(pa.array(first))
        sizes = np.diff(np.frombuffer(chosen.buffers()[1], np.int64)[chosen.offset :][: len(chosen) + 1])
        fits = int(np.searchsorted(np.cumsum(sizes), self._config.max_bytes, side="right"))
        self._end = hashes[fits] if fits < len(hashes) else self._end
        self._hashes, self._chosen = hashes[:fits], pa.concat_arrays([chosen.slice(0, fits)])


def _lines(texts: pa.StringArray, config: Config) -> pa.StringArray:
    if config.sentencepiece is None:
        return sentences(texts).lines
    batches = ccnet.pieces(texts, config.sentencepiece)
    return pa.array([" ".join(pieces) for batch in batches for pieces in batch if pieces], pa.string())


def _counts(arpa: str) -> list[int]:
    """How many n-grams of each order the header of an ARPA file names."""
    counts = []
    with files.opened(arpa) as handle:
        for line in handle:
            if line.startswith(b"ngram "):
                counts.append(int(line.split(b"=")[1]))
            elif counts:
                break
    return counts

"""Tokens on disk, in a fixed format that training memory-maps.

One folder for a tokenizer and a split (``train`` or ``heldout``):

- ``tokens-00000.bin``  token ids of one corpus shard's documents, end to end, little-endian uint16 (vocabulary up to
  65,536) or uint32, nothing else. Where the tokenizer has an end-of-text token (role ``eos``) it closes every document.
- ``documents-00000.arrow``  one row a document: where its tokens lie in that file and how often training reads them.
- ``manifest.json``  written last; names the files and states what they must hold.

A document that the balance stage repeats is stored once: its row says ``repeats`` and training reads it that many times
per pass.

A row also says where the document's ``sentences`` start: uint32 token positions within the document, ascending, the
first 0 (none for a document that shows nothing). A sentence goes on to the next start or to the document's end, the
end-of-text token included. Sentences start at whole pre-tokens, found in the text by ``sentences.py``. So a reader gets
sentence ``k`` of all by ``tokens(sentence_starts[k], sentence_ends[k])``; ``training/batches`` makes the segment pairs
of BERT and ALBERT out of them, as a pure function of (seed, epoch, position).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.store import files, shards

FORMAT = 2
DOCUMENTS_SCHEMA = pa.schema(
    [
        pa.field("start", pa.int64(), nullable=False),  # position of its first token in the shard's file
        pa.field("length", pa.int32(), nullable=False),  # tokens, the closing end-of-text token included
        pa.field("id", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),  # of its UTF-8 text, for bits per byte
        pa.field("repeats", pa.int32(), nullable=False),
        pa.field("sentences", pa.list_(pa.field("item", pa.uint32(), nullable=False)), nullable=False),
    ]
)


class DamagedTokens(files.DamagedFile):
    """Packed tokens are absent, incomplete, or not what their manifest states."""


def token_dtype(vocab_size: int) -> np.dtype:
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def shard_names(index: int) -> tuple[str, str]:
    """File names of the tokens and the documents of corpus shard ``index``."""
    return f"tokens-{index:05d}.bin", f"documents-{index:05d}.arrow"


def write_shard(
    folder: str, index: int, tokens: np.ndarray | Sequence[np.ndarray], documents: pa.Table, fingerprint: str
) -> None:
    """Write one shard. ``tokens`` [n], or parts of them, already have the dtype to store; ``documents`` has
    DOCUMENTS_SCHEMA.

    The documents go last: while they are missing or name another fingerprint, the shard counts as not made.
    """
    tokens_name, documents_name = shard_names(index)
    with files.replacing(files.join(folder, tokens_name)) as handle:
        for part in [tokens] if isinstance(tokens, np.ndarray) else tokens:
            handle.write(np.ascontiguousarray(part).data)
    shards.write_table(files.join(folder, documents_name), documents.cast(DOCUMENTS_SCHEMA), fingerprint)


def write_manifest(
    folder: str, shard_indices: list[int], vocab_size: int, special_ids: dict[str, int], tokenizer: str
) -> dict[str, Any]:
    """Count what the shards hold and write ``manifest.json``, which is returned.

    ``special_ids`` maps roles (bos, eos, cls, sep, pad, mask, unk) to ids; ``tokenizer`` is its fingerprint.
    """
    entries: list[dict[str, Any]] = []
    domains: dict[str, dict[str, int]] = {}
    for index in shard_indices:
        tokens_name, documents_name = shard_names(index)
        path = files.join(folder, documents_name)
        table = shards.read_table(path)
        lengths, repeats = _numbers(table, "length"), _numbers(table, "repeats")
        sizes = _numbers(table, "bytes")
        entries.append(
            {
                "tokens_file": tokens_name,
                "documents_file": documents_name,
                "tokens": int(lengths.sum()),
                "documents": len(table),
                "fingerprint": shards.read_fingerprint(path),
            }
        )
        encoded = table["domain"].combine_chunks().dictionary_encode()
        groups = encoded.indices.to_numpy(zero_copy_only=False)
        for group, domain in enumerate(encoded.dictionary.to_pylist()):
            chosen = groups == group
            entry = domains.setdefault(domain, dict.fromkeys(("documents", "bytes", "tokens", "repeated_tokens"), 0))
            entry["documents"] += int(chosen.sum())
            entry["bytes"] += int(sizes[chosen].sum())
            entry["tokens"] += int(lengths[chosen].sum())
            entry["repeated_tokens"] += int((lengths * repeats)[chosen].sum())
    totals = {key: sum(entry[key] for entry in domains.values()) for key in ("documents", "bytes", "tokens")}
    manifest = {
        "format": FORMAT,
        "dtype": token_dtype(vocab_size).name,
        "vocab_size": vocab_size,
        "special_ids": special_ids,
        "tokenizer": tokenizer,
        **totals,
        "repeated_tokens": sum(entry["repeated_tokens"] for entry in domains.values()),
        "domains": domains,
        "shards": entries,
    }
    manifest["fingerprint"] = files.fingerprint(manifest)
    files.write_json(files.join(folder, "manifest.json"), manifest)
    return manifest


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy().astype(np.int64)


class PackedTokens:
    """Read-only tokens of one tokenizer and split, by memory map: opening is cheap, whatever the size.

    All positions run over the whole folder, shard after shard. ``starts`` int64 [documents + 1] are the documents'
    bounds, so document ``i`` is ``tokens(starts[i], starts[i + 1])``. ``repeats`` int32 [documents] says how many times
    a pass reads each. ``bounds`` int64 [shards + 1] are the shards' bounds. ``vocab_size``, ``special_ids``,
    ``fingerprint`` and ``manifest`` are those of the manifest.
    """

    def __init__(self, folder: str) -> None:
        """Open ``folder``; raises DamagedTokens, naming the file and the remedy, if a file is not what was written."""
        self.folder = folder
        path = files.join(folder, "manifest.json")
        if not files.exists(path):
            raise DamagedTokens(f"{path}: not there. Run the build's pack step to its end first.")
        self.manifest: dict[str, Any] = files.read_json(path)
        stated = {key: value for key, value in self.manifest.items() if key != "fingerprint"}
        if stated.get("format") != FORMAT or files.fingerprint(stated) != self.manifest.get("fingerprint"):
            raise DamagedTokens(f"{path}: changed since it was written. Delete it and run the build again.", path)
        self.dtype = np.dtype(self.manifest["dtype"]).newbyteorder("<")
        self.vocab_size: int = self.manifest["vocab_size"]
        self.special_ids: dict[str, int] = self.manifest["special_ids"]
        self.fingerprint: str = self.manifest["fingerprint"]
        self._checked: set[int] = set()
        self._shards = [self._open_tokens(entry) for entry in self.manifest["shards"]]
        self.bounds = np.cumsum([0, *(len(shard) for shard in self._shards)], dtype=np.int64)

    def __len__(self) -> int:
        """Tokens, each document once."""
        return int(self.bounds[-1])

    def tokens(self, start: int, stop: int) -> np.ndarray:
        """Tokens [stop - start] in the stored dtype: a view of the map inside one shard, a copy across shards."""
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"{self.folder}: tokens [{start}, {stop}) asked for, it holds [0, {len(self)})")
        first = int(np.searchsorted(self.bounds, start, "right")) - 1
        parts = []
        while start < stop:
            base, end = int(self.bounds[first]), int(self.bounds[first + 1])
            if first not in self._checked:  # at the first touch, so that opening stays cheap
                name = self.manifest["shards"][first]["tokens_file"]
                files.check(files.join(self.folder, name), f"Delete {name} and run the build again.")
                self._checked.add(first)
            parts.append(self._shards[first][start - base : min(stop, end) - base])
            start, first = min(stop, end), first + 1
        if not parts:
            return np.zeros(0, self.dtype)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @cached_property
    def documents(self) -> pa.Table:
        """DOCUMENTS_SCHEMA, one row a document, with ``start`` counted over the whole folder."""
        tables = []
        for entry, base, end in zip(self.manifest["shards"], self.bounds[:-1], self.bounds[1:], strict=True):
            path = files.join(self.folder, entry["documents_file"])
            if not files.exists(path):
                manifest = files.join(self.folder, "manifest.json")
                raise DamagedTokens(
                    f"{path}: not there. Delete manifest.json beside it and run the build again.", manifest
                )
            table = shards.read_table(path)
            if shards.read_fingerprint(path) != entry["fingerprint"] or len(table) != entry["documents"]:
                raise DamagedTokens(
                    f"{path}: not the file that the manifest names. Delete it and run the build again.", path
                )
            lengths = _numbers(table, "length")
            starts = base + np.cumsum(lengths) - lengths
            if not np.array_equal(starts, base + _numbers(table, "start")) or base + lengths.sum() != end:
                raise DamagedTokens(
                    f"{path}: its documents do not cover {entry['tokens_file']}. Delete both and run the build again.",
                    path,
                )
            tables.append(table.set_column(0, DOCUMENTS_SCHEMA.field("start"), pa.array(starts)))
        return pa.concat_tables([DOCUMENTS_SCHEMA.empty_table(), *(t.replace_schema_metadata() for t in tables)])

    @cached_property
    def starts(self) -> np.ndarray:
        return np.append(_numbers(self.documents, "start"), len(self))

    @cached_property
    def sentence_bounds(self) -> np.ndarray:
        """int64 [documents + 1]: the sentences of document ``i`` are ``sentence_bounds[i]`` to ``[i + 1]`` of all."""
        counts = pc.list_value_length(self.documents["sentences"]).to_numpy()
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])

    @cached_property
    def sentence_starts(self) -> np.ndarray:
        """int64 [sentences]: where each sentence starts, over the whole folder."""
        places = pc.list_flatten(self.documents["sentences"]).to_numpy().astype(np.int64)
        return places + np.repeat(self.starts[:-1], np.diff(self.sentence_bounds))

    @cached_property
    def sentence_ends(self) -> np.ndarray:
        """int64 [sentences]: where each ends."""
        ends = np.append(self.sentence_starts[1:], 0)
        filled = np.diff(self.sentence_bounds) > 0
        ends[self.sentence_bounds[1:][filled] - 1] = self.starts[1:][filled]
        return ends

    @cached_property
    def repeats(self) -> np.ndarray:
        return self.documents["repeats"].to_numpy()

    def of_domain(self, domain: str) -> PackedTokens:
        """The same tokens, of which a pass reads only the documents of ``domain``, each once."""
        view = copy.copy(self)
        view.repeats = pc.equal(self.documents["domain"], domain).to_numpy().astype(np.int32)
        return view

    def _open_tokens(self, entry: dict[str, Any]) -> np.ndarray:
        path = files.local(files.join(self.folder, entry["tokens_file"]))
        expected = entry["tokens"] * self.dtype.itemsize
        size = path.stat().st_size if path.exists() else None
        if size != expected:
            state = "not there" if size is None else f"{size} bytes where {expected} were written"
            beside = entry["documents_file"]
            raise DamagedTokens(
                f"{path}: {state}. Delete {beside} beside it and run the build again.", files.join(self.folder, beside)
            )
        return np.memmap(path, self.dtype, "r") if expected else np.zeros(0, self.dtype)

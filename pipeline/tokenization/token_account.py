"""The account of tokens: what is packed is the corpus, whole, and nothing else.

Of each shard, tokenizer and split: every document of the corpus is there once, in its split and place, with its domain,
bytes and repeats; its tokens are its content and the end-of-text token where the tokenizer has one; no special token
stands inside; and the file holds these tokens and no more. Pieces of bytes must spell every document, and the first
document of each shard and some others, up to a sixty-fourth of its bytes, are encoded again by ``tokenizers`` alone. A
mismatch raises TokensLost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from pipeline import MillError
from pipeline.store import files, packed_tokens, shards
from pipeline.text.buffers import text_buffers
from pipeline.text.hashing import document_hash
from pipeline.text.jit import int64, njit
from pipeline.text.kernels import borrow
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.formats.export import byte_alphabet

VERSION = 1
UNITS = ("documents", "bytes", "content", "special", "tokens", "read")
"""``content`` and ``special`` are the tokens of texts and those that close them; ``read`` the tokens of one pass, in
which a document is read as often as it is repeated."""
#: Documents of a shard and split that are encoded again beside the first and the last, the largest in bytes, and of
#: which part of the bytes all but the first are: tokenizers takes as long for this part as packing for the whole.
_AGAIN, _LARGEST, _PART = 4, 1 << 16, 64
_WRONG = (
    "does not end with the end-of-text token", "has a special token inside", "has an id beyond the vocabulary",
    "has tokens that spell another text",
)  # fmt: skip


class TokensLost(MillError):
    """The tokens do not add up: some were lost, made twice, or changed."""


class Facts(NamedTuple):
    """What is known of a tokenizer's ids: the one that closes documents (-1 for none), those that no text may hold
    (bool [vocabulary]), and the bytes of the pieces: of piece i ``spelled[bounds[i]:bounds[i + 1]]`` (uint8, int64
    [vocabulary + 1]; empty where pieces are not the text's bytes).
    """

    eos: int
    special: np.ndarray
    spelled: np.ndarray
    bounds: np.ndarray


def facts(tokenizer: Tokenizer, eos: int | None, config: TokenizerConfig | None = None) -> Facts:
    """Of ``tokenizer``; with its ``config``, whether its pieces are the text's own bytes is known as well."""
    content = json.loads(tokenizer.to_str())
    special = np.zeros(tokenizer.get_vocab_size(), bool)
    unk = content["model"].get("unk_token")
    special[[token["id"] for token in content["added_tokens"] if token["content"] != unk]] = True
    if content["model"]["type"] == "Unigram" and content["model"]["unk_id"] is not None:
        special[content["model"]["unk_id"]] = False
    spelled, bounds = np.zeros(0, np.uint8), np.zeros(0, np.int64)
    if config is not None and config.byte_level and config.normalizer == "none" and not _changes(config):
        pieces = [b""] * len(special)
        byte_of = {symbol: byte for byte, symbol in enumerate(byte_alphabet())}
        for piece, index in tokenizer.get_vocab(with_added_tokens=False).items():
            pieces[index] = bytes(byte_of.get(symbol, 0) for symbol in piece)
        spelled = np.array(list(b"".join(pieces)), np.uint8)
        bounds = np.cumsum([0, *map(len, pieces)])
    return Facts(-1 if eos is None else eos, special, spelled, bounds)


def _changes(config: TokenizerConfig) -> bool:
    return bool(config.lowercase or config.strip_accents)


def of_shard(folder: str, index: int, corpus: pa.Table, about: Facts, tokenizer: Tokenizer) -> dict[str, int]:
    """UNITS of packed shard ``index`` in ``folder``, which must be ``corpus`` (id, text, domain, repeats), in order."""
    tokens_name, documents_name = packed_tokens.shard_names(index)
    path = files.join(folder, tokens_name)
    shard = _Shard(path, f"delete {documents_name} beside it and run the build again")
    table = shards.read_table(files.join(folder, documents_name))
    texts = corpus["text"].combine_chunks()
    sizes = pc.binary_length(texts).cast(pa.int64())
    stated = {"id": corpus["id"], "domain": corpus["domain"], "bytes": sizes, "repeats": corpus["repeats"]}
    shard.same_documents(table, stated)
    starts, lengths = (table[name].to_numpy().astype(np.int64) for name in ("start", "length"))
    tokens = _read(path, packed_tokens.token_dtype(len(about.special)))
    shard.cover(table["id"], starts, lengths, len(tokens))
    places = _scan(tokens, starts, lengths, *text_buffers(texts), *about)
    for code, place in enumerate(places.tolist()):
        if place >= 0:
            shard.fail(table["id"][place].as_py(), f"{_WRONG[code]} ({_shown(tokens, starts, lengths, place)})")
    closing = [about.eos] if about.eos >= 0 else []
    for row in _chosen(table["id"].combine_chunks(), sizes.to_numpy()):
        ids = tokenizer.encode(texts[row].as_py(), add_special_tokens=False).ids + closing
        contents = tokens[starts[row] : starts[row] + lengths[row]].tolist()
        if contents != ids:
            shard.fail(table["id"][row].as_py(), difference(contents, ids))
    special = len(table) if about.eos >= 0 else 0
    read = lengths * table["repeats"].to_numpy().astype(np.int64)
    total = int(lengths.sum())
    counts = (len(table), int(sizes.to_numpy().sum()), total - special, special, total, int(read.sum()))
    return dict(zip(UNITS, counts, strict=True))


class _Shard(NamedTuple):
    """Where a mismatch is, and what to do about it."""

    path: str
    remedy: str

    def fail(self, document: str | None, fault: str) -> None:
        raise TokensLost(f"{self.path}: {'' if document is None else f'document {document!r} '}{fault}; {self.remedy}")

    def same_documents(self, table: pa.Table, stated: Mapping[str, Any]) -> None:
        """One row a document of the corpus, in its order, with what the corpus says of it."""
        if not _equal(table["id"], stated["id"]):
            actual, wanted = table["id"].to_pylist(), stated["id"].to_pylist()
            at = next((i for i, (a, b) in enumerate(zip(actual, wanted, strict=False)) if a != b), None)
            at = min(len(actual), len(wanted)) if at is None else at
            instead = "nothing" if at >= len(actual) else repr(actual[at])
            name = wanted[at] if at < len(wanted) else None
            expected = "of the corpus should stand" if name else "it should end"
            self.fail(
                name, f"{expected} in row {at} and {instead} does ({len(actual)} rows for {len(wanted)} documents)"
            )
        for column in ("domain", "bytes", "repeats"):
            if not _equal(table[column], stated[column]):
                mine, its = table[column].to_pylist(), stated[column].to_pylist()
                at = next(i for i, (a, b) in enumerate(zip(mine, its, strict=True)) if a != b)
                self.fail(table["id"][at].as_py(), f"has {column} {mine[at]!r} here and {its[at]!r} in the corpus")

    def cover(self, ids: pa.ChunkedArray, starts: np.ndarray, lengths: np.ndarray, size: int) -> None:
        """The documents lie end to end and fill the file."""
        wanted = np.cumsum(lengths) - lengths
        for row in np.flatnonzero(starts != wanted)[:1].tolist():
            self.fail(ids[row].as_py(), f"starts at token {starts[row]} and the one before ends at {wanted[row]}")
        if size != lengths.sum():
            self.fail(None, f"holds {size:,} tokens and its documents have {lengths.sum():,}")


def _equal(column: pa.ChunkedArray, other: Any) -> bool:
    return column.equals(pa.chunked_array(other.chunks if isinstance(other, pa.ChunkedArray) else [other], column.type))


def difference(contents: Sequence[int], wanted: Sequence[int]) -> str:
    """In words, where the ids of a document first differ from those that ``tokenizers`` gives."""
    at = next(
        (i for i, (a, b) in enumerate(zip(contents, wanted, strict=False)) if a != b), min(len(contents), len(wanted))
    )
    here, present = (ids[at] if at < len(ids) else "nothing" for ids in (contents, wanted))
    return f"has {len(contents)} tokens for {len(wanted)}, the first other one at {at}: {here} for {present}"


def close(counts: Mapping[str, Sequence[Mapping[str, int]]], manifests: Mapping[str, Any], corpus: Any) -> Any:
    """The account of one tokenizer: UNITS by split; ``counts`` are of_shard's, shard by shard.

    Raises TokensLost unless they are what the ``manifests`` of the splits and the ``corpus`` manifest state.
    """
    total = {split: {unit: sum(part[unit] for part in parts) for unit in UNITS} for split, parts in counts.items()}
    for split, sums in total.items():
        manifest = manifests[split]
        for unit, name in (("documents",) * 2, ("bytes",) * 2, ("tokens",) * 2, ("read", "repeated_tokens")):
            domains = sum(entry[name] for entry in manifest["domains"].values())
            if not sums[unit] == manifest[name] == domains:
                raise TokensLost(
                    f"{split}: {sums[unit]:,} {unit} are in the shards, {manifest[name]:,} in manifest.json and"
                    f" {domains:,} in its domains; delete manifest.json there and run the build again"
                )
        if sums["content"] + sums["special"] != sums["tokens"]:
            raise TokensLost(f"{split}: {sums['tokens']:,} tokens are not {sums['content']:,} + {sums['special']:,}")
    for unit in ("documents", "bytes"):
        packed = sum(sums[unit] for sums in total.values())
        if packed != corpus[unit]:
            raise TokensLost(
                f"{corpus[unit]:,} {unit} are in the corpus and {packed:,} are packed; delete the build's `tokens`"
                " folder and run it again; if that does not help, please report it with the recipe"
            )
    return total


def _read(path: str, dtype: np.dtype) -> np.ndarray:
    files.check(path)
    local = files.local(path)
    tokens = np.memmap(local, dtype, "r") if local.stat().st_size else np.zeros(0, dtype)
    tokens.flags.writeable = False  # a kernel is compiled for each kind of array
    return tokens


def _chosen(ids: pa.Array, sizes: np.ndarray) -> list[int]:
    """The first document that fits; as long as they are a small part of the bytes, the last one and some by hash."""
    fit = np.flatnonzero(sizes <= _LARGEST)
    if len(fit) == 0:
        return []
    hashes = document_hash(ids.take(pa.array(fit)), 0)
    wanted = [int(fit[0]), int(fit[-1]), *fit[np.argsort(hashes, kind="stable")[:_AGAIN]].tolist()]
    read = np.cumsum([sizes[row] for row in wanted])
    return sorted({row for row, much in zip(wanted, read, strict=True) if row == fit[0] or much <= sizes.sum() / _PART})


def _shown(tokens: np.ndarray, starts: np.ndarray, lengths: np.ndarray, row: int) -> str:
    ids = tokens[starts[row] : starts[row] + lengths[row]].tolist()
    return f"{len(ids)} tokens, the last {ids[-1] if ids else 'none'}"


@njit(cache=True, nogil=True)
def _scan(tokens, starts, lengths, data, offsets, eos, special, spelled, bounds):
    """The first document of each fault of _WRONG, or -1: int64 [4]. ``data[offsets[i]:offsets[i + 1]]`` is text i."""
    tokens, data, special = borrow(tokens), borrow(data), borrow(special)
    spelled, bounds = borrow(spelled), borrow(bounds)
    places = np.full(4, -1, np.int64)
    for row in range(len(starts)):
        end, place, last = starts[row] + lengths[row], offsets[row], offsets[row + 1]
        if eos >= 0:
            if (lengths[row] == 0 or tokens[end - 1] != eos) and places[0] < 0:
                places[0] = row
            end -= 1
        for at in range(starts[row], end):
            token = int64(tokens[at])
            if token >= len(special):
                if places[2] < 0:
                    places[2] = row
            elif special[token]:
                if places[1] < 0:
                    places[1] = row
            elif len(bounds):
                low, high = bounds[token], bounds[token + 1]
                k = low
                if place + high - low <= last:
                    while k < high and spelled[k] == data[place + k - low]:
                        k += 1
                if k < high and places[3] < 0:
                    places[3] = row
                place += high - low
        if len(bounds) and place != last and places[3] < 0:
            places[3] = row
    return places

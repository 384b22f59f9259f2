"""From the curated corpus to packed tokens: the split by document hash, and encoding straight from Arrow.

A document that the balance stage repeats is stored once with its ``repeats``; training reads it that often per pass.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from pipeline.text.buffers import text_buffers
from pipeline.text.hashing import document_hash
from pipeline.tokenization import packed

VERSION = 1
_BLOCK = 4 << 20  # bytes of text that are encoded at once

# The engine starts a thread per core in each process; the build's runner already runs one process per core.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def thresholds(hashes: np.ndarray, domains: pa.DictionaryArray, share: float) -> dict[str, int]:
    """Per domain the hash (uint64) below which a document is held out.

    It takes a ``share`` of the domain's documents, rounded up, and none of a domain that has one document only. Keyed
    by document hash, so no order and no sharding changes it.
    """
    groups = domains.indices.to_numpy(zero_copy_only=False)
    found = {}
    for group, domain in enumerate(domains.dictionary.to_pylist()):
        members = np.sort(hashes[groups == group])
        taken = int(np.ceil(len(members) * share)) if len(members) > 1 else 0
        found[domain] = int(members[taken]) if taken else 0
    return found


def is_heldout(ids: pa.StringArray, domains: pa.StringArray, limits: dict[str, int], seed: int) -> np.ndarray:
    """bool [n]: whether each document belongs to the held-out split, given ``thresholds``."""
    encoded = domains.dictionary_encode()
    table = np.array([limits[domain] for domain in encoded.dictionary.to_pylist()], np.uint64)
    return document_hash(ids, seed) < table[encoded.indices.to_numpy(zero_copy_only=False)]


def load(path: str) -> Tokenizer:
    """The tokenizer in ``path`` for text that is not trusted: "<|endoftext|>" in a document is plain text."""
    tokenizer = Tokenizer.from_file(path)
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encode(texts: pa.StringArray, tokenizer: Tokenizer, eos: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of ``(tokens uint32, lengths int64)`` in the order of ``texts``; ``eos``, if any, closes every text."""
    _, offsets = text_buffers(texts)
    first = 0
    while first < len(texts):
        stop = max(first + 1, int(np.searchsorted(offsets, offsets[first] + _BLOCK)))
        stop = min(stop, len(texts))
        block = texts.slice(first, stop - first).to_pylist()
        encoded = [encoding.ids for encoding in tokenizer.encode_batch_fast(block, add_special_tokens=False)]
        if eos is not None:
            for ids in encoded:
                ids.append(eos)
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        tokens = np.fromiter(chain.from_iterable(encoded), np.uint32, int(lengths.sum()))
        yield tokens, lengths
        first = stop


def pack_shard(
    folder: str, index: int, corpus: pa.Table, tokenizer: Tokenizer, eos: int | None, fingerprint: str
) -> int:
    """Encode the documents of ``corpus`` (id, text, domain, repeats) into shard ``index``; returns how many tokens."""
    texts = corpus["text"].combine_chunks()
    dtype = packed.token_dtype(tokenizer.get_vocab_size())
    parts, sizes = [np.zeros(0, dtype)], [np.zeros(0, np.int64)]
    for tokens, lengths in encode(texts, tokenizer, eos):
        parts.append(tokens.astype(dtype))
        sizes.append(lengths)
    lengths = np.concatenate(sizes)
    documents = pa.table(
        {
            "start": np.cumsum(lengths) - lengths,
            "length": lengths.astype(np.int32),
            "id": corpus["id"],
            "domain": corpus["domain"],
            "bytes": pc.binary_length(texts).cast(pa.int64()),
            "repeats": corpus["repeats"],
        }
    )
    packed.write_shard(folder, index, np.concatenate(parts), documents, fingerprint)
    return int(lengths.sum())

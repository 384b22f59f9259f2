"""From the curated corpus to packed tokens: the split by document hash, and encoding straight from Arrow.

A document that the balance stage repeats is stored once with its ``repeats``; training reads it that often per pass.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from pipeline.store import files, packed_tokens
from pipeline.text import sentences
from pipeline.text.hashing import document_hash
from pipeline.tokenization.encoding.encode import Encoded, Encoder

VERSION = 3


def thresholds(hashes: np.ndarray, domains: pa.DictionaryArray, share: float) -> dict[str, int]:
    """Per domain the hash (uint64) below which a document is held out.

    It takes a ``share`` of the domain's documents, rounded up, and none of a domain that has one document only. Keyed
    by document hash, so no order and no sharding changes it.
    """
    groups = domains.indices.to_numpy(zero_copy_only=False)
    limits = {}
    for group, domain in enumerate(domains.dictionary.to_pylist()):
        members = np.sort(hashes[groups == group])
        taken = int(np.ceil(len(members) * share)) if len(members) > 1 else 0
        limits[domain] = int(members[taken]) if taken else 0
    return limits


def is_heldout(ids: pa.StringArray, domains: pa.StringArray, limits: dict[str, int], seed: int) -> np.ndarray:
    """bool [n]: whether each document belongs to the held-out split, given ``thresholds``."""
    encoded = domains.dictionary_encode()
    table = np.array([limits[domain] for domain in encoded.dictionary.to_pylist()], np.uint64)
    return document_hash(ids, seed) < table[encoded.indices.to_numpy(zero_copy_only=False)]


def load(path: str) -> Tokenizer:
    """The tokenizer in ``path`` for text that is not trusted: "<|endoftext|>" in a document is plain text."""
    files.check(path)
    tokenizer = Tokenizer.from_file(path)
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def pack_shard(folder: str, index: int, corpus: pa.Table, encoder: Encoder, eos: int | None, fingerprint: str) -> int:
    """Encode the documents of ``corpus`` (id, text, domain, repeats) into shard ``index``; returns how many tokens."""
    texts = corpus["text"].combine_chunks()
    nothing = np.zeros(0, np.int64)
    blocks = [Encoded(nothing.astype(encoder.dtype), nothing, nothing.astype(np.uint32), nothing)]
    blocks += encoder.encode(texts, eos, sentences.starts(texts))
    tokens, *parts = zip(*blocks, strict=True)
    lengths, places, counts = map(np.concatenate, parts)
    documents = pa.table(
        {
            "start": np.cumsum(lengths) - lengths,
            "length": lengths.astype(np.int32),
            "id": corpus["id"],
            "domain": corpus["domain"],
            "bytes": pc.binary_length(texts).cast(pa.int64()),
            "repeats": corpus["repeats"],
            "sentences": pa.ListArray.from_arrays(np.cumsum(np.append(0, counts)).astype(np.int32), places),
        }
    )
    packed_tokens.write_shard(folder, index, tokens, documents, fingerprint)
    return int(lengths.sum())

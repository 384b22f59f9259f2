"""What a tokenizer cannot give back: held-out texts whose decode(encode(text)) differs, and an example by kind."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.text.hashing import document_hash
from pipeline.tokenization.encoding.encode import Encoder

#: Documents that are tried, those with the smallest hashes, and the characters of each.
DOCUMENTS, CHARACTERS = 1000, 4000
_PLACES = {
    "line breaks": re.compile(r"[\n\r]"),
    "tabs": re.compile("\t"),
    "spaces": re.compile(r" {2,}|^ | $|\w[^\w\s]"),
    "case": re.compile("[A-Z]"),
}


def sample(tables: Iterable[pa.Table], seed: int) -> list[str]:
    """The openings of DOCUMENTS documents of ``tables`` (id, text), the same for any shards and order."""
    hashes, texts = np.zeros(0, np.uint64), pa.array([], pa.large_string())
    for table in tables:
        openings = pc.utf8_slice_codeunits(table["text"].combine_chunks().cast(pa.large_string()), 0, CHARACTERS)
        hashes = np.append(hashes, document_hash(table["id"].combine_chunks(), seed))
        order = np.argsort(hashes, kind="stable")[:DOCUMENTS]
        hashes, texts = hashes[order], pa.concat_arrays([texts, openings]).take(pa.array(order))
    return texts.to_pylist()


def measure(texts: list[str], encoder: Encoder, name: str, unk: int | None) -> dict[str, Any]:
    """``documents`` tried, how many are ``changed``, and by kind of loss how many show it, with an example."""
    ids = [
        part.tolist()
        for block in encoder.encode(pa.array(texts, pa.string()))
        for part in np.split(block.tokens, np.cumsum(block.lengths)[:-1])
    ]
    decoded = encoder.tokenizer.decode_batch(ids, skip_special_tokens=False)
    changed, lost = 0, {}
    for text, back, tokens in zip(texts, decoded, ids, strict=True):
        if text == back:
            continue
        changed += 1
        for kind in _kinds(text, back, unk is not None and unk in tokens):
            entry = lost.setdefault(kind, {"kind": kind, "documents": 0, **_example(text, back, kind, encoder)})
            entry["documents"] += 1
    kinds = sorted(lost.values(), key=lambda entry: (-entry["documents"], entry["kind"]))
    return {"tokenizer": name, "documents": len(texts), "changed": changed, "lost": kinds}


def _kinds(text: str, back: str, has_unknown: bool) -> list[str]:
    """What of ``text`` its decoding ``back`` lacks."""
    kinds = ["unknown characters"] if has_unknown else []
    breaks = sum(text.count(c) - back.count(c) for c in "\n\r")
    tabs, spaces = text.count("\t") - back.count("\t"), back.count(" ") - text.count(" ")
    kinds += ["line breaks"] if breaks else []
    kinds += ["tabs"] if tabs else []
    kinds += ["spaces"] if spaces < 0 or spaces > breaks + tabs else []
    kinds += ["case"] if sum(map(str.isupper, text)) > sum(map(str.isupper, back)) else []
    kinds += ["accents"] if _marks(text) > _marks(back) else []
    if not has_unknown and _bare(text) != _bare(back):
        kinds.append("other characters")
    return kinds or ["forms of characters"]


def _marks(text: str) -> int:
    return sum(unicodedata.combining(c) > 0 for c in unicodedata.normalize("NFD", text))


def _bare(text: str) -> str:
    """``text`` without white space, case and accents."""
    text = unicodedata.normalize("NFD", "".join(text.split()).casefold())
    return "".join(c for c in text if not unicodedata.combining(c))


def _example(text: str, back: str, kind: str, encoder: Encoder) -> dict[str, str]:
    """A stretch of ``text`` where the loss is, or else where the first difference is, and what comes back of it."""
    place = _PLACES[kind].search(text) if kind in _PLACES else None
    differ = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), 0)
    at = place.start() if place else differ
    before = text[max(0, at - 8) : at + 16]
    ids = encoder.tokenizer.encode(before, add_special_tokens=False).ids
    return {"before": before, "after": encoder.tokenizer.decode(ids, skip_special_tokens=False)}

"""Which tokens go on with a word, as far as a tokenizer's pieces show it.

WordPiece marks what continues a word (##); byte-level BPE, SentencePiece and Metaspace mark the space before one, so
that punctuation belongs to the word it touches, as in RoBERTa's whole-word masking (fairseq).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.store import files

#: White space as byte-level BPE (space, newline, tab, carriage return) and Metaspace write it.
_SPACES = {"ByteLevel": ("\u0120", "\u010a", "\u0109", "\u010d"), "Metaspace": ("\u2581",)}


def continuations(tokenizer: str, size: int) -> np.ndarray | None:
    """Whether each of ``size`` entries of the tokenizer in a folder goes on with a word, bool [size].

    None where there is no tokenizer.json, or its pieces do not show it.
    """
    path = files.join(tokenizer, "tokenizer.json")
    if not files.exists(path):
        return None
    content = files.read_json(path)
    model = content["model"]
    entries = model.get("vocab", {})
    pieces = entries.items() if isinstance(entries, dict) else ((entry[0], id_) for id_, entry in enumerate(entries))
    if model["type"] == "WordPiece":
        prefix = model["continuing_subword_prefix"]
        continuing = [id_ for piece, id_ in pieces if piece.startswith(prefix)]
    else:
        spaces = tuple(space for kind in _types(content["pre_tokenizer"]) for space in _SPACES.get(kind, ()))
        if not spaces:
            return None
        continuing = [id_ for piece, id_ in pieces if not piece.startswith(spaces)]
    marks = np.zeros(size, bool)
    marks[[id_ for id_ in continuing if id_ < size]] = True
    marks[[token["id"] for token in content["added_tokens"] if token["id"] < size]] = False
    return marks


def _types(step: dict[str, Any] | None) -> list[str]:
    """The types of a pre-tokenizer's steps, sequences opened."""
    if step is None:
        return []
    inner = step.get("pretokenizers", [])
    return [step["type"], *(kind for part in inner for kind in _types(part))]

"""Vocabulary extension: the words of a domain as tokens of their own, added to a tokenizer that lacks them.

A candidate is a whole word, with the space before it where the tokenizer keeps that in its pieces. Of the words that
the tokenizer writes in several pieces those are chosen that save most tokens on the domain's text, occurrences times
(pieces - 1); words are cut apart before any piece is chosen, so no choice changes what another saves. Ties go to the
word that sorts first.

The new tokens stand behind the old vocabulary. They are entries of the model, not words looked for in the text
("added tokens"), and stand for whole words only:

- byte-level BPE takes a word that is an entry as it is (``ignore_merges``), and merges the others as before;
- WordPiece takes the longest match, so a word that begins with a new one is also written with it.

Text that holds no new word is encoded as before; this is checked for every word that is an old entry, the only others
that a byte-level BPE could now write in another way. Unigram's pieces compete by probability, and BPE with an
end-of-word mark has two forms of each word: these are refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from pipeline import MillError
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.formats.export import byte_alphabet


class NotExtensible(MillError):
    """A tokenizer whose vocabulary cannot grow in this way."""


@dataclass(frozen=True)
class Extension:
    """``tokenizer`` with ``tokens`` at the ids from ``first`` on; ``pieces[i]`` are the old ids of token i.

    ``saved`` int64: the tokens that each saves on the domain's text, which came to ``written`` tokens before.
    """

    tokenizer: Tokenizer
    first: int
    tokens: list[str]
    pieces: list[list[int]]
    saved: np.ndarray
    written: int


def extend(tokenizer: Tokenizer, texts: pa.StringArray | pa.LargeStringArray, number: int, least: int = 2) -> Extension:
    """``tokenizer`` with the ``number`` words of ``texts`` that save most tokens, each seen ``least`` times or more.

    Fewer are added where fewer save any. Raises NotExtensible for a Unigram model, or a tokenizer whose texts are not
    cut into words by parts that are known (encode.cut_of).
    """
    content = json.loads(tokenizer.to_str())
    model = content["model"]
    encoder = Encoder(tokenizer)
    if not encoder.compiled or not (model["type"] == "WordPiece" or encoder.byte_level):
        raise NotExtensible(
            f"a {model['type']} tokenizer with these parts cannot be extended by words; byte-level BPE cut as GPT-2 or"
            " GPT-4 do, and WordPiece cut as BERT does, can"
        )
    names = {index: piece for piece, index in tokenizer.get_vocab(with_added_tokens=False).items()}
    taken = set(tokenizer.get_vocab())
    unk = tokenizer.token_to_id(model.get("unk_token") or "")
    saved: dict[str, int] = {}
    pieces: dict[str, list[int]] = {}
    written = 0
    for ids, count in encoder.words(texts):
        written += count * len(ids)
        if len(ids) < 2 or unk in ids:
            continue
        word = _written([names[index] for index in ids], model)
        if word is not None and word not in taken:
            saved[word] = saved.get(word, 0) + count * (len(ids) - 1)
            pieces[word] = ids
    common = [word for word in saved if saved[word] >= least * (len(pieces[word]) - 1)]
    chosen = sorted(common, key=lambda word: (-saved[word], word))[:number]
    first = tokenizer.get_vocab_size()
    if model["type"] == "BPE":
        model["ignore_merges"] = True
    model["vocab"] |= {word: first + index for index, word in enumerate(chosen)}
    extended = Tokenizer.from_str(json.dumps(content))
    extended.encode_special_tokens = tokenizer.encode_special_tokens
    if model["type"] == "BPE":
        _check_old_entries(tokenizer, extended)
    own = [pieces[word] for word in chosen]
    return Extension(extended, first, chosen, own, np.array([saved[word] for word in chosen], np.int64), written)


def _written(names: list[str], model: dict[str, Any]) -> str | None:
    """The word that the pieces ``names`` make, as an entry; None if they make several words."""
    prefix = model.get("continuing_subword_prefix") or ""
    if not all(name.startswith(prefix) for name in names[1:]):
        return None
    return names[0] + "".join(name.removeprefix(prefix) for name in names[1:])


def _check_old_entries(before: Tokenizer, after: Tokenizer) -> None:
    """Raise NotExtensible if an old entry, met as a word of text, would now be encoded otherwise."""
    letters = {letter: byte for byte, letter in enumerate(byte_alphabet())}
    entries = sorted(before.get_vocab(with_added_tokens=False))
    raw = [bytes(letters[letter] for letter in entry) for entry in entries if all(c in letters for c in entry)]
    words = [text.decode() for text in raw if _is_text(text)]
    batches = (tokenizer.encode_batch_fast(words, add_special_tokens=False) for tokenizer in (before, after))
    changed = [word for word, old, new in zip(words, *batches, strict=True) if old.ids != new.ids]
    if changed:
        raise NotExtensible(
            f"{len(changed)} entries of this vocabulary are never made by its own merges, such as {changed[0]!r}, and"
            " would be if words were added; retrain the tokenizer instead"
        )


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True

"""Token canaries: documents whose ids are known, packed as the corpus is, into a folder of their own.

    tokens/<name>/canaries/   as ``train`` beside it

They go through the same encoder, files and batches as the documents of the build and are in none of these, so no model
reads them. What their ids must be is asked of ``tokenizers`` alone, and of the tokenizer that is published: here when
they are packed, and again before a model is trained, in the batches that it would be trained on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from pipeline.store import files, packed_tokens
from pipeline.store.packed_tokens import PackedTokens
from pipeline.text import sentences
from pipeline.tokenization import pack
from pipeline.tokenization.encoding.encode import Encoder, sentence_tokens
from pipeline.tokenization.token_account import TokensLost, difference

VERSION = 1
FOLDER = "canaries"
_TEXTS = (
    "The first canary sings. It has three sentences. This is the last of them.",
    "a",
    "  Two spaces,\tand a tab.\n\nA paragraph \r\n of lines  ",
    "0123456789 3.14159 2026-11-27 1,000,000 v1.2.3",
    "Ünïcödé e\u0301 naïve 計算機と言葉。 हिन्दी עברית العربية Ελληνικά 🐤👩\u200d👩\u200d👧 ﬁ Ⅻ ½",
    "def sing(x: int) -> str:\n    return f'{x!r}' * 2  # don't; I'll, we've, IT'S\n",
    "https://example.org/a_b?c=d&e=%20 <b>bold</b> (a)[b]{c} -- ... !!! x^2 \\ ~",
    " ".join(f"Sentence {number} of the longest canary comes behind the one before it." for number in range(90)),
    "The last canary but those of the vocabulary. It follows a long one.",
)
#: Ids whose pieces have canaries: the first ones, the last ones, and those around the bounds of whole-number types.
_AROUND = (300, 1 << 15, 1 << 16)


def texts(tokenizer: Tokenizer) -> list[str]:
    """The texts of the canaries: some for all, one of the tokenizer's special tokens, some of its own pieces."""
    size = tokenizer.get_vocab_size()
    added = sorted(tokenizer.get_added_tokens_decoder().items())
    reserved = " ".join(f"del{token.content}x {token.content}" for _, token in added)
    special = {index for index, _ in added}
    wanted = {at for bound in (*_AROUND, size) for at in range(bound - 4, bound + 4) if 0 <= at < size} - special
    pieces = [tokenizer.decode([index], skip_special_tokens=False) for index in sorted(wanted)]
    return [*_TEXTS, reserved or "none", *(f"{piece} {piece}" for piece in pieces if "\ufffd" not in piece)]


def table(tokenizer: Tokenizer) -> pa.Table:
    """The canaries as documents of a corpus: id, text, domain, repeats."""
    actual = texts(tokenizer)
    count = range(len(actual))
    return pa.table(
        {
            "id": [f"canary/{number:03d}" for number in count],
            "text": pa.array(actual, pa.string()),
            "domain": [("canaries", "more canaries")[number % 2] for number in count],
            "repeats": pa.array([1 + number % 3 for number in count], pa.int32()),
        }
    )


def are_current(folder: str, digest: str) -> bool:
    """Whether ``folder`` holds the canaries of the tokenizer of this ``digest``."""
    manifest = files.join(folder, "manifest.json")
    made_by = files.read_json(manifest)["shards"][0]["fingerprint"] if files.exists(manifest) else None
    names = packed_tokens.shard_names(0)
    return made_by == _made_by(digest) and all(files.exists(files.join(folder, name)) for name in names)


def write(folder: str, encoder: Encoder, special_ids: dict[str, int], digest: str) -> dict[str, Any]:
    """Pack them into ``folder`` and return its manifest; ``digest`` is that of the tokenizer."""
    pack.pack_shard(folder, 0, table(encoder.tokenizer), encoder, special_ids.get("eos"), _made_by(digest))
    return packed_tokens.write_manifest(folder, [0], encoder.vocab_size, special_ids, digest)


def _made_by(digest: str) -> str:
    return files.fingerprint("token canaries", VERSION, pack.VERSION, packed_tokens.FORMAT, digest)


def check(packed: PackedTokens, tokenizer: Tokenizer) -> None:
    """Raise TokensLost unless ``packed`` holds the canaries as ``tokenizer``, run by ``tokenizers``, encodes them."""
    wanted = table(tokenizer)
    rows, starts = packed.documents, packed.starts
    remedy = f"delete {packed.folder} and the build's tokens beside it, and run the build again"
    for column in ("id", "domain", "repeats"):
        if rows[column].to_pylist() != wanted[column].to_pylist():
            raise TokensLost(f"{packed.folder}: {column} of the token canaries is not what was planted; {remedy}")
    closing = [packed.special_ids["eos"]] if "eos" in packed.special_ids else []
    spots, bounds = sentences.starts(wanted["text"].combine_chunks())
    at = 0
    for row, (name, text) in enumerate(zip(wanted["id"].to_pylist(), wanted["text"].to_pylist(), strict=True)):
        encoding = tokenizer.encode(text, add_special_tokens=False)
        ids = encoding.ids + closing
        contents = packed.tokens(int(starts[row]), int(starts[row + 1])).astype(np.int64).tolist()
        if starts[row] != at or contents != ids:
            place = f"starts at token {starts[row]} for {at}; " if starts[row] != at else ""
            raise TokensLost(f"{packed.folder}: token canary {name!r} {place}{difference(contents, ids)}; {remedy}")
        at += len(ids)
        opens = rows["sentences"][row].as_py()
        places = sentence_tokens(text, encoding, spots[bounds[row] : bounds[row + 1]]).tolist()
        if opens != places:
            raise TokensLost(
                f"{packed.folder}: token canary {name!r} has sentences at {opens} instead of {places}; {remedy}"
            )

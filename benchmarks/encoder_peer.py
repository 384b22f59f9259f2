"""How fast another encoder is, and the ids that it gives: for the interpreter of ``.venv-encoders`` (``make
.venv-encoders``), which does not hold this project; so it must not import it.

    python encoder_peer.py NAME TOKENIZER_JSON < documents

Reads one JSON string (a document) a line. Writes one object: the version of NAME (tokenizers, tokie, gigatoken), the
seconds of processor time of two passes over all documents on one thread, opened before the clock starts, and the CRC-32
of all ids end to end as little-endian uint32.
"""

# pyright: reportMissingImports=false
import json
import sys
import time
import zlib
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np


def opened(name: str, path: str) -> tuple[Callable[[list[str]], Any], Callable[[Any], np.ndarray]]:
    """``(encode, ids)``: the quickest call that encodes documents, and the ids of all end to end of what it returns."""
    if name == "tokenizers":
        from tokenizers import Tokenizer

        tokenizer: Any = Tokenizer.from_file(path)
        return (
            lambda texts: tokenizer.encode_batch(texts, add_special_tokens=False, encode_special_tokens=True),
            lambda encodings: np.concatenate([np.array(encoding.ids, np.uint32) for encoding in encodings]),
        )
    if name == "tokie":
        from tokie import Tokenizer

        tokenizer = Tokenizer.from_json(path)
        return lambda texts: tokenizer.encode_batch_flat(texts, add_special_tokens=False), lambda result: result[0]
    import awkward
    from gigatoken import Tokenizer

    tokenizer = Tokenizer(path)
    return (
        lambda texts: tokenizer.encode_batch(texts, parallel=False),
        lambda rows: awkward.to_numpy(awkward.flatten(rows)),
    )


def main(name: str, path: str) -> None:
    texts = [json.loads(line) for line in sys.stdin]
    encode, ids = opened(name, path)
    seconds, result = [], None
    for _ in range(2):
        result = None  # what the last pass made is given back outside the clock
        start = time.process_time()
        result = encode(texts)
        seconds.append(time.process_time() - start)
    digest = zlib.crc32(ids(result).astype("<u4").tobytes())
    print(json.dumps({"version": version(name), "seconds": seconds, "digest": digest}))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What datatrove makes of documents, and how long it takes: for the interpreter of ``.venv-datatrove`` (``make
.venv-datatrove``), which does not hold this project; so it must not import it.

    python datatrove_peer.py NAME ... < documents

Reads one JSON string (a document) a line. Writes an object a document, of NAME -> what came of it: of a filter
(gopher_quality, gopher_repetition, c4, fineweb) the reason to drop it or null, of ``words`` its words, of ``minhash``
null. At last comes one object of NAME -> seconds of processor time. Each document goes through all of them in turn, as
in a pipeline: so the filters share its words, which datatrove keeps for the last five texts.
"""

# pyright: reportMissingImports=false
import json
import sys
import time
from collections.abc import Callable
from typing import Any

FILTERS = {
    "gopher_quality": "GopherQualityFilter",
    "gopher_repetition": "GopherRepetitionFilter",
    "c4": "C4QualityFilter",
    "fineweb": "FineWebQualityFilter",
}


def load(name: str) -> Callable[[str], Any]:
    if name == "words":
        from datatrove.utils.word_tokenizers import load_word_tokenizer

        return load_word_tokenizer("en").word_tokenize
    return _signer() if name == "minhash" else _filter(FILTERS[name])


def _filter(name: str) -> Callable[[str], str | None]:
    from datatrove.data import Document
    from datatrove.pipeline import filters

    judge = getattr(filters, name)()

    def reason(text: str) -> str | None:
        verdict = judge.filter(Document(text=text, id=""))  # a new one, because C4 edits it
        return None if verdict is True else verdict[1]

    return reason


def _signer() -> Callable[[str], None]:
    """The default: word 5-grams, 14 bands of 8 rows. The files that datatrove writes are left out."""
    from datatrove.pipeline.dedup import MinhashDedupSignature

    signer = MinhashDedupSignature("/nowhere")

    def sign(text: str) -> None:
        shingles = signer.get_shingles(text)
        if shingles.size:
            signer.get_signature(shingles)

    return sign


def main(names: list[str]) -> None:
    works = {name: load(name) for name in names}
    for work in works.values():
        work("This text loads the tokenizer. " * 20)
    seconds = dict.fromkeys(works, 0.0)
    for line in sys.stdin:
        text, results = json.loads(line), {}
        for name, work in works.items():
            began = time.process_time()
            results[name] = work(text)
            seconds[name] += time.process_time() - began
        print(json.dumps(results))
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(sys.argv[1:])

"""datatrove's four filters over JSON lines, for the interpreter of a virtual environment that holds datatrove 0.10.1
and spacy; it must not import this project.

Reads one JSON string (a document) a line. Writes, for each, a JSON object of family -> reason (null: kept) and the text
that C4 leaves; at last one of family -> seconds of processor time.
"""

# pyright: reportMissingImports=false
import json
import sys
import time

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)

FILTERS = {
    "gopher_quality": GopherQualityFilter(),
    "gopher_repetition": GopherRepetitionFilter(),
    "c4": C4QualityFilter(),
    "fineweb": FineWebQualityFilter(),
}


def main() -> None:
    seconds = dict.fromkeys(FILTERS, 0.0)
    for line in sys.stdin:
        text = json.loads(line)
        found = {}
        for family, judge in FILTERS.items():
            document = Document(text=text, id="")
            began = time.process_time()
            verdict = judge.filter(document)
            seconds[family] += time.process_time() - began
            found[family] = None if verdict is True else verdict[1]
            if family == "c4":
                found["c4_text"] = document.text if verdict is True else None
        print(json.dumps(found))
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()

"""The dataset card: README.md of the curated corpus, in the form of the Hugging Face hub.

Its head makes ``datasets.load_dataset`` read the folder; the rest says where the documents come from and what each
stage took. https://huggingface.co/docs/hub/datasets-cards
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from pipeline.build.build import Build, Outcome, Step
from pipeline.stages import titles
from pipeline.store import files
from pipeline.text import formats

#: The hub's names for numbers of rows, each with the number that it ends below.
_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
    (10**9, "100M<n<1B"),
    (10**10, "1B<n<10B"),
    (10**11, "10B<n<100B"),
    (10**12, "100B<n<1T"),
)
#: Begins the head.
_MARK = "---\n"

_USE = """```python
from datasets import load_dataset

corpus = load_dataset("path/to/this/folder", split="train")
```"""
_COLUMNS = (
    ("id", "where the document came from: `source/file#record`"),
    ("text", "the curated text"),
    ("source, domain", "the source of the recipe, and the domain"),
    ("url", "the address, where there is one"),
    ("metadata", "the other fields of the record, as a JSON object"),
    ("repeats", "how many times training reads the document in one pass"),
)


def steps() -> list[Step]:
    return [Step("corpus.card", "Describe the curated corpus", lambda _build: ["README.md"], _write)]


def _write(build: Build, item: str) -> Outcome:
    path = build.path("corpus", item)
    sources = files.read_json(build.path("documents", "manifest.json"))["sources"]
    content = card(build.recipe.name, sources, files.read_json(build.path("funnel.json")))
    note = f"# corpusmill: {files.fingerprint('corpus.card', content)}\n"
    if files.current(_notes(path, note)):
        return Outcome(reused=True)
    with files.replacing(path) as handle:
        handle.write(f"{_MARK}{note}{content.removeprefix(_MARK)}".encode())
    return Outcome()


def _notes(path: str, note: str) -> bool:
    """Whether the file in ``path`` begins with ``note``; what follows, people may have edited."""
    if not files.exists(path):
        return False
    with files.opened(path) as handle:
        return handle.read(len(_MARK) + len(note)) == f"{_MARK}{note}".encode()


def card(name: str, sources: dict[str, Any], funnel: dict[str, Any]) -> str:
    """The card of the corpus of the build ``name``: ``sources`` as in documents/manifest.json, ``funnel`` as in
    funnel.json.
    """
    first, *stages, last = funnel["stages"]
    languages = funnel["languages"]
    head = {
        "pretty_name": name,
        "language": sorted({code.partition("_")[0] for code in languages}),
        "size_categories": [next((size for end, size in _SIZES if last["documents"] < end), "n>1T")],
        "tags": ["corpusmill"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data-*.arrow"}]}],
    }
    kept = {key: (entry["documents"], entry["bytes"]) for key, entry in last["sources"].items()}
    parts = [
        f"{_MARK}{yaml.safe_dump({key: value for key, value in head.items() if value}, sort_keys=False)}---",
        f"# {_cell(name)}",
        f"{formats.count(last['documents'])} documents, {formats.count(last['bytes'])} bytes of text, of"
        f" {formats.count(first['documents'])} documents and {formats.count(first['bytes'])} bytes that were read."
        " Made by corpusmill.",
        _USE,
        _table(("column", "what it holds"), ((f"`{column}`", meaning) for column, meaning in _COLUMNS)),
        "## Sources",
        _table(
            ("source", "kind", "documents read", "bytes read", "documents kept", "bytes kept"),
            (
                (key, entry["kind"], entry["documents"], entry["bytes"], *kept.get(key, (0, 0)))
                for key, entry in sources.items()
            ),
        ),
        "The licence of each text is that of its source; none is recorded here.",
        "## Domains",
        _table(
            ("domain", "documents", "bytes"),
            ((key, entry["documents"], entry["bytes"]) for key, entry in last["domains"].items()),
        ),
    ]
    if languages:
        largest = sorted(languages.items(), key=lambda language: (-language[1]["documents"], language[0]))
        rows = ((key, entry["documents"], entry["bytes"]) for key, entry in largest)
        parts += ["## Languages", _table(("language", "documents", "bytes"), rows)]
    dropped = [
        (titles.title(stage["stage"]), titles.rule(rule), entry["documents"], entry["bytes"])
        for stage in stages
        for rule, entry in stage["dropped"].items()
    ]
    dropped += [
        (titles.title(stage["stage"]), "cut from texts", stage["cut"]["documents"], stage["cut"]["bytes"])
        for stage in stages
        if stage["cut"]["documents"]
    ]
    parts += ["## What was left out", _table(("stage", "rule", "documents", "bytes"), dropped)]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(map(_cell, row)) for row in rows]
    return "\n".join(f"| {line} |" for line in lines) if len(lines) > 2 else "Nothing."


def _cell(value: Any) -> str:
    """``value`` as text that Markdown takes as it is."""
    if isinstance(value, int):
        return formats.count(value)
    return html.escape(" ".join(str(value).split()), quote=False).replace("|", "&#124;")

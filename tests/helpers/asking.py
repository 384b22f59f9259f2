"""A small finished build of Python's own documentation, to ask questions about."""

from __future__ import annotations

import json
import pydoc_data.topics
from pathlib import Path
from typing import Any

from pipeline.build.build import Build
from pipeline.curation import recipe as recipes
from tests.helpers import building

TOPICS: dict[str, str] = pydoc_data.topics.topics


def values(folder: Path, **sections: Any) -> dict[str, Any]:
    """A recipe over topics, near-duplicates of some, copies of others, and a few texts in other languages."""
    texts = [text[:6000] for _, text in sorted(TOPICS.items())]
    texts += [text[: len(text) * 9 // 10] for text in texts[::4]] + texts[::7]
    texts += ["Dies ist ein kurzer Satz in deutscher Sprache. " * 3, "Ceci est une phrase en français. " * 5, "", "…"]
    lines = [json.dumps({"text": text, "url": f"https://site{i % 3}.org/{i}"}) for i, text in enumerate(texts)]
    (folder / "topics.jsonl").write_text("\n".join(lines), "utf-8")
    return {
        "name": "base",
        "seed": 5,
        "shard_bytes": "100KiB",
        "sources": [{"name": "topics", "kind": "jsonl", "path": str(folder / "topics.jsonl"), "domain": "docs"}],
        "urls": {"banned_words": ["site1"], "max_banned_words": 1},
        "language": {"keep": {"en": 0.5}},
        "heuristics": {
            "gopher_quality": {"min_words_with_letter": 0.5},
            "gopher_repetition": {"max_duplicate_ngram_characters": {5: 0.1}},
            "c4": {"end_punctuation": False, "drop_curly_bracket": False},
            "fineweb": {"max_newlines_per_word": 0.6, "max_duplicate_line_characters": 0.1},
        },
        "exact": {},
        "minhash": {"threshold": 0.7},
        "balance": {"max_epochs": 0.9},
        **sections,
    }


def make(recipe: dict[str, Any], root: Path) -> Build:
    return building.make(recipes.Recipe.model_validate(recipe), root)[0]

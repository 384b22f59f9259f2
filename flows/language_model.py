"""A language model from text files, for the perplexity stage of builds or for KenLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.execution import tracking
from flows.views.artifacts import plain_key
from pipeline.stages.perplexity import from_files
from pipeline.text import formats


def language_model(config: from_files.Config, output: Path) -> dict[str, Any]:
    """Train the n-gram model that CONFIG describes into the ARPA file OUTPUT, unless it is there, made by just this."""
    with tracking.flow("language-model", f"language-model {output.name}", output=output):
        with tracking.task("Train the language model", f"Train {output.name}") as begin:
            begin()
            facts = from_files.train(config, str(output))
        tracking.artifact(
            "table", plain_key(f"language-model-{output.name}"), f"Language model {output.name}", rows(facts)
        )
    return facts


def rows(facts: dict[str, Any]) -> list[dict[str, str]]:
    """What there is to say of the model, one row a fact."""
    found = {
        "documents": formats.count(facts["documents"]),
        "text": formats.size(facts["bytes"]),
        "sentences": formats.count(facts["sentences"]),
        **{f"{order}-grams": formats.count(count) for order, count in enumerate(facts["ngrams"], 1)},
        "SHA-256": facts["sha256"],
    }
    return [{"": name, "value": value} for name, value in found.items()]

"""A language model from text files, for the perplexity stage of builds or for KenLM."""

# No `from __future__ import annotations` here: Prefect checks a deployment's parameters by the types themselves.

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.artifacts import plain_key
from pipeline.language_model import from_files
from pipeline.report import formats


@flow(name="language-model", flow_run_name="language-model {output.name}", validate_parameters=False)
def language_model(config: from_files.Config, output: Path) -> dict[str, Any]:
    """Train the n-gram model that CONFIG describes into the ARPA file OUTPUT, unless it is there, made by just this."""
    facts = train(config, str(output))
    create_table_artifact(rows(facts), plain_key(f"language-model-{output.name}"), f"Language model {output.name}")
    return facts


@task(name="Train the language model", cache_policy=NO_CACHE, persist_result=False)
def train(config: from_files.Config, output: str) -> dict[str, Any]:
    """One task: the texts are read once and the model is estimated in this process."""
    return from_files.train(config, output)


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

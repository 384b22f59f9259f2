"""The model card: README.md of a published model, as the Hugging Face hub reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from pipeline.report import formats, models

#: What a transformers class name ends in, the hub's task, and the class that opens it.
_KINDS = (
    (("ForMaskedLM", "ForPreTraining"), "fill-mask", "AutoModelForMaskedLM"),
    (("ForCausalLM", "LMHeadModel"), "text-generation", "AutoModelForCausalLM"),
    (("ForConditionalGeneration",), "text2text-generation", "AutoModelForSeq2SeqLM"),
)


def card(summary: Mapping[str, Any], budget: Mapping[str, Any] | None) -> str:
    """The card of a pretrained model: what made it, what it cost, and its losses by domain.

    ``summary`` is the model's; ``budget`` is training.budget.Budget as a dict, None where there is none.
    """
    objective, evaluation, made_from = summary["objective"], summary["evaluation"], summary["made_from"]
    task, kind = next((row[1:] for row in _KINDS if summary["architecture"].endswith(row[0])), (None, "AutoModel"))
    head: dict[str, Any] = {"library_name": "transformers", "tags": ["corpusmill", "pretraining", objective]}
    if task is not None:
        head["pipeline_tag"] = task
    if made_from.get("languages"):
        head["language"] = made_from["languages"]
    measures = [(formats.words(name), value) for name, value in evaluation.items() if name.endswith("bits_per_byte")]
    if summary["unigram_loss"] is not None:
        measures.append(("loss of token frequencies alone, nats", summary["unigram_loss"]))
    tables = [
        ("What made it", ["", ""], _origin(summary)),
        ("Held-out text", ["measure", "value"], [("loss, nats", evaluation["loss"]), *measures]),
        ("Losses by domain", *_by_domain(evaluation.get("domains", {}))),
    ]
    if budget is not None:
        tables.append(("Token budget", ["", "", "where it comes from"], models.budget_rows(budget)))
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False).rstrip(),
        "---",
        "",
        f"# {summary['name']}",
        "",
        f"A {summary['model_type']} model of {formats.short(summary['parameters']['total'])} parameters, pretrained by"
        f" `{objective}` on {formats.short(summary['trained_tokens'])} tokens with corpusmill.",
        "",
        "```python",
        f"from transformers import AutoTokenizer, {kind}",
        "",
        f'model = {kind}.from_pretrained("path/to/this/folder")',
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")',
        "```",
    ]
    for title, columns, rows in tables:
        if rows:
            lines += ["", f"## {title}", "", *_table(columns, rows)]
    return "\n".join(lines) + "\n"


def _origin(summary: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    made_from = summary["made_from"]
    rows = [
        ("recipe", f"{made_from['recipe']} `{made_from['recipe_fingerprint']}`"),
        ("corpus", f"`{made_from['corpus']}`" if made_from["corpus"] else None),
        ("tokenizer", f"{summary['tokenizer']} `{made_from['tokenizer']}`"),
        ("packed tokens", f"`{made_from['tokens']}`"),
        ("this run", f"`{summary['fingerprint']}`, seed {summary['seed']}"),
        ("steps", f"{summary['steps']} of {summary['batch_size']} x {summary['sequence_length']} tokens"),
        ("trained on", summary["device"]),
    ]
    return [row for row in rows if row[1] is not None]


def _by_domain(domains: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[tuple[Any, ...]]]:
    names = ["loss", *sorted({n for found in domains.values() for n in found if n.endswith("bits_per_byte")})]
    rows = [
        (domain, *(found.get(name) for name in names), found["documents"], found["tokens"])
        for domain, found in sorted(domains.items())
    ]
    return ["domain", *map(formats.words, names), "documents", "tokens"], rows


def _table(columns: list[str], rows: list[tuple[Any, ...]]) -> list[str]:
    return [_row(columns), _row(["---"] * len(columns)), *map(_row, rows)]


def _row(cells: Any) -> str:
    shown = (formats.number(cell) if isinstance(cell, float) else str(cell) for cell in cells)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in shown) + " |"

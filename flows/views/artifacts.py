"""What a run leaves in the Prefect UI: tables of what came of the documents and the models, and the way to the report.

Every key begins with the build's name, so that the history of an artifact is the history of its build. The rows and
texts are made by plain functions; the ``publish_`` functions hand them to the run that is tracked, if one is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flows.execution import tracking
from pipeline.build.build import Build
from pipeline.report import canaries, charts, models, needs, sections, studies, tokens
from pipeline.stages import titles
from pipeline.store import files
from pipeline.text import formats

Table = list[dict[str, Any]]


def publish_curation(build: Build) -> None:
    """The funnel by stage, by rule and by domain, as tables."""
    account = sections.funnel(build)
    if account is None:
        return
    title = "\n\n".join(["What each stage let through", *map(warning_line, sections.warnings(build))])
    _publish_table(build, "funnel", title, funnel_rows(account))
    _publish_table(build, "dropped-by-rule", "What each rule dropped", rule_rows(account))
    _publish_table(build, "domains", "Each domain before and after curation", domain_rows(account))
    _publish_table(build, "not-documents", "What ingest read that is no document", not_document_rows(build, account))
    if planted := canaries.canaries(build):
        told = "; ".join(planted["warnings"]) or "What each stage caught of the documents planted for it"
        _publish_table(build, "canaries", told, planted["rows"])
    if contaminated := sections.contamination(build):
        _publish_table(
            build, "evaluation-sets", "Evaluation items found in documents", contamination_rows(contaminated)
        )
    if found := needs.needs(build):
        tracking.artifact("markdown", key(build, "corpus-for-a-model"), "Corpus for a model", needs_markdown(found))


def contamination_rows(found: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each evaluation set; ``found`` is sections.contamination's."""
    return [
        {
            "set": row["set"],
            "items": formats.count(row["items"]),
            "found": formats.count(row["held"]),
            "in documents": formats.count(row["documents"]),
            "too short to check": formats.count(row["not_checkable"]),
            "common, left in the corpus": formats.count(row["common"]),
        }
        for row in found
    ]


def publish_tokenizers(build: Build) -> None:
    """Tokens by domain, the tokenizers on held-out documents, the curve of bytes per token and the sizes it advises."""
    if counted := tokens.by_domain(build):
        told = f"The corpus in tokens of {counted['tokenizer']}"
        if counted["advice"]:
            told += f"; for real tokens put into the recipe's balance section: `{counted['advice']}`"
        _publish_table(build, "tokens-by-domain", told, tokens.cells(counted))
    _publish_table(build, "tokenizers", "Tokenizers on held-out documents", tokenizer_rows(build))
    found = sections.tokenizers(build)
    if found is not None and found["curve"] is not None:
        title = "Bytes per token by size of the vocabulary"
        tracking.artifact("image", key(build, "vocabulary-curve"), title, charts.image(found["curve"]))
        _publish_table(build, "vocabulary-size", "Recommended sizes of the vocabulary", size_rows(found))


def publish_training(build: Build) -> None:
    """Pretraining runs, and fine-tuned models beside their baselines."""
    _publish_table(build, "pretraining", "Pretrained models", pretraining_rows(build))
    _publish_table(build, "fine-tuning", "Fine-tuned models and their baselines", finetuning_rows(build))


def publish_budget(build: Build, numbers: Mapping[str, Any]) -> None:
    """The token budget of each run as text; ``numbers`` is what training.budget.of_build gives."""
    if numbers["runs"]:
        tracking.artifact("markdown", key(build, "token-budget"), "Token budget", budget_markdown(numbers))


def publish_ladder(build: Build) -> None:
    """The scaling ladder's laws and predictions as text."""
    found = studies.ladder(build)
    if found is not None:
        tracking.artifact("markdown", key(build, "scaling-ladder"), "Scaling ladder", ladder_markdown(found))


def publish_ablation(build: Build) -> None:
    """What each stage of curation is worth, as text."""
    found = studies.ablation(build)
    if found is not None:
        notes = "".join(f"\n{note}." for note in found["kept_notes"])
        text = "\n".join(_markdown_table(found["head"], found["table"])) + notes
        tracking.artifact("markdown", key(build, "ablation"), "What curation is worth", text)


def publish_report(build: Build, path: str) -> None:
    """A link to the HTML report in ``path``."""
    text = f"[Report of {build.recipe.name}]({link(path)})"
    tracking.artifact("markdown", key(build, "report"), "The HTML report", text)


def key(build: Build, name: str) -> str:
    """A Prefect artifact key: lower-case letters, digits and dashes, the build's name first."""
    return plain_key(f"{build.recipe.name}-{name}")


def plain_key(name: str) -> str:
    """``name`` in lower-case letters, digits and single dashes."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower())
    return "-".join(part for part in plain.split("-") if part)


def link(path: str) -> str:
    """``path`` as an address that a browser opens."""
    return files.local(path).resolve().as_uri() if files.is_local(path) else path


def funnel_rows(account: Mapping[str, Any]) -> Table:
    """One row a stage; ``account`` is sections.funnel's."""
    first = account["first"]
    return [
        {
            "stage": row["title"],
            "documents kept": formats.count(row["documents"]),
            "documents dropped": formats.count(row["gone"]["documents"]),
            "bytes kept": formats.size(row["bytes"]),
            "bytes dropped": formats.size(row["gone"]["bytes"] - row["cut"]["bytes"]),
            "bytes cut": formats.size(row["cut"]["bytes"]),
            "bytes left": formats.share(row["bytes"], first["bytes"]),
        }
        for row in account["rows"]
    ]


def rule_rows(account: Mapping[str, Any]) -> Table:
    """One row a rule, the one that dropped most first."""
    return [
        {
            "rule": titles.rule(row["rule"]),
            "stage": row["title"],
            "documents dropped": formats.count(row["documents"]),
            "bytes dropped": formats.size(row["bytes"]),
            "of all documents": formats.share(row["documents"], account["first"]["documents"]),
        }
        for row in account["rules"]
    ]


def domain_rows(account: Mapping[str, Any]) -> Table:
    """One row a domain, the largest first."""
    return [
        {
            "domain": row["domain"],
            "documents in": formats.count(row["before"]["documents"]),
            "documents kept": formats.count(row["after"]["documents"]),
            "bytes in": formats.size(row["before"]["bytes"]),
            "bytes kept": formats.size(row["after"]["bytes"]),
            "of the corpus": formats.share(row["after"]["bytes"], account["last"]["bytes"]),
        }
        for row in account["domains"]
    ]


def not_document_rows(build: Build, account: Mapping[str, Any]) -> Table:
    """Bad records by reason, what was passed over or flagged by kind, and stretches of files that were not read."""
    found = sections.quarantine(build) or {"rows": []}
    rows = [("quarantined", row["reason"], formats.count(row["records"])) for row in found["rows"]]
    for what in ("passed_over", "flagged"):
        rows += [(formats.words(what), row["kind"], formats.count(row["records"])) for row in account[what]]
    rows += [("not read", words, "–") for words in account["unread"]]
    return [dict(zip(("what", "why", "records"), row, strict=True)) for row in rows]


def warning_line(warning: str) -> str:
    """A warning as a line of Markdown."""
    return f"**Warning**: {warning.rstrip('.')}."


def tokenizer_rows(build: Build) -> Table:
    """One row a tokenizer; [] if there is none yet."""
    found = sections.tokenizers(build)
    return [
        {
            "tokenizer": row["tokenizer"],
            "bytes per token": f"{row['bytes_per_token']:.2f}",
            "tokens per word": f"{row['fertility']:.2f}",
            "unknown": formats.share(row["unknown_rate"], 1),
            "entries used": formats.share(row["vocabulary_used"], 1),
            "Rényi efficiency": f"{row['renyi_efficiency']:.2f}",
        }
        for row in (found["rows"] if found else [])
    ]


def size_rows(found: Mapping[str, Any]) -> Table:
    """One row a tokenizer and size of model; ``found`` is sections.tokenizers's."""
    return [
        {
            "model": f"{row['layers']} layers of {row['width']}",
            "tokenizer": row["tokenizer"],
            "recommended entries": ("at least " if row["largest"] else "") + formats.count(row["size"]),
            "bytes per token": f"{row['bytes_per_token']:.2f}",
        }
        for row in found["recommended"]
    ]


def pretraining_rows(build: Build) -> Table:
    """One row a pretrained model that is there."""
    rows = []
    for run in models.summaries(build, "pretrain"):
        name, value = models.bits_per_byte(run) or ("bits per byte", None)
        rows.append(
            {
                "model": run["name"],
                "parameters": formats.short(run["parameters"]["total"]),
                "tokens trained": formats.short(run["trained_tokens"]),
                "epochs": formats.number(run["epochs"]),
                "held-out loss": f"{run['evaluation']['loss']:.3f}",
                "token frequencies alone": f"{run['unigram_loss']:.3f}" if run.get("unigram_loss") else "–",
                "on held-out text": f"{formats.number(value)} {name}",
                "tokens/s": formats.short(run["tokens_per_second"]) if run["tokens_per_second"] else "–",
            }
        )
    return rows


def finetuning_rows(build: Build) -> Table:
    """One row a predictor of each fine-tuned model that is there: the model, then its baselines."""
    return [
        {
            "task": run["name"],
            "predictor": row["name"],
            **{
                name: f"{formats.share(score['value'], 1)} ({formats.share(score['low'], 1)} to"
                f" {formats.share(score['high'], 1)})"
                for name, score in zip(run["measures"], row["scores"], strict=True)
            },
        }
        for run in models.finetuned(build)
        for row in run["rows"]
    ]


def budget_markdown(numbers: Mapping[str, Any]) -> str:
    """The token budget as Markdown tables: a column a run, and where each number comes from."""
    found = models.budgets(numbers)
    if found is None:
        return "No model has been pretrained yet."
    parts = [f"{warning_line(warning)}\n" for warning in found["warnings"]]
    for title, rows in found["tables"]:
        parts.append(f"## {title}\n")
        parts.append(_markdown_row(["", *found["runs"], "where it comes from"]))
        parts.append(_markdown_row(["---", *["---:"] * len(found["runs"]), "---"]))
        parts += [_markdown_row([name, *values, why]) for name, values, why in rows]
        parts.append("")
    return "\n".join(parts)


def needs_markdown(found: Mapping[str, Any]) -> str:
    """What the model that the corpus is for asks for, as Markdown; ``found`` is needs.needs's."""
    parts = [found["verdict"], "", _markdown_row(["", "tokens", "what it is"]), _markdown_row(["---", "---:", "---"])]
    parts += [_markdown_row(list(row)) for row in found["rows"]]
    names = list(found["domains"][0]) if found["domains"] else []
    parts += ["", _markdown_row(names), _markdown_row(["---", *["---:"] * (len(names) - 1)])]
    parts += [_markdown_row(list(row.values())) for row in found["domains"]]
    return "\n".join(parts)


def ladder_markdown(found: Mapping[str, Any]) -> str:
    """What the scaling ladder found, as Markdown tables; ``found`` is studies.ladder's."""
    parts = [f"{len(found['rows'])} models; N is {found['convention']}.\n"]
    parts += [f"{warning_line(warning)}\n" for warning in found["warnings"]]
    parts += _markdown_table(["L(N, D) = E + A / N^α + B / D^β", "fitted", "95 % interval"], found["laws"])
    head = ["compute", "best N", "95 %", "best D", "95 %", "loss", "95 %"]
    parts += _markdown_table(head, found["predictions"])
    runs = [
        (row["name"], formats.short(row["parameters"]), formats.short(row["tokens"]), f"{row['loss']:.3f}")
        for row in found["rows"]
    ]
    return "\n".join(parts + _markdown_table(["run", "N", "D", "held-out loss"], runs))


def _markdown_table(head: list[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [_markdown_row(head), _markdown_row(["---", *["---:"] * (len(head) - 1)])]
    return [*lines, *(_markdown_row(list(row)) for row in rows), ""]


def _markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _publish_table(build: Build, name: str, title: str, rows: Table) -> None:
    if rows:
        tracking.artifact("table", key(build, name), title, rows)

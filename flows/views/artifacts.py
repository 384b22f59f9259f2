"""What a run leaves in the Prefect UI: tables of what came of the documents and the models, and the way to the report.

Every key begins with the build's name, so that the history of an artifact is the history of its build. The rows and
texts are made by plain functions; the ``publish_`` functions hand them to the run that is tracked, if one is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterator, Mapping
from typing import Any

from flows.execution import report_pages, tracking
from flows.views import events, outcome
from pipeline.build.build import Build
from pipeline.build.lock import BuildBusy
from pipeline.report import canaries, charts, models, needs, sections, studies, tables, tokens
from pipeline.report.tables import Table
from pipeline.store import files
from training.recipe.sections import BuildRecipe

NO_TIMES: Mapping[str, float] = {}


def publish_curation(build: Build, seconds: Mapping[str, float] = NO_TIMES, whole: Container[str] = ()) -> None:
    """The funnel by stage, by rule and by domain, as tables, and a line of the log for each stage (``stage_lines``)."""
    account = sections.funnel(build)
    if account is None:
        return
    for line in outcome.stage_lines(account, seconds, whole):
        tracking.log(line)
    title = "\n\n".join(["What each stage let through", *map(warning_line, sections.warnings(build))])
    funnel = tables.funnel(account, tokens.tokens(build)["bytes_per_token"])
    _publish_table(build, "funnel", title, funnel)
    _publish_table(build, "dropped-by-rule", "What each rule dropped", tables.rules(account))
    _publish_table(build, "domains", "Each domain before and after curation", tables.domains(account))
    others = tables.not_documents(account, sections.quarantine(build))
    _publish_table(build, "not-documents", "What ingest read that is no document", others)
    if planted := canaries.canaries(build):
        about = "; ".join(planted["warnings"]) or "What each stage caught of the documents planted for it"
        _publish_table(build, "canaries", about, tables.canaries(planted))
    if learned := sections.distilled(build):
        _publish_table(
            build, "distilled-classifiers", "Fine-tuned classifiers distilled to fastText", tables.distilled(learned)
        )
    if contaminated := sections.contamination(build):
        _publish_table(
            build, "evaluation-sets", "Evaluation items found in documents", tables.contamination(contaminated)
        )
    if target := needs.needs(build):
        tracking.artifact("markdown", key(build, "corpus-for-a-model"), "Corpus for a model", needs_markdown(target))


def publish_tokenizers(build: Build) -> None:
    """Tokens by domain, the tokenizers on held-out documents, the curve of bytes per token and the sizes it advises."""
    if counted := tokens.by_domain(build):
        about = f"The corpus in tokens of {counted['tokenizer']}"
        if counted["advice"]:
            about += f"; for real tokens put into the recipe's balance section: `{counted['advice']}`"
        _publish_table(build, "tokens-by-domain", about, tables.tokens_by_domain(counted))
    section = sections.tokenizers(build)
    if section is None:
        return
    _publish_table(build, "tokenizers", "Tokenizers on held-out documents", tables.tokenizers(section))
    if section["curve"] is not None:
        title = "Bytes per token by size of the vocabulary"
        tracking.artifact("image", key(build, "vocabulary-curve"), title, charts.image(section["curve"]))
        _publish_table(
            build, "vocabulary-size", "Recommended sizes of the vocabulary", tables.vocabulary_sizes(section)
        )


def publish_training(build: Build) -> None:
    """Pretraining runs, and fine-tuned models beside their baselines."""
    _publish_table(build, "pretraining", "Pretrained models", tables.pretraining(models.pretrained(build)))
    tuned = [row for run in models.finetuned(build) for row in rows(tables.finetuning(run), {"Task": run["name"]})]
    if tuned:
        tracking.artifact("table", key(build, "fine-tuning"), "Fine-tuned models and their baselines", tuned)


def publish_budget(build: Build, numbers: Mapping[str, Any]) -> None:
    """The token budget of each run as text; ``numbers`` is what training.budget.of_build gives."""
    if numbers["runs"]:
        tracking.artifact("markdown", key(build, "token-budget"), "Token budget", budget_markdown(numbers))


def publish_ladder(build: Build) -> None:
    """The scaling ladder's laws and predictions as text."""
    section = studies.ladder(build)
    if section is not None:
        tracking.artifact("markdown", key(build, "scaling-ladder"), "Scaling ladder", ladder_markdown(section))


def publish_ablation(build: Build) -> None:
    """What each stage of curation is worth, as text."""
    section = studies.ablation(build)
    if section is not None:
        notes = "".join(f"\n{note}." for note in section["kept_notes"])
        text = "\n".join(_markdown(tables.ablation(section))) + notes
        tracking.artifact("markdown", key(build, "ablation"), "What curation is worth", text)


def publish_lineage(build: Build[BuildRecipe]) -> None:
    """What the corpus and the models were made of, as a drawing of boxes and arrows (Mermaid)."""
    tracking.artifact("markdown", key(build, "lineage"), "What was made of what", lineage_markdown(build))


def lineage_markdown(build: Build[BuildRecipe]) -> str:
    """Sources, corpus, tokenizers and models as a Mermaid flowchart, and as a list where nothing draws it."""
    recipe = build.recipe
    arrows = [(f"source {source.name}", "corpus") for source in recipe.sources]
    arrows += [("corpus", f"tokenizer {entry.name}") for entry in recipe.tokenizers]
    arrows += [(f"tokenizer {run.tokenizer}", f"model {run.name}") for run in recipe.pretrain]
    arrows += [(f"model {run.base}" if run.base else "corpus", f"model {run.name}") for run in recipe.finetune]
    names = list(dict.fromkeys(name for arrow in arrows for name in arrow))
    boxes = [f'    n{number}["{_plain_label(name)}"]' for number, name in enumerate(names)]
    lines = [f"    n{names.index(before)} --> n{names.index(after)}" for before, after in arrows]
    listed = [f"- {outcome.escaped(before)} → {outcome.escaped(after)}" for before, after in arrows]
    return "\n".join(["```mermaid", "flowchart LR", *boxes, *lines, "```", "", *listed])


def _plain_label(name: str) -> str:
    """``name`` without what ends a label of Mermaid."""
    return "".join(letter if letter.isalnum() or letter in " ._-/" else " " for letter in name)


def publish_report(build: Build, path: str) -> None:
    """A link to the HTML report in ``path``: where the Prefect server serves it, or else the file itself, which a
    browser opens only when the address is pasted.
    """
    name = build.recipe.name

    def text(api: str | None) -> str:
        return f"[Report of {name}]({report_pages.address(api, name, build.root) or link(path)})"

    tracking.artifact("markdown", key(build, "report"), "The HTML report", text)


@contextlib.contextmanager
def failing(name: str) -> Iterator[None]:
    """An error that ends the block is an artifact of the run: which step, shard, file and record, and the remedy.

    ``name`` is the build's; what is said of a build that another run is at work on is no failure.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, BuildBusy):
            events.failed(name, error)
            tracking.artifact(
                "markdown", plain_key(f"{name}-failure"), "Why the run failed", outcome.failure_markdown(error)
            )
        raise


def key(build: Build, name: str) -> str:
    """A Prefect artifact key: lower-case letters, digits and dashes, the build's name first."""
    return plain_key(f"{build.recipe.name}-{name}")


def plain_key(name: str) -> str:
    """``name`` in lower-case letters, digits and single dashes."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower())
    return "-".join(part for part in plain.split("-") if part)


def link(path: str) -> str:
    """``path`` as an address that a browser opens."""
    return files.uri(path)


def rows(table: Table, before: Mapping[str, str] | None = None) -> list[dict[str, str]]:
    """The rows of a table as Prefect takes them, by their titles; each begins with the cells ``before``."""
    names = [title for title, _ in table.columns]
    return [{**(before or {}), **dict(zip(names, row, strict=True))} for row in table.rows]


def warning_line(warning: str) -> str:
    """A warning as a line of Markdown."""
    return f"**Warning**: {warning.rstrip('.')}."


def budget_markdown(numbers: Mapping[str, Any]) -> str:
    """The token budget as Markdown tables: a column a run, and where each number comes from."""
    section = models.budgets(numbers)
    if section is None:
        return "No model has been pretrained yet."
    parts = [f"{warning_line(warning)}\n" for warning in section["warnings"]]
    for title, table in tables.budgets(section):
        parts += [f"## {title}\n", *_markdown(table)]
    return "\n".join(parts)


def needs_markdown(section: Mapping[str, Any]) -> str:
    """What the model that the corpus is for asks for, as Markdown; ``section`` is needs.needs's."""
    parts = [*_markdown(tables.needs(section)), *_markdown(tables.needs_by_domain(section))]
    return "\n".join([section["verdict"], "", *parts])


def ladder_markdown(section: Mapping[str, Any]) -> str:
    """What the scaling ladder found, as Markdown tables; ``section`` is studies.ladder's."""
    parts = [f"{len(section['rows'])} models; N is {section['convention']}.\n"]
    parts += [f"{warning_line(warning)}\n" for warning in section["warnings"]]
    for lay_out in (tables.ladder_laws, tables.ladder_predictions, tables.ladder_runs):
        parts += _markdown(lay_out(section))
    return "\n".join(parts)


def _markdown(table: Table) -> list[str]:
    """A table as lines of Markdown."""
    rule = ["---:" if kind == "number" else "---" for _, kind in table.columns]
    lines = [[title for title, _ in table.columns], rule, *table.rows]
    return [*("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines), ""]


def _publish_table(build: Build, name: str, title: str, table: Table) -> None:
    if table.rows:
        tracking.artifact("table", key(build, name), title, rows(table))

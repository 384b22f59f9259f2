"""What commands show in the terminal when they are done. Text of documents is never read as markup or control codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table

from flows.execution.terminal import Text
from flows.views.layout import drawn, line
from pipeline.build import record
from pipeline.build.build import Build
from pipeline.report import canaries, models, sections, tables, tokens
from pipeline.store import files
from pipeline.text import formats

#: The kinds of requests to an object store.
REQUESTS = ("GET", "PUT", "LIST", "DELETE")
#: Kinds of records that are named in a line of notes.
_KINDS = 5


def summary_view(build: Build) -> RenderableType:
    """What a build came to: documents and bytes by stage, its models, and where everything lies."""
    parts: list[RenderableType] = []
    account = sections.funnel(build)
    if account is not None:
        parts += [drawn(tables.funnel(account, tokens.tokens(build)["bytes_per_token"])), *_notes(account)]
    if section := tokens.by_domain(build):
        by_domain = drawn(tables.tokens_by_domain(section))
        parts += [Text(f"\nIn tokens of {section['tokenizer']}", "bold"), Padding(by_domain, (0, 0, 1, 0))]
        if section["advice"]:
            parts.append(
                Text(f"to balance in these tokens, put into the recipe's balance section:\n  {section['advice']}")
            )
    for row in sections.classifiers(build) or []:
        heldout = row["heldout"]
        if heldout["texts"]:
            sentence = (
                f"accuracy {formats.share(heldout['accuracy'], 1)} on {formats.count(heldout['texts'])} held-out texts"
            )
            parts.append(
                line(f"{row['title']} classifier", f"{sentence}, majority {formats.share(heldout['majority'], 1)}")
            )
    for row in sections.distilled(build) or []:
        alike, rates = row["heldout"], row["per_second"]
        low, high = (formats.share(alike[end], 1) for end in ("low", "high"))
        parts.append(
            line(
                f"{row['title']} classifier",
                f"distilled to fastText: decides as {row['distilled_from']['folder']} on"
                f" {formats.share(alike['agreement'], 1)} ({low} to {high}) of {formats.count(alike['texts'])} held-out"
                f" documents, rank correlation {formats.number(alike['rank_correlation'])},"
                f" {formats.short(rates['distilled'])} documents/s in place of {formats.short(rates['fine_tuned'])}",
            )
        )
    if planted := canaries.canaries(build):
        caught = ", ".join(f"{row['stage']} {formats.share(row['caught'], row['reached'])}" for row in planted["rows"])
        parts.append(line("canaries", f"caught: {caught}"))
    parts += [line("tokens", sentence) for sentence in tokens.accounts(build)]
    parts += [Text(f"warning: {warning}", "yellow") for warning in sections.warnings(build)]
    for run in models.summaries(build, "pretrain"):
        name, value = models.bits_per_byte(run) or ("bits per byte", None)
        sentence = f"{formats.number(value)} {name} on held-out documents"
        if run.get("unigram_loss"):
            sentence += f"; {models.beside_frequencies(run)}"
        parts.append(line(run["name"], sentence))
        parts += [Text(f"warning: {warning}", "yellow") for warning in run.get("warnings", [])]
    for run in models.summaries(build, "finetune"):
        names = models.predictors(run)
        main = models.main_measure(run)
        scores = [(models.predictor(run, name), run["scores"][name][main]["value"]) for name in names]
        sentence = ", ".join(f"{name} {models.score(main, value)}" for name, value in scores)
        parts.append(line(run["name"], f"{models.MEASURES.get(main, main).lower()}: {sentence}"))
        if run.get("strategies"):
            parts.append(Padding(drawn(tables.strategies(run)), (0, 0)))
    if asked := requests(build):
        parts.append(line("object store", _requests_line(asked)))
    paths, here = _grid(), f"{Path.cwd()}/"
    for name, path in _outputs(build).items():
        paths.add_row(Text(name, "bold"), Text(path.removeprefix(here)))
    return Group(*parts, Padding(paths, (1, 0)))


def facts(build: Build) -> dict[str, Any]:
    """What a build came to, for programs: documents and bytes, what each stage dropped, models, warnings, paths."""
    report: dict[str, Any] = {"state": "completed", "name": Path(build.root).name, "folder": build.address}
    if (account := sections.funnel(build)) is not None:
        first, last = account["first"], account["last"]
        report["documents"] = {"read": first["documents"], "kept": last["documents"]}
        report["bytes"] = {"read": first["bytes"], "kept": last["bytes"]}
        losses = {row["stage"]: row["losses"]["documents"] for row in account["rows"]}
        report["dropped"] = {stage: number for stage, number in losses.items() if number}
        report["quarantined"] = account["quarantined"]
    for section in ("pretrain", "finetune"):
        if runs := [_scores(run) for run in models.summaries(build, section)]:
            report[section] = runs
    report["warnings"] = [*sections.warnings(build), *_model_warnings(build)]
    if asked := requests(build):
        report["requests"] = asked
    report["outputs"] = _outputs(build)
    return report


def requests(build: Build) -> dict[str, float]:
    """The requests to an object store of the latest run of ``build``, by kind, and how many they are for each gigabyte
    of the text that was read; {} for a build in a folder.
    """
    counts = next((run.get("requests", {}) for run in reversed(record.runs_of(build))), {})
    if not counts:
        return {}
    asked = sum(counts.get(kind, 0) for kind in REQUESTS)
    account = sections.funnel(build)
    size = account["first"]["bytes"] if account is not None else 0
    return {**counts, **({"per_gigabyte": round(asked * 1e9 / size)} if size else {})}


def _requests_line(counts: Mapping[str, float]) -> str:
    kinds = ", ".join(f"{kind} {formats.count(int(counts[kind]))}" for kind in REQUESTS if kind in counts)
    sizes = f"{formats.size(int(counts.get('sent', 0)))} sent, {formats.size(int(counts.get('received', 0)))} received"
    words = f"{kinds}; {formats.count(int(counts.get('retried', 0)))} of them repeated; {sizes}"
    return (
        f"{words}; {formats.count(int(counts['per_gigabyte']))} per GB of text" if "per_gigabyte" in counts else words
    )


def _scores(run: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("name", "evaluation", "scores", "parameters", "trained_tokens", "tokens_per_second")
    return {name: run[name] for name in kept if name in run}


def _model_warnings(build: Build) -> list[str]:
    runs = models.summaries(build, "pretrain")
    return [f"{run['name']}: {warning}" for run in runs for warning in run.get("warnings", [])]


def needs_view(section: Mapping[str, Any]) -> RenderableType:
    """The corpus that a model asks for; ``section`` is needs.laid_out's."""
    verdict = Text(section["verdict"], "green" if section["reached"] else "yellow")
    return Group(verdict, Padding(drawn(tables.needs(section)), (1, 0)), drawn(tables.needs_by_domain(section)))


def budget_view(runs: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The token budgets of models, a column each; ``runs`` is what training.budget.estimates gives."""
    section = models.budgets({"runs": runs})
    assert section is not None  # plans raises where there is none
    parts: list[RenderableType] = []
    if any(run["estimated"] for run in runs):
        names = ", ".join(run["name"] for run in runs if run["estimated"])
        parts.append(Text(f"not trained yet, so tokens are estimated and speeds unknown: {names}", "yellow"))
    parts += [Text(assumption, "yellow") for assumption in {run["assumed"]: None for run in runs if run.get("assumed")}]
    for title, table in tables.budgets(section):
        parts += [Text(f"\n{title}", "bold"), drawn(table)]
    parts += [Text(f"warning: {warning}", "yellow") for warning in section["warnings"]]
    return Group(*parts)


def facts_view(title: str, rows: Sequence[Mapping[str, str]], reused: bool) -> RenderableType:
    """Names and values under a title."""
    table = _grid()
    for row in rows:
        table.add_row(*(Text(value) for value in row.values()))
    return Group(Text(f"{title}  (up to date)" if reused else title, "bold"), table)


def _notes(account: Mapping[str, Any]) -> list[Text]:
    """What stands beside the funnel: records that are no documents of it, and texts that ingest changed."""
    notes = []
    if account["quarantined"]:
        notes.append(line("Quarantined", formats.several(account["quarantined"], "record")))
    for title, rows in (("Passed over", account["passed_over"]), ("Flagged", account["flagged"])):
        if rows:
            kinds = ", ".join(f"{formats.count(row['records'])} {row['kind']}" for row in rows[:_KINDS])
            more = f" and {formats.several(len(rows) - _KINDS, 'other kind')}" if len(rows) > _KINDS else ""
            notes.append(line(title, kinds + more))
    notes += [line("Not read", words) for words in account["unread"]]
    if account["forgotten"]["documents"]:
        size = formats.size(account["forgotten"]["bytes"])
        notes.append(line("Forgotten", f"{formats.several(account['forgotten']['documents'], 'document')}, {size}"))
    for row in account["normalised"]:
        sizes = f"{formats.size(row['bytes_before'])} to {formats.size(row['bytes_after'])}"
        notes.append(line("Normalised", f"{row['step']}: {formats.several(row['documents'], 'document')}, {sizes}"))
    return notes


def _outputs(build: Build) -> dict[str, str]:
    """Name and path of what the build has made so far."""
    wanted = {"corpus": (build.path("corpus"), "manifest.json"), "parquet": (build.path("parquet"), "")}
    for tokenizer in build.section("tokenizers") or []:
        wanted[f"tokenizer {tokenizer.name}"] = (build.path("tokenizers", tokenizer.name), "tokenizer.json")
    for section in ("pretrain", "finetune"):
        for run in build.section(section) or []:
            wanted[f"model {run.name}"] = (build.path("models", run.name), "summary.json")
    wanted["report"] = (build.path("report", "index.html"), "")
    return {name: files.url_of(path) for name, (path, proof) in wanted.items() if files.exists(files.join(path, proof))}


def _grid() -> Table:
    """A table of names and values without titles; values fold, and are never cut."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, overflow="fold")
    table.add_column(overflow="fold")
    return table


def ladder_view(section: Mapping[str, Any]) -> RenderableType:
    """The scaling ladder: its runs, the laws that fit them, and the next sizes; ``section`` is studies.ladder's."""
    parts = (tables.ladder_runs(section), tables.ladder_laws(section), tables.ladder_predictions(section))
    notes = [Text(warning, "yellow") for warning in section["warnings"]]
    notes += [Text(f"not trained: {name}: {why}", "yellow") for name, why in section["left_out"].items()]
    return Group(*(Padding(drawn(table), (0, 0, 1, 0)) for table in parts), *notes)


def ablation_view(section: Mapping[str, Any]) -> RenderableType:
    """What each stage is worth; ``section`` is studies.ablation's."""
    notes = [Text(note, "yellow") for note in section["kept_notes"]]
    sentence = (
        f"{formats.several(section['seeds'], 'model')} of {formats.short(section['parameters'])} parameters a row"
    )
    return Group(drawn(tables.ablation(section)), Padding(line("Models", sentence), (1, 0)), *notes)

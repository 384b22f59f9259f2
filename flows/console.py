"""What commands show in the terminal when they are done. Text of documents is never read as markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pipeline.build import Build
from pipeline.inspect import BuildRow, Check, Explanation, Passage
from pipeline.report import formats, models, sections
from pipeline.report.samples import excerpt
from pipeline.store import files

_STATES = {"completed": "green", "failed": "red", "killed": "red", "running": "yellow"}


def summary_view(build: Build) -> RenderableType:
    """What a build came to: documents and bytes by stage, its models, and where everything lies."""
    parts: list[RenderableType] = []
    account = sections.funnel(build)
    if account is not None:
        parts.append(_funnel_table(account))
    for run in models.summaries(build, "pretrain"):
        name, value = models.bits_per_byte(run) or ("bits per byte", None)
        parts.append(_line(run["name"], f"{formats.number(value)} {name} on held-out documents"))
    for run in models.summaries(build, "finetune"):
        scores = [(told, run["scores"][name]["accuracy"]["value"]) for name, told in models.PREDICTORS.items()]
        told = ", ".join(f"{name} {formats.share(value, 1)}" for name, value in scores)
        parts.append(_line(run["name"], f"accuracy: {told}"))
    paths = Table.grid(padding=(0, 2))
    for name, path in _outputs(build).items():
        paths.add_row(Text(name, "bold"), Text(path))
    return Group(*parts, Padding(paths, (1, 0)))


def _funnel_table(account: Mapping[str, Any]) -> Table:
    table = _table("Stage", "Documents|", "dropped|", "Bytes|", "dropped|", "cut|")
    for row in account["rows"]:
        gone, cut = row["gone"], row["cut"]["bytes"]
        table.add_row(
            row["title"],
            formats.count(row["documents"]),
            formats.count(gone["documents"]) if gone["documents"] else "–",
            formats.size(row["bytes"]),
            formats.size(gone["bytes"] - cut) if gone["bytes"] > cut else "–",
            formats.size(cut) if cut else "–",
            style="bold" if row["stage"] == "corpus" else None,
        )
    return table


def _outputs(build: Build) -> dict[str, str]:
    """Name and path of what the build has made so far."""
    wanted = {"corpus": (build.path("corpus"), "manifest.json"), "parquet": (build.path("parquet"), "")}
    for tokenizer in getattr(build.recipe, "tokenizers", []):
        wanted[f"tokenizer {tokenizer.name}"] = (build.path("tokenizers", tokenizer.name), "tokenizer.json")
    for section in ("pretrain", "finetune"):
        for run in getattr(build.recipe, section, []):
            wanted[f"model {run.name}"] = (build.path("models", run.name), "summary.json")
    wanted["report"] = (build.path("report", "index.html"), "")
    return {name: path for name, (path, proof) in wanted.items() if files.exists(files.join(path, proof))}


def runs_view(rows: Sequence[BuildRow]) -> RenderableType:
    """A table of builds."""
    if not rows:
        return Text("no build here yet; start with: mill build data/recipes/demo.yaml")
    table = _table("Build", "State", "Started", "Took|", "Runs|", "Documents|", "kept|", "Bytes|", "kept|")
    for row in rows:
        table.add_row(
            Text(row.name, "bold"),
            Text(row.state, _STATES.get(row.state, "")),
            row.started.astimezone().strftime("%Y-%m-%d %H:%M") if row.started else "–",
            _duration(row.seconds),
            str(row.runs),
            *(
                "–" if value is None else write(value)
                for value, write in (
                    (row.documents, formats.count),
                    (row.kept_documents, formats.count),
                    (row.bytes, formats.size),
                    (row.kept_bytes, formats.size),
                )
            ),
        )
    errors = [Text(f"{row.name}: {row.error}", "red") for row in rows if row.error and row.state == "failed"]
    return Group(table, *errors)


def explanation_view(explanation: Explanation) -> RenderableType:
    """Why a document is in the corpus or not, stage by stage."""
    head = Text.assemble(
        (explanation.id, "bold"), f"\n{explanation.domain}, row {explanation.row} of {explanation.shard}"
    )
    if explanation.url:
        head.append(f"\n{explanation.url}")
    parts: list[RenderableType] = [head, _verdict(explanation), Padding(_passages_table(explanation.passages), (1, 0))]
    for passage in explanation.passages:
        if passage.cuts:
            cut = Text("\n⋯\n").join(Text(excerpt(piece)) for piece in passage.cuts[:5])
            parts.append(
                _text_panel(f"{formats.title(passage.stage)} cut {formats.several(len(passage.cuts), 'piece')}", cut)
            )
    if explanation.missing:
        parts.append(Text(f"not run on it yet: {', '.join(map(formats.title, explanation.missing))}", "yellow"))
    if explanation.survivor:
        parts.append(
            _text_panel(f"kept in its place: {explanation.survivor.id}", Text(excerpt(explanation.survivor.text)))
        )
    parts.append(_text_panel("text", Text(excerpt(explanation.text))))
    if explanation.corpus_text is not None and explanation.corpus_text != explanation.text:
        parts.append(_text_panel("text in the corpus", Text(excerpt(explanation.corpus_text))))
    return Group(*parts)


def _verdict(explanation: Explanation) -> Text:
    if not explanation.dropped_by:
        kept = explanation.corpus_text is not None
        return Text("in the corpus" if kept else "not dropped so far", "bold green")
    last = explanation.passages[-1]
    told = f"dropped by {explanation.dropped_by} in {formats.title(last.stage)}"
    if last.value is not None and last.threshold is not None:
        told += f": value {formats.number(last.value)}, threshold {formats.number(last.threshold)}"
    return Text(told, "bold red")


def _passages_table(passages: Sequence[Passage]) -> Table:
    """The signals of each stage with the rules on them; a signal without a rule stands with its value alone."""
    table = _table("Signal", "Value|", "Rule", "Threshold|", "Margin|", "")
    for passage in passages:
        table.add_row(Text(formats.title(passage.stage), "bold"))
        for check in passage.checks:
            table.add_row(_signal(check.signal), *_check_cells(check, passage.dropped_by))
        judged = {check.signal for check in passage.checks}
        for name, value in passage.signals.items():
            if name not in judged and value is not None:
                table.add_row(_signal(name), Text(_value(value)))
        if passage.dropped_by and passage.dropped_by not in {check.rule for check in passage.checks}:
            table.add_row("", *_verdict_cells(passage, passage.dropped_by))
    return table


def _verdict_cells(passage: Passage, rule: str) -> tuple[RenderableType, ...]:
    """The verdict of a stage whose thresholds were found in the data; a duplicate has no margin, it has a survivor."""
    value, threshold = passage.value, passage.threshold
    shown, margin = formats.number(threshold), ""
    if value is not None and threshold is not None and "duplicate_of" not in passage.signals:
        shown = f"{'≤' if value > threshold else '≥'} {shown}"
        margin = formats.number(-abs(value - threshold))
    return formats.number(value), Text(formats.rule(rule)), shown, margin, Text("failed", "bold red")


def _signal(name: str) -> Text:
    return Text(f"  {formats.words(name)}")


def _value(value: Any) -> str:
    return formats.number(value) if isinstance(value, float) else excerpt(str(value))[:60]


def _check_cells(check: Check, dropped_by: str | None) -> tuple[RenderableType, ...]:
    bound = {"minimum": "≥", "maximum": "≤"}[check.bound]
    group = f" ({check.group})" if check.group else ""
    state = Text("passed", "green")
    if check.margin is None:
        state = Text("does not apply", "dim")
    elif not check.passed:
        state = Text("failed", "bold red" if check.rule == dropped_by else "red")
    return (
        formats.number(check.value),
        Text(formats.rule(check.rule) + group),
        "–" if check.threshold is None else f"{bound} {formats.number(check.threshold)}",
        formats.number(check.margin),
        state,
    )


def _table(*columns: str) -> Table:
    """A table without lines; a column whose title ends in ``|`` is aligned to the right."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in columns:
        table.add_column(title.removesuffix("|"), justify="right" if title.endswith("|") else "left")
    return table


def _line(name: str, told: str) -> Text:
    return Text.assemble((name, "bold"), f"  {told}")


def _text_panel(title: str, text: Text) -> Panel:
    return Panel(text, title=Text(title), title_align="left", border_style="dim")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"

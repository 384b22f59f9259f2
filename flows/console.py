"""What commands show in the terminal when they are done. Text of documents is never read as markup or control codes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table

from flows.execution.terminal import Text
from flows.fields import Field
from pipeline.build.build import Build
from pipeline.build.record import BuildRow
from pipeline.questions.diff import Difference
from pipeline.questions.overlap import Overlap
from pipeline.questions.sample import Sampled
from pipeline.questions.whatif import Answer
from pipeline.questions.why import Check, Explanation, Forgotten, Passage
from pipeline.report import canaries, models, sections, tokens
from pipeline.report.samples import excerpt
from pipeline.store import files
from pipeline.text import formats

#: Characters of a line in the title of a column of numbers.
_HEADING = 10
#: Characters that a column of words gets at least beside columns of numbers.
_LEAST_WORDS = 18
#: Kinds of records that are named in a line of notes.
_KINDS = 5
_STATES = {"completed": "green", "failed": "red", "killed": "red", "running": "yellow"}


def summary_view(build: Build) -> RenderableType:
    """What a build came to: documents and bytes by stage, its models, and where everything lies."""
    parts: list[RenderableType] = []
    account = sections.funnel(build)
    if account is not None:
        parts += [_funnel_table(account), *_notes(account)]
    if found := tokens.by_domain(build):
        parts += [Text(f"\nIn tokens of {found['tokenizer']}", "bold"), Padding(_tokens_table(found), (0, 0, 1, 0))]
        if found["advice"]:
            parts.append(
                Text(f"to balance in these tokens, put into the recipe's balance section:\n  {found['advice']}")
            )
    for row in sections.classifiers(build) or []:
        held = row["heldout"]
        if held["texts"]:
            told = f"accuracy {formats.share(held['accuracy'], 1)} on {formats.count(held['texts'])} held-out texts"
            parts.append(_line(f"{row['title']} classifier", f"{told}, majority {formats.share(held['majority'], 1)}"))
    if planted := canaries.canaries(build):
        caught = ", ".join(f"{row['stage']} {row['recall']}" for row in planted["rows"])
        parts.append(_line("canaries", f"caught: {caught}"))
    parts += [Text(f"warning: {warning}", "yellow") for warning in sections.warnings(build)]
    for run in models.summaries(build, "pretrain"):
        name, value = models.bits_per_byte(run) or ("bits per byte", None)
        told = f"{formats.number(value)} {name} on held-out documents"
        if run.get("unigram_loss"):
            told += f"; {models.beside_frequencies(run)}"
        parts.append(_line(run["name"], told))
        parts += [Text(f"warning: {warning}", "yellow") for warning in run.get("warnings", [])]
    for run in models.summaries(build, "finetune"):
        names = models.predictors(run)
        scores = [(models.PREDICTORS.get(name, name), run["scores"][name]["accuracy"]["value"]) for name in names]
        told = ", ".join(f"{name} {formats.share(value, 1)}" for name, value in scores)
        parts.append(_line(run["name"], f"accuracy: {told}"))
    paths, here = _grid(), f"{Path.cwd()}/"
    for name, path in _outputs(build).items():
        paths.add_row(Text(name, "bold"), Text(path.removeprefix(here)))
    return Group(*parts, Padding(paths, (1, 0)))


def fields_view(fields: Sequence[Field]) -> RenderableType:
    """Each field's name, type and default on a line of its own, and below it what it is for; no name is cut."""
    parts: list[RenderableType] = []
    for field in fields:
        parts.append(Text(field.name, "bold", no_wrap=True, overflow="ignore"))
        default = field.default if field.default in ("", "required") else f"default {field.default}"
        for line in (", ".join(filter(None, (field.type, default))), field.about):
            if line:
                parts.append(Padding(Text(line), (0, 0, 0, 4)))
    return Group(*parts)


def needs_view(found: Mapping[str, Any]) -> RenderableType:
    """The corpus that a model asks for; ``found`` is needs.laid_out's."""
    facts = _Columns("", "Tokens|", "")
    for name, value, why in found["rows"]:
        facts.add_row(Text(name), value, Text(why, "dim"))
    names = list(found["domains"][0]) if found["domains"] else []
    by_domain = _Columns(*names[:1], *(f"{name}|" for name in names[1:]))
    for row in found["domains"]:
        by_domain.add_row(*map(Text, row.values()))
    verdict = Text(found["verdict"], "green" if found["reached"] else "yellow")
    return Group(verdict, Padding(facts, (1, 0)), by_domain)


def budget_view(runs: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The token budgets of models, a column each; ``runs`` is what training.budget.estimates gives."""
    found = models.budgets({"runs": runs})
    assert found is not None  # plans raises where there is none
    parts: list[RenderableType] = []
    if any(run["estimated"] for run in runs):
        names = ", ".join(run["name"] for run in runs if run["estimated"])
        parts.append(Text(f"not trained yet, so tokens are estimated and speeds unknown: {names}", "yellow"))
    parts += [Text(told, "yellow") for told in {run["assumed"]: None for run in runs if run.get("assumed")}]
    for title, rows in found["tables"]:
        table = _Columns("", *(f"{run}|" for run in found["runs"]), "")
        for name, values, why in rows:
            table.add_row(Text(name), *map(Text, values), Text(why, "dim"))
        parts += [Text(f"\n{title}", "bold"), table]
    parts += [Text(f"warning: {warning}", "yellow") for warning in found["warnings"]]
    return Group(*parts)


def step_view(step: int, documents: Sequence[Any]) -> RenderableType:
    """What a step of a training run read; ``documents`` are training.pretraining.lineage.Seen."""
    parts: list[RenderableType] = [Text(f"step {step} read {formats.several(len(documents), 'document')}", "bold")]
    parts += [_seen_panel(vars(seen)) for seen in documents]
    return Group(*parts)


def spikes_view(name: str, spikes: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The jumps of a run's loss with the documents behind each; as training.pretraining.lineage writes them into a summary."""
    if not spikes:
        return Text(f"no loss spikes in {name}; use --step N to see the documents of a step")
    parts: list[RenderableType] = []
    for spike in spikes:
        told = f"step {spike['step']}: loss {spike['loss']:.3f}, {spike['jump']:.3f} above the median before it"
        tokens = ", ".join(f"{formats.count(n)} of {domain}" for domain, n in spike["tokens_by_domain"].items())
        parts.append(Text.assemble((told, "bold"), f"\ntokens: {tokens}"))
        parts += [_seen_panel(seen) for seen in spike["documents"]]
        if (more := spike["documents_in_all"] - len(spike["documents"])) > 0:
            parts.append(
                Text(f"and {formats.several(more, 'more document')}; --step {spike['step']} shows all\n", "dim")
            )
    return Group(*parts)


def _seen_panel(seen: Mapping[str, Any]) -> RenderableType:
    title = f"{seen['id']}  {seen['domain']}, {formats.several(seen['tokens'], 'token')}"
    return _text_panel(title, Text(excerpt(seen["excerpt"])))


def facts_view(title: str, rows: Sequence[Mapping[str, str]], reused: bool) -> RenderableType:
    """Names and values under a title."""
    table = _grid()
    for row in rows:
        table.add_row(*(Text(value) for value in row.values()))
    return Group(Text(f"{title}  (up to date)" if reused else title, "bold"), table)


def _funnel_table(account: Mapping[str, Any]) -> _Columns:
    table = _Columns("Stage", "Documents|", "dropped|", "Bytes|", "dropped|", "cut|")
    for row in account["rows"]:
        gone, cut = row["gone"], row["cut"]["bytes"]
        table.add_row(
            Text(row["title"]),
            formats.count(row["documents"]),
            formats.count(gone["documents"]) if gone["documents"] else "–",
            formats.size(row["bytes"]),
            formats.size(gone["bytes"] - cut) if gone["bytes"] > cut else "–",
            formats.size(cut) if cut else "–",
            style="bold" if row["stage"] == "corpus" else None,
        )
    return table


def _tokens_table(found: Mapping[str, Any]) -> _Columns:
    """The corpus in tokens, by domain; ``found`` is tokens.by_domain's."""
    rows = tokens.cells(found)
    first, *others = rows[0]
    table = _Columns(first.capitalize(), *(f"{name}|" for name in others))
    for row in rows:
        table.add_row(*map(Text, row.values()))
    return table


def _notes(account: Mapping[str, Any]) -> list[Text]:
    """What stands beside the funnel: records that are no documents of it, and texts that ingest changed."""
    notes = []
    if account["quarantined"]:
        notes.append(_line("Quarantined", formats.several(account["quarantined"], "record")))
    for title, rows in (("Passed over", account["passed_over"]), ("Flagged", account["flagged"])):
        if rows:
            kinds = ", ".join(f"{formats.count(row['records'])} {row['kind']}" for row in rows[:_KINDS])
            more = f" and {formats.several(len(rows) - _KINDS, 'other kind')}" if len(rows) > _KINDS else ""
            notes.append(_line(title, kinds + more))
    notes += [_line("Not read", words) for words in account["unread"]]
    if account["forgotten"]["documents"]:
        size = formats.size(account["forgotten"]["bytes"])
        notes.append(_line("Forgotten", f"{formats.several(account['forgotten']['documents'], 'document')}, {size}"))
    for row in account["normalised"]:
        sizes = f"{formats.size(row['bytes_before'])} to {formats.size(row['bytes_after'])}"
        notes.append(_line("Normalised", f"{row['step']}: {formats.several(row['documents'], 'document')}, {sizes}"))
    return notes


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
    table = _Columns("Build", "State", "Started", "Took|", "Runs|", "Documents|", "kept|", "Bytes|", "kept|")
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
        parts.append(Text(f"stages still to run: {', '.join(map(formats.title, explanation.missing))}", "yellow"))
    if explanation.survivor:
        parts.append(
            _text_panel(f"kept in its place: {explanation.survivor.id}", Text(excerpt(explanation.survivor.text)))
        )
    parts.append(_text_panel("text", Text(excerpt(explanation.text))))
    if explanation.corpus_text is not None and explanation.corpus_text != explanation.text:
        parts.append(_text_panel("text in the corpus", Text(excerpt(explanation.corpus_text))))
    return Group(*parts)


def forgotten_view(found: Forgotten) -> RenderableType:
    """What is left to say of a forgotten document, and what became of those that had lost to it."""
    parts: list[RenderableType] = [Text.assemble((found.id, "bold"), f"\nforgotten on {found.on}")]
    if not found.carried_out:
        parts.append(Text("marked for removal; run `mill build` to apply", "yellow"))
    for heir in found.heirs:
        now = "is now kept" if heir.dropped_by is None else f"is now dropped by {formats.rule(heir.dropped_by)}"
        parts.append(Text(f"{heir.id}, previously dropped as its duplicate in {formats.title(heir.stage)}, {now}"))
    return Group(*parts)


def _verdict(explanation: Explanation) -> Text:
    if not explanation.dropped_by:
        kept = explanation.corpus_text is not None
        return Text("in the corpus" if kept else "not dropped so far", "bold green")
    last = explanation.passages[-1]
    told = f"dropped by {explanation.dropped_by} in {formats.title(last.stage)}"
    if last.value is not None and last.threshold is not None:
        value, threshold = formats.apart(last.value, last.threshold)
        told += f": value {value}, threshold {threshold}"
    return Text(told, "bold red")


def _passages_table(passages: Sequence[Passage]) -> _Columns:
    """The signals of each stage with the rules on them; a signal without a rule stands with its value alone."""
    table = _Columns("Signal", "Value|", "Rule", "Threshold|", "Margin|", "")
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
    if isinstance(value, list):
        return ", ".join(map(_value, value)) or "none"
    if isinstance(value, dict):  # a name with its share, score or count
        return " ".join(map(_value, value.values()))
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


def _grid() -> Table:
    """A table of names and values without titles; values fold, and are never cut."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, overflow="fold")
    table.add_column(overflow="fold")
    return table


class _Columns:
    """A table without lines. A column whose title ends in ``|`` is of numbers, aligned to the right and never folded.

    Others fold between words. Columns for which there is no room stand in a table below, beside the first column again.
    """

    def __init__(self, *titles: str) -> None:
        self.titles = titles
        self.rows: list[tuple[tuple[RenderableType, ...], str | None]] = []

    def add_row(self, *cells: RenderableType, style: str | None = None) -> None:
        self.rows.append((cells, style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        least = [self._least(at, console, options) for at in range(len(self.titles))]
        blocks: list[list[int]] = [[0]]
        for at in range(1, len(self.titles)):
            if len(blocks[-1]) > 1 and sum(least[other] + 2 for other in (*blocks[-1], at)) > options.max_width:
                blocks.append([0])
            blocks[-1].append(at)
        for number, block in enumerate(blocks):
            if number:
                yield Text()
            yield self._block(block, least)

    def _least(self, at: int, console: Console, options: ConsoleOptions) -> int:
        """The least width of a column: that of its longest number, or of its longest word up to _LEAST_WORDS."""
        numbers = self.titles[at].endswith("|")
        cells = [Text(self._title(at)), *(cells[at] for cells, _ in self.rows if at < len(cells))]
        found = [console.measure(cell, options=options) for cell in cells]
        return max((one.maximum if numbers else min(one.minimum, _LEAST_WORDS) for one in found), default=0)

    def _block(self, block: Sequence[int], least: Sequence[int]) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for at in block:
            title = Text(self._title(at))
            if self.titles[at].endswith("|"):
                table.add_column(title, justify="right", no_wrap=True, overflow="fold", min_width=least[at])
            else:
                table.add_column(title, overflow="fold", min_width=least[at])
        for cells, style in self.rows:
            table.add_row(*(cells[at] if at < len(cells) else "" for at in block), style=style)
        return table

    def _title(self, at: int) -> str:
        title = self.titles[at]
        return _heading(title.removesuffix("|")) if title.endswith("|") else title


def _heading(title: str) -> str:
    """The title of a column of numbers, in lines that leave the column narrow."""
    return "\n".join(textwrap.wrap(title, _HEADING)) or title


def _line(name: str, told: str) -> RenderableType:
    return Text.assemble((name, "bold"), f"  {told}")


def _text_panel(title: str, text: RenderableType) -> RenderableType:
    """``text`` in a frame below its title, which a frame's own edge would cut."""
    return Group(Text(title, "bold", overflow="fold"), Panel(text, border_style="dim"))


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def whatif_view(answer: Answer, bytes_per_token: float, parameters: int, tokens_per_parameter: float) -> RenderableType:
    """What a changed policy would make of a build: size, domains, rules and token budget, before and after."""
    first, last = (account["stages"][-1] for account in (answer.before, answer.after))
    size = _Columns("Corpus", "now|", "then|", "")
    tokens = [entry["bytes"] / bytes_per_token for entry in (first, last)]
    rows = [
        ("documents", formats.count, first["documents"], last["documents"]),
        ("text", formats.size, first["bytes"], last["bytes"]),
        (f"tokens, at {bytes_per_token:.2f} bytes each", formats.short, *tokens),
    ]
    for name, write, now, then in rows:
        size.add_row(name, write(now), write(then), _change(now, then))
    parts: list[RenderableType] = [size, _domains_table(first, last), _rules_table(answer.before, answer.after)]
    wanted = parameters * tokens_per_parameter
    shares = [formats.share(value, wanted) for value in tokens]
    told = f"{formats.short(wanted)} tokens for {formats.short(parameters)} parameters"
    parts.append(_line("Budget", f"{told} at {tokens_per_parameter:g} each: {shares[0]} now, {shares[1]} then"))
    count = sum(answer.measured.values())
    told = f"{formats.several(count, 'measurement')} made on documents that come alive; the rest is judged again"
    parts.append(_line("Measured", told if count else "nothing; what is stored was judged again"))
    parts.append(_line("Duplicates", "found again among the documents that are then alive"))
    parts += [Text(note, "yellow") for note in answer.notes]
    return Group(*(Padding(part, (0, 0, 1, 0)) if isinstance(part, _Columns) else part for part in parts))


def _domains_table(first: Mapping[str, Any], last: Mapping[str, Any]) -> _Columns:
    table = _Columns("Domain", "now|", "share|", "then|", "share|")
    for name in sorted({*first["domains"], *last["domains"]}):
        cells: list[str] = []
        for entry in (first, last):
            held = entry["domains"].get(name, {"bytes": 0})["bytes"]
            cells += [formats.size(held), formats.share(held, entry["bytes"])]
        table.add_row(Text(name), *cells)
    return table


def _rules_table(before: Mapping[str, Any], after: Mapping[str, Any]) -> _Columns:
    table = _Columns("Dropped by", "now|", "then|", "")
    dropped = [
        {
            (stage["stage"], rule): entry["documents"]
            for stage in side["stages"]
            for rule, entry in stage["dropped"].items()
        }
        for side in (before, after)
    ]
    for stage, rule in dict.fromkeys([*dropped[1], *dropped[0]]):
        now, then = (side.get((stage, rule), 0) for side in dropped)
        name = formats.rule_of_stage(stage, rule)
        table.add_row(Text(name), formats.count(now), formats.count(then), _change(now, then))
    return table


def _change(now: float, then: float) -> Text:
    if now == then:
        return Text("same", "dim")
    share = formats.share(abs(then - now), now) if now else "new"
    return Text(f"{'+' if then > now else '−'}{share}" if now else share, "green" if then > now else "red")


def sample_view(rule: str, documents: Sequence[Sampled]) -> RenderableType:
    """Documents that a rule dropped, or nearly did, with value and threshold."""
    if not documents:
        return Text(f"{rule} dropped no document")
    panels = []
    for entry in documents:
        state = "kept" if entry.kept else "dropped"
        value, threshold = formats.apart(entry.value, entry.threshold)
        numbers = f"value {value}, threshold {threshold}"
        panels.append(_text_panel(f"{entry.id}  {state}: {numbers}", Text(entry.text)))
    return Group(*panels)


def overlap_view(found: Overlap) -> RenderableType:
    """What each rule drops and adds, and which pairs drop the same documents."""
    rules = _Columns("Rule", "Documents that fail it|", "dropped first|", "fail no other|")
    for entry in found.rules:
        if entry.documents:
            counts = (entry.documents, entry.dropped, entry.alone)
            rules.add_row(Text(formats.rule_of_stage(entry.stage, entry.rule)), *map(formats.count, counts))
    pairs = _Columns("Rule", "and rule", "Documents|", "Jaccard|")
    for pair in found.pairs:
        names = (Text(formats.rule(name)) for name in pair.rules)
        pairs.add_row(*names, formats.count(pair.both), f"{pair.jaccard:.2f}")
    idle = [formats.rule(entry.rule) for entry in found.rules if not entry.documents]
    parts: list[RenderableType] = [Padding(rules, (0, 0, 1, 0)), Padding(pairs, (0, 0, 1, 0))]
    if idle:
        parts.append(Text(f"no document fails: {', '.join(idle)}", "dim"))
    return Group(*parts, Text("Rules are compared within a stage: what one drops, the next does not measure.", "dim"))


def diff_view(found: Sequence[Difference]) -> RenderableType:
    """What differs between two corpora, by cause, with a few ids of each."""
    if not found:
        return Text("both corpora hold the same documents and texts")
    colours = {"added": "green", "removed": "red", "edited": "yellow"}
    table = _Columns("Documents|", "", "Stage", "Rule", "Because", "For example")
    for entry in found:
        table.add_row(
            formats.count(entry.documents),
            Text(entry.state, colours[entry.state]),
            Text(formats.title(entry.stage)),
            Text(formats.rule(entry.rule) if entry.rule else "–"),
            Text(entry.cause),
            Text("\n".join(entry.examples)),
        )
    totals = {state: sum(entry.documents for entry in found if entry.state == state) for state in colours}
    return Group(table, Text(", ".join(f"{formats.count(count)} {state}" for state, count in totals.items()), "bold"))


def ladder_view(found: Mapping[str, Any]) -> RenderableType:
    """The scaling ladder: its runs, the laws that fit them, and the next sizes; ``found`` is studies.ladder's."""
    runs = _Columns("Run", "N|", "D|", "epochs|", "held-out loss|", "bits per byte|")
    for row in found["rows"]:
        cells = (formats.short(row["parameters"]), formats.short(row["tokens"]), formats.number(row["epochs"]))
        runs.add_row(Text(row["name"]), *cells, f"{row['loss']:.3f}", f"{row['bits_per_byte']:.3f}")
    laws = _Columns("L(N, D) = E + A / N^α + B / D^β", "fitted|", "95 % interval|")
    for row in found["laws"]:
        laws.add_row(*map(Text, row))
    coming = _Columns("Compute", "best N|", "95 %|", "best D|", "95 %|", "loss|", "95 %|")
    for row in found["predictions"]:
        coming.add_row(*map(Text, row))
    notes = [Text(warning, "yellow") for warning in found["warnings"]]
    notes += [Text(f"not trained: {name}: {why}", "yellow") for name, why in found["left_out"].items()]
    return Group(*(Padding(table, (0, 0, 1, 0)) for table in (runs, laws, coming)), *notes)


def ablation_view(found: Mapping[str, Any]) -> RenderableType:
    """What each stage is worth; ``found`` is studies.ablation's."""
    head = found["head"]
    table = _Columns(*head[:3], *(f"{name}|" for name in head[3:]))
    for row in found["table"]:
        table.add_row(*map(Text, row))
    notes = [Text(note, "yellow") for note in found["kept_notes"]]
    told = f"{formats.several(found['seeds'], 'model')} of {formats.short(found['parameters'])} parameters a row"
    return Group(table, Padding(_line("Models", told), (1, 0)), *notes)

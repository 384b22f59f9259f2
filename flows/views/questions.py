"""Answers about a build as the terminal shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding

from flows.execution.terminal import Text
from flows.views.layout import Columns, line, text_panel
from pipeline.stages import titles
from pipeline.text import formats
from pipeline.text.formats import excerpt

if TYPE_CHECKING:  # each question loads what it needs, and not what the others do
    from pipeline.build.record import BuildRow
    from pipeline.questions.diff import Difference
    from pipeline.questions.overlap import Overlap
    from pipeline.questions.sample import Sampled
    from pipeline.questions.similar import Near
    from pipeline.questions.whatif import Answer
    from pipeline.questions.why import Check, Explanation, Forgotten, Passage

_STATES = {"completed": "green", "failed": "red", "killed": "red", "running": "yellow"}


def step_view(step: int, documents: Sequence[Any]) -> RenderableType:
    """What a step of a training run read; ``documents`` are training.pretraining.lineage.Seen."""
    parts: list[RenderableType] = [Text(f"step {step} read {formats.several(len(documents), 'document')}", "bold")]
    parts += [_seen_panel(vars(seen)) for seen in documents]
    return Group(*parts)


def spikes_view(name: str, spikes: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The jumps of a run's loss with the documents behind each, as a run's summary holds them."""
    if not spikes:
        return Text(f"no loss spikes in {name}; use --step N to see the documents of a step")
    parts: list[RenderableType] = []
    for spike in spikes:
        heading = f"step {spike['step']}: loss {spike['loss']:.3f}, {spike['jump']:.3f} above the median before it"
        tokens = ", ".join(f"{formats.count(n)} of {domain}" for domain, n in spike["tokens_by_domain"].items())
        parts.append(Text.assemble((heading, "bold"), f"\ntokens: {tokens}"))
        parts += [_seen_panel(seen) for seen in spike["documents"]]
        if (more := spike["documents_in_all"] - len(spike["documents"])) > 0:
            parts.append(
                Text(f"and {formats.several(more, 'more document')}; --step {spike['step']} shows all\n", "dim")
            )
    return Group(*parts)


def _seen_panel(seen: Mapping[str, Any]) -> RenderableType:
    title = f"{seen['id']}  {seen['domain']}, {formats.several(seen['tokens'], 'token')}"
    return text_panel(title, Text(excerpt(seen["excerpt"])))


def runs_view(rows: Sequence[BuildRow]) -> RenderableType:
    """A table of builds."""
    if not rows:
        return Text("no build here yet; start with: mill build data/recipes/demo.yaml")
    table = Columns("Build", "State", "Started", "Took|", "Runs|", "Documents|", "kept|", "Bytes|", "kept|")
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
                text_panel(f"{titles.title(passage.stage)} cut {formats.several(len(passage.cuts), 'piece')}", cut)
            )
    if explanation.missing:
        parts.append(Text(f"stages still to run: {', '.join(map(titles.title, explanation.missing))}", "yellow"))
    if explanation.survivor:
        parts.append(
            text_panel(f"kept in its place: {explanation.survivor.id}", Text(excerpt(explanation.survivor.text)))
        )
    parts.append(text_panel("text", Text(excerpt(explanation.text))))
    if explanation.corpus_text is not None and explanation.corpus_text != explanation.text:
        parts.append(text_panel("text in the corpus", Text(excerpt(explanation.corpus_text))))
    return Group(*parts)


def forgotten_view(document: Forgotten) -> RenderableType:
    """What is left to say of a forgotten document, and what became of those that had lost to it."""
    parts: list[RenderableType] = [Text.assemble((document.id, "bold"), f"\nforgotten on {document.on}")]
    if not document.carried_out:
        parts.append(Text("marked for removal; run `mill build` to apply", "yellow"))
    for heir in document.heirs:
        now = "is now kept" if heir.dropped_by is None else f"is now dropped by {titles.rule(heir.dropped_by)}"
        parts.append(Text(f"{heir.id}, previously dropped as its duplicate in {titles.title(heir.stage)}, {now}"))
    return Group(*parts)


def _verdict(explanation: Explanation) -> Text:
    if not explanation.dropped_by:
        kept = explanation.corpus_text is not None
        return Text("in the corpus" if kept else "not dropped so far", "bold green")
    last = explanation.passages[-1]
    verdict = f"dropped by {explanation.dropped_by} in {titles.title(last.stage)}"
    if last.value is not None and last.threshold is not None:
        value, threshold = formats.apart(last.value, last.threshold)
        verdict += f": value {value}, threshold {threshold}"
    return Text(verdict, "bold red")


def _passages_table(passages: Sequence[Passage]) -> Columns:
    """The signals of each stage with the rules on them; a signal without a rule stands with its value alone."""
    table = Columns("Signal", "Value|", "Rule", "Threshold|", "Margin|", "")
    for passage in passages:
        table.add_row(Text(titles.title(passage.stage), "bold"))
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
    return formats.number(value), Text(titles.rule(rule)), shown, margin, Text("failed", "bold red")


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
        Text(titles.rule(check.rule) + group),
        "–" if check.threshold is None else f"{bound} {formats.number(check.threshold)}",
        formats.number(check.margin),
        state,
    )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def whatif_view(answer: Answer, bytes_per_token: float, parameters: int, tokens_per_parameter: float) -> RenderableType:
    """What a changed policy would make of a build: size, domains, rules and token budget, before and after."""
    first, last = (account["stages"][-1] for account in (answer.before, answer.after))
    size = Columns("Corpus", "now|", "then|", "")
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
    sentence = f"{formats.short(wanted)} tokens for {formats.short(parameters)} parameters"
    parts.append(line("Budget", f"{sentence} at {tokens_per_parameter:g} each: {shares[0]} now, {shares[1]} then"))
    count = sum(answer.measured.values())
    sentence = f"{formats.several(count, 'measurement')} made on documents that come alive; the rest is judged again"
    parts.append(line("Measured", sentence if count else "nothing; what is stored was judged again"))
    parts.append(line("Duplicates", "found again among the documents that are then alive"))
    parts += [Text(note, "yellow") for note in answer.notes]
    return Group(*(Padding(part, (0, 0, 1, 0)) if isinstance(part, Columns) else part for part in parts))


def _domains_table(first: Mapping[str, Any], last: Mapping[str, Any]) -> Columns:
    table = Columns("Domain", "now|", "share|", "then|", "share|")
    for name in sorted({*first["domains"], *last["domains"]}):
        cells: list[str] = []
        for entry in (first, last):
            size = entry["domains"].get(name, {"bytes": 0})["bytes"]
            cells += [formats.size(size), formats.share(size, entry["bytes"])]
        table.add_row(Text(name), *cells)
    return table


def _rules_table(before: Mapping[str, Any], after: Mapping[str, Any]) -> Columns:
    table = Columns("Dropped by", "now|", "then|", "")
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
        name = titles.rule_of_stage(stage, rule)
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
        panels.append(text_panel(f"{entry.id}  {state}: {numbers}", Text(entry.text)))
    return Group(*panels)


def overlap_view(overlap: Overlap) -> RenderableType:
    """What each rule drops and adds, and which pairs drop the same documents."""
    rules = Columns("Rule", "Documents that fail it|", "dropped first|", "fail no other|")
    for entry in overlap.rules:
        if entry.documents:
            counts = (entry.documents, entry.dropped, entry.alone)
            rules.add_row(Text(titles.rule_of_stage(entry.stage, entry.rule)), *map(formats.count, counts))
    pairs = Columns("Rule", "and rule", "Documents|", "Jaccard|")
    for pair in overlap.pairs:
        names = (Text(titles.rule(name)) for name in pair.rules)
        pairs.add_row(*names, formats.count(pair.both), f"{pair.jaccard:.2f}")
    idle = [titles.rule(entry.rule) for entry in overlap.rules if not entry.documents]
    parts: list[RenderableType] = [Padding(rules, (0, 0, 1, 0)), Padding(pairs, (0, 0, 1, 0))]
    if idle:
        parts.append(Text(f"no document fails: {', '.join(idle)}", "dim"))
    return Group(*parts, Text("Rules are compared within a stage: what one drops, the next does not measure.", "dim"))


#: Near documents that are shown of a text.
_NEAR_SHOWN = 20


def similar_view(documents: Sequence[Near], threshold: float | None) -> RenderableType:
    """The documents near a text: the exact similarity of each, and what became of it."""
    if not documents:
        least = "the build's threshold" if threshold is None else f"{threshold:g}"
        return Text(f"no document has a Jaccard similarity of {least} or more with this text")
    table = Columns("Document", "Jaccard|", "")
    for entry in documents[:_NEAR_SHOWN]:
        state = Text("in the corpus", "green")
        if entry.dropped_by:
            state = Text(f"dropped by {titles.rule(entry.dropped_by)}", "red")
        table.add_row(Text(entry.id), f"{entry.jaccard:.4f}", state)
    more = len(documents) - _NEAR_SHOWN
    return Group(table, *([Text(f"and {formats.several(more, 'more document')}", "dim")] if more > 0 else []))


def diff_view(differences: Sequence[Difference]) -> RenderableType:
    """What differs between two corpora, by cause, with a few ids of each."""
    if not differences:
        return Text("both corpora hold the same documents and texts")
    colours = {"added": "green", "removed": "red", "edited": "yellow"}
    table = Columns("Documents|", "", "Stage", "Rule", "Because", "For example")
    for entry in differences:
        table.add_row(
            formats.count(entry.documents),
            Text(entry.state, colours[entry.state]),
            Text(titles.title(entry.stage)),
            Text(titles.rule(entry.rule) if entry.rule else "–"),
            Text(entry.cause),
            Text("\n".join(entry.examples)),
        )
    totals = {state: sum(entry.documents for entry in differences if entry.state == state) for state in colours}
    return Group(table, Text(", ".join(f"{formats.count(count)} {state}" for state, count in totals.items()), "bold"))

"""What each section of the report says, as plain values and drawn charts; the template only lays them out.

Every section is None, and left out, where the build has not come that far.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import pyarrow.compute as pc

from pipeline.build.build import Build
from pipeline.curation import repair
from pipeline.report import charts, clusters, collect, differences, models, samples
from pipeline.sources.quarantine import unread_words
from pipeline.stages import titles
from pipeline.store import files, shards
from pipeline.text import formats
from pipeline.tokenization.report import gini

ALL_DOMAINS = "*"
_REASONS, _EXAMPLES, _SOURCES = 20, 3, 30


def read_json(build: Build, *names: str) -> Any:
    path = build.path(*names)
    return files.read_json(path) if files.exists(path) else None


def funnel(build: Build) -> dict[str, Any] | None:
    """Documents and bytes by stage, by rule and by domain, with the charts of both units."""
    account = read_json(build, "funnel.json")  # an older build has no word of what was counted later
    if account is None:
        return None
    stages = account["stages"]
    first, last = stages[0], stages[-1]
    rows = []
    for before, stage in zip([first, *stages], stages, strict=False):
        losses = {unit: before[unit] - stage[unit] for unit in ("documents", "bytes")}
        rows.append({**stage, "title": titles.title(stage["stage"]), "losses": losses})
    rules = [
        {"stage": stage["stage"], "title": titles.title(stage["stage"]), "rule": name, **entry}
        for stage in stages
        for name, entry in stage["dropped"].items()
    ]
    nothing = {"documents": 0, "bytes": 0}
    domains = [
        {"domain": name, "before": entry, "after": last["domains"].get(name, nothing)}
        for name, entry in first["domains"].items()
    ]
    return {
        "first": first,
        "last": last,
        "rows": rows,
        "rules": sorted(rules, key=lambda row: (-row["documents"], row["rule"])),
        "domains": sorted(domains, key=lambda row: (-row["before"]["bytes"], row["domain"])),
        "quarantined": sum(account["quarantined"].values()),
        "passed_over": _by_kind(account.get("passed_over", {}).values()),
        "flagged": _by_kind(account.get("flagged", {}).values()),
        "unread": _unread(account.get("unread", {}).values()),
        "forgotten": _sum(account.get("forgotten", {}).values(), ("documents", "bytes")),
        "normalised": _normalised(account.get("normalised", {}).values()),
        "charts": [
            _funnel_chart("Documents", "documents", rows, _documents),
            _funnel_chart("Bytes of text", "bytes", rows, formats.size),
        ],
    }


def _by_kind(sources: Iterable[Mapping[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Records that ingest passed over or flagged, over all sources by kind, most first, with the first of each."""
    rows: dict[str, dict[str, Any]] = {}
    for source in sources:
        for kind, entry in source.items():
            first = {"kind": kind, "records": 0, "bytes": 0, "file": entry["file"], "record": entry["record"]}
            row = rows.setdefault(kind, first)
            row["records"] += entry["count"]
            row["bytes"] += entry.get("bytes", 0)
    return sorted(rows.values(), key=lambda row: (-row["records"], row["kind"]))


def _unread(sources: Iterable[Mapping[str, Any]]) -> list[str]:
    """The stretches of files that could not be read, in words, the longest first."""
    reports = list(sources)
    stretches = sorted(
        (entry for unread in reports for entry in unread["stretches"]), key=lambda entry: -entry["bytes"]
    )
    words = [unread_words(entry) for entry in stretches[:_REASONS]]
    hidden = sum(unread["count"] for unread in reports) - len(words)
    return [*words, f"{formats.count(hidden)} more stretches of files"] if hidden else words


def warnings(build: Build) -> list[str]:
    """What the build warns of, in plain sentences: its account, near-duplicates, evaluation sets, canaries."""
    account = read_json(build, "funnel.json") or {}
    near = duplicates(build)
    sentences = [*account.get("warnings", []), *(near["warnings"] if near else [])]
    sentences += [warning for row in contamination(build) or [] for warning in row["warnings"]]
    sentences += (read_json(build, "tokenizers", "report.json") or {}).get("warnings", [])
    return sentences + account.get("canaries", {}).get("warnings", [])


def _sum(entries: Iterable[Mapping[str, int]], keys: Iterable[str]) -> dict[str, int]:
    listed = list(entries)
    return {key: sum(entry[key] for entry in listed) for key in keys}


def _normalised(sources: Iterable[Mapping[str, Mapping[str, int]]]) -> list[dict[str, Any]]:
    """By step, the documents that normalisation changed and their bytes before and after, over all sources."""
    by_step: dict[str, list[Mapping[str, int]]] = defaultdict(list)
    for source in sources:
        for step, counts in source.items():
            by_step[step].append(counts)
    keys = ("documents", "bytes_before", "bytes_after")
    return [{"step": repair.TITLES[step], **_sum(counts, keys)} for step, counts in by_step.items()]


def duplicates(build: Build) -> dict[str, Any] | None:
    """What near-duplicate removal tells of its clusters: warnings, losses by source, clusters above the cap."""
    report = read_json(build, "work", "minhash.clusters", "report.json")
    if report is None or build.section("minhash") is None:
        return None
    sources = [{"source": name, **entry} for name, entry in report["sources"].items()]
    sources.sort(key=lambda entry: (-entry["dropped"] / max(entry["documents"], 1), entry["source"]))
    return {**report, "sources": sources[:_SOURCES], "hidden": len(sources[_SOURCES:])}


def contamination(build: Build) -> list[dict[str, Any]] | None:
    """Of each evaluation set its items, those that documents hold, and those that could not be judged."""
    report = read_json(build, "decontamination.json")
    if report is None or build.section("decontaminate") is None:
        return None
    return [
        {
            "set": name,
            "items": entry["items"],
            "held": len(entry["held"]),
            "documents": len({place["document"] for places in entry["held"].values() for place in places}),
            "not_checkable": len(entry["not_checkable"]),
            "common": len(entry["common"]),
            "common_documents": entry["common_documents"],
            "warnings": _not_acted_upon(name, entry),
            "examples": [(item, places[:_EXAMPLES]) for item, places in islice(entry["held"].items(), _REASONS)],
        }
        for name, entry in sorted(report.items())
    ]


def _not_acted_upon(name: str, entry: Mapping[str, Any]) -> list[str]:
    """What of an evaluation set decontamination let pass, and why."""
    sentences = []
    if entry["common"]:
        item, place = max(entry["common"].items(), key=lambda pair: (pair[1]["documents"], pair[0]))
        sentences.append(
            f"decontamination: {formats.several(len(entry['common']), 'item')} of {name} found in "
            f"{formats.several(entry['common_documents'], 'document')} and left there, because their word runs occur in"
            f" more than {formats.several(entry['common_above'], 'document')}; for example {item} in"
            f" {formats.several(place['documents'], 'document')}, one of them {place['example']}. To act on them, raise"
            " decontaminate.max_document_frequency"
        )
    if entry["not_checkable"]:
        sentences.append(
            f"decontamination: {formats.several(len(entry['not_checkable']), 'item')} of {entry['items']} of {name} not"
            " checked, because they have fewer words than decontaminate.min_words; for example"
            f" {entry['not_checkable'][0]}"
        )
    return sentences


def _documents(number: int) -> str:
    return formats.count(number) if number < 1_000_000 else formats.short(number)


def _funnel_chart(name: str, unit: str, rows: list[dict], write: Any) -> dict[str, Any]:
    whole = rows[0][unit]
    drawn = [
        charts.Bar(row["title"], (("kept", row[unit]), ("dropped", row["losses"][unit])), write(row[unit]))
        for row in rows
        if row["stage"] != "corpus"
    ]
    description = "; ".join(f"{bar.label}: {bar.note} kept" for bar in drawn)
    return {"name": name, "svg": charts.bars(f"{name} after each stage", description, drawn, whole)}


def dropped(build: Build) -> list[dict[str, Any]] | None:
    """Samples of what each rule dropped, grouped by stage; duplicates with the text they lost to."""
    if not collect.is_collected(build):
        return None
    merged = samples.merge(table["samples"][0].as_py() for table in collect.collected(build))
    beside = samples.survivors(build, merged)
    by_stage: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in sorted(merged, key=lambda entry: (-entry.documents, entry.rule)):
        cards = [
            {**row, "close": row["margin"] < samples.CLOSE, **_beside(row["excerpt"], beside.get(row["survivor"]))}
            for row in entry.closest + entry.by_hash
        ]
        by_stage[entry.stage].append({"rule": entry.rule, "documents": entry.documents, "cards": cards})
    order = [stage for stage in build.stages if stage in by_stage]
    return [{"title": titles.title(stage), "rules": by_stage[stage]} for stage in order]


def _beside(text: str, survivor: str | None) -> dict[str, Any]:
    """The text of a dropped document, and that of the one that is kept in its place, each marked where they differ."""
    return {
        "text": differences.marked(text, survivor),
        "survivor_text": None if survivor is None else differences.marked(survivor, text),
    }


def cluster_samples(build: Build) -> list[dict[str, Any]] | None:
    """Of the largest clusters the text that is kept and some that it stands for, marked where they differ."""
    if not collect.is_collected(build):
        return None
    merged = clusters.merge(table["clusters"][0].as_py() for table in collect.collected(build))
    kept = samples.texts_of(build, {rows[0]["survivor"]: "minhash" for rows in merged})
    shown = []
    for rows in merged:
        text = kept.get(rows[0]["survivor"])  # None: it is in an earlier build
        members = [{**row, "marked": differences.marked(row["excerpt"], text)} for row in rows]
        shown.append({"survivor": rows[0]["survivor"], "size": rows[0]["size"], "text": text, "members": members})
    return shown or None


def quarantine(build: Build) -> dict[str, Any] | None:
    """Rejected records by source and reason, most first, with the first few of each; None if nothing was rejected."""
    manifest = read_json(build, "documents", "manifest.json")
    if manifest is None:
        return None
    rows = [
        {"source": source, "reason": reason, "records": example["count"]}
        for source, entry in manifest["sources"].items()
        for reason, example in entry["reasons"].items()
    ]
    rows.sort(key=lambda row: (-row["records"], row["source"], row["reason"]))
    for row in rows[:_REASONS]:
        row["examples"] = list(islice(_quarantined(build, row["source"], row["reason"]), _EXAMPLES))
    total = sum(row["records"] for row in rows)
    return {"rows": rows[:_REASONS], "records": total, "hidden": len(rows[_REASONS:])} if rows else None


def _quarantined(build: Build, source: str, reason: str) -> Iterator[dict[str, Any]]:
    for name in files.list_files(build.path("quarantine"), ".arrow"):
        if name.startswith(f"{source}-"):
            table = shards.read_table(build.path("quarantine", name))
            mine = pc.and_(pc.equal(table["source"], source), pc.equal(table["reason"], reason))
            for row in table.filter(mine).slice(0, _EXAMPLES).to_pylist():
                yield {**row, "excerpt": formats.excerpt(row["excerpt"])}


def classifiers(build: Build) -> list[dict[str, Any]] | None:
    """How each classifier that the build trained does on the texts that were held out for it."""
    notes = {name: read_json(build, "models", "classifiers", f"{name}.json") for name in build.stages}
    rows = [
        {"title": titles.title(name), "texts": note["texts"], **note}
        for name, note in notes.items()
        if note and "heldout" in note
    ]
    return rows or None


def distilled(build: Build) -> list[dict[str, Any]] | None:
    """For each stage whose fine-tuned classifier a fastText model learned from, how far the two decide alike."""
    notes = {name: read_json(build, "models", "classifiers", f"{name}.agreement.json") for name in build.stages}
    rows = [
        {"title": titles.title(name), **note}
        for name, note in notes.items()
        if note and getattr(build.section(name), "made_here", False) and build.section(name).fine_tuned
    ]
    return rows or None


def tokenizers(build: Build) -> dict[str, Any] | None:
    """How each tokenizer does on held-out documents, by domain and language, and which size costs a model least."""
    report = read_json(build, "tokenizers", "report.json")
    if not report or not report["rows"]:
        return None
    configs = {config.name: config for config in build.section("tokenizers") or []}
    rows = report["rows"]
    whole = [
        {**row, "config": configs.get(row["tokenizer"])}
        for row in rows
        if row["domain"] == row["language"] == ALL_DOMAINS
    ]
    names = [row["tokenizer"] for row in whole]
    return {
        "rows": whole,
        "names": names,
        "round_trip": report.get("round_trip", []),
        "notes": [*report.get("notes", []), *_inequality(rows)],
        "best": max(row["bytes_per_token"] for row in rows),
        "domains": _by(rows, names, "domain", "bytes_per_token"),
        "languages": _by(rows, names, "language", "premium"),
        "curve": _size_curve(report.get("curves", [])),
        "recommended": [
            {"tokenizer": curve["tokenizer"], **entry}
            for curve in report.get("curves", [])
            for entry in curve["recommended"]
        ],
    }


def _by(rows: list[dict], names: list[str], part: str, value: str) -> list[tuple[str, list[float | None]]]:
    """For each domain or language its ``value`` by each of the tokenizers ``names``."""
    table: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        if row[part] != ALL_DOMAINS:
            table[row[part]][row["tokenizer"]] = row[value]
    return [(key, [values.get(name) for name in names]) for key, values in sorted(table.items())]


def _inequality(rows: list[dict[str, Any]]) -> list[str]:
    """How unequal the languages' tokens a character are, as their Gini coefficient: 0 where all are alike."""
    said = []
    for name in dict.fromkeys(row["tokenizer"] for row in rows):
        own = [row for row in rows if row["tokenizer"] == name and row["language"] != ALL_DOMAINS and row["tokens"]]
        if len(own) > 1:
            actual = gini([row["tokens"] / max(row["characters"], 1) for row in own])
            said.append(f"{name}: Gini coefficient {actual:.3f} of tokens a character over {len(own)} languages")
    return said


def _size_curve(curves: list[dict[str, Any]]) -> Any:
    """The chart of bytes per token against the size of the vocabulary; None where there is no curve."""
    if not curves:
        return None
    series = [
        charts.Series(curve["tokenizer"], "train" if index else "heldout", [(x, y) for x, y in curve["points"]])
        for index, curve in enumerate(curves)
    ]
    ends = [(curve["tokenizer"], *curve["points"][-1]) for curve in curves]
    description = "; ".join(f"{name}: {ratio:.2f} at {size} entries" for name, size, ratio in ends)
    title = "Bytes per token by size of the vocabulary"
    return charts.lines(title, description, series, "entries", "bytes per token")


def figures(page: Mapping[str, Any]) -> list[dict[str, str]]:
    """The few numbers at the head of the page, from its other sections."""
    drawn = []
    if page["funnel"]:
        first, last = page["funnel"]["first"], page["funnel"]["last"]
        ratio = page["tokens"]["bytes_per_token"]
        drawn += [
            _figure("Documents kept", _documents(last["documents"]), f"of {formats.count(first['documents'])}"),
            _figure("Text kept", formats.size(last["bytes"]), f"of {formats.size(first['bytes'])}"),
            _figure("Tokens in the corpus", formats.short(last["bytes"] / ratio), page["tokens"]["origin"]),
        ]
    for run in page["pretrained"]:
        if run["per_byte"]:
            name, value = run["per_byte"]
            drawn.append(_figure(name.capitalize(), f"{value:.3f}", f"{run['name']}, on held-out documents"))
    for run in page["finetuned"]:
        main = models.main_measure(run)
        values = {name: models.score(main, scores[main]["value"]) for name, scores in run["scores"].items()}
        baseline = f"; a bag of words {values['bag_of_words']}" if "bag_of_words" in values else ""
        drawn.append(_figure(models.MEASURES.get(main, main), values["model"], f"{run['name']}{baseline}"))
    return drawn


def _figure(name: str, value: str, note: str) -> dict[str, str]:
    return {"name": name, "value": value, "note": note}

"""Labelled rows from files: read, checked, split in three, and looked at before training."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa

from pipeline.sources.base import File, value_of
from training.labelled import audit, formats, kinds, splits
from training.labelled.findings import Findings
from training.labelled.formats import Given, Record
from training.labelled.hiding import cut_words, words_of
from training.labelled.kinds.base import DOUBT, MISSING, Kind, Names, Row
from training.labelled.rows import Labelled, WrongRows, identity
from training.recipe.finetuning import FinetuneConfig


def load(config: FinetuneConfig, seed: int) -> Labelled:
    """The rows of ``config.data``. A pure function of the files' content, the config and the seed.

    Raises WrongRows with every kind of fault, its first row and the remedy.
    """
    assert config.data is not None
    kind = kinds.of(config)
    kind.check(config)
    findings = Findings()
    given = formats.sets(config.data, kind.json, findings)
    rows = {name: _read(config, kind, files, findings) for name, files in given.items()}
    kind.compared([row for part in rows.values() for row in part], findings)
    findings.refuse()
    for name, files in given.items():
        if not rows[name]:
            raise WrongRows(_none(files, findings))
    split = kind.settled(_split(config, rows, seed, findings), findings)
    hidden = frozenset(word for part in split.values() for row in part for word in row.hidden)
    tables = {name: _table(kind.types(config), part, hidden) for name, part in split.items()}
    labels = audit.labels(kind, tables)
    places = {name: files.option for name, files in given.items()}
    audit.refuse_unknown(config, kind, tables, places)
    seen = audit.of(config, kind, tables, findings)
    return Labelled(
        kind.name,
        labels,
        **tables,
        fingerprint=identity(kind.name, tables),
        audit=seen,
        hidden_words=len(hidden),
    )


def _none(given: Given, findings: Findings) -> str:
    """That no row of ``given`` takes part, and why."""
    named = ", ".join(file.path for file in given.files[:5])
    why = "; ".join(
        f"{what['rows']:,} {kind}, the first {what['example']}" for kind, what in findings.counted().items()
    )
    return f"{given.option}: {named}: " + (f"no row takes part: {why}" if why else "no rows; give a file that has some")


def look(config: FinetuneConfig) -> None:
    """Raise WrongRows where a file of ``config.data`` is not there, or lacks a column.

    Of a table the first row is read, of JSON lines as many as it takes to see each column once.
    """
    assert config.data is not None
    kind, findings = kinds.of(config), Findings()
    for given in formats.sets(config.data, kind.json, findings).values():
        wanted = _wanted(config, kind.names(config, given.format))
        for file in given.files:
            missing, first = dict(wanted), None
            for record in formats.read(given, file, config.data, findings):
                first = first or record
                missing = _missing(missing, record)
                if not missing or given.format != "jsonl":
                    break
            if first is not None and missing:
                raise WrongRows(_lacking(given, file, missing, wanted, first))


def _missing(wanted: dict[str, str], record: Record) -> dict[str, str]:
    return {option: name for option, name in wanted.items() if value_of(record.values, name, MISSING) is MISSING}


def _read(config: FinetuneConfig, kind: Kind, given: Given, findings: Findings) -> list[Row]:
    assert config.data is not None
    at = kind.names(config, given.format)
    rows: list[Row] = []
    for file in given.files:
        wanted = _wanted(config, at)
        missing = dict(wanted)
        first: Record | None = None
        own = Findings()  # of this file: a column that it lacks explains the rest
        for record in formats.read(given, file, config.data, own):
            first = first or record
            missing = _missing(missing, record)
            if missing and given.format not in ("jsonl", "squad"):
                break  # all rows have the same columns
            if (row := _row(config, kind, at, record, own)) is not None:
                rows.append(row)
        if first is not None and missing:
            raise WrongRows(_lacking(given, file, missing, wanted, first))
        findings.take(own)
    return rows


def _wanted(config: FinetuneConfig, at: Names) -> dict[str, str]:
    """Columns that a file must have, by the option that names them."""
    group = {} if config.group is None else {"group": config.group}
    only = {f"only.{name}": name for name in config.only}
    return {**at.named(), **group, **only, **{f"hide: {name}": name for name in config.hide}}


def _lacking(given: Given, file: File, missing: dict[str, str], wanted: dict[str, str], first: Record) -> str:
    columns = ", ".join(list(map(str, first.values))[:30])
    lines = [
        f"{file.path}: no column {column!r}, which `{option.partition(':')[0]}` names; there is {columns}"
        for option, column in missing.items()
    ]
    if given.format in ("csv", "tsv") and len(missing) == len(wanted):
        lines.append("if that is a row and no header, name the columns in order: `data.columns`, or --columns")
    if given.format == "jsonl" and "data" in first.values and len(missing) == len(wanted):
        lines.append("if that is a file of questions as SQuAD has them, say `task: answers`, or --task answers")
    return "\n".join(lines)


def _row(config: FinetuneConfig, kind: Kind, at: Names, record: Record, findings: Findings) -> Row | None:
    for name, value in config.only.items():
        if str(value_of(record.values, name)) != value:
            findings.pass_over(f"rows whose {name!r} is not {value!r} (`only`)", record.place)
            return None
    values = kind.values(config, at, record, findings)
    if values is None:
        return None
    doubt = values.pop(DOUBT, None)
    own = record.values.get("id")
    group = value_of(record.values, config.group) if config.group is not None else None
    text = " ".join(kind.key(values).split()).casefold()
    return Row(
        place=record.place,
        name=f"{record.name}:{record.number}",
        own=str(own) if isinstance(own, str | int) and str(own) else None,
        key=hashlib.blake2b(text.encode(), digest_size=16).hexdigest() if group is None else str(group),
        values=values,
        hidden=frozenset(words_of(value_of(record.values, name, "") for name in config.hide)),
        doubt=doubt,
    )


def _split(config: FinetuneConfig, given: dict[str, list[Row]], seed: int, findings: Findings) -> dict[str, list[Row]]:
    """Train, dev and test: those that are given, and the rest of the training rows by the hash of their keys."""
    train = _large_enough(config, given["train"], findings)
    if config.documents is not None and len(train) > config.documents:
        findings.note(f"{config.documents:,} of {len(train):,} rows, chosen by hash (`documents`)")
        train = _sample(train, config.documents, seed)
    keys = [row.key for row in train]
    in_test = splits.below(seed, "split", keys, 0.0 if "test" in given else config.test_share)
    in_dev = splits.below(seed, "dev", keys, 0.0 if "dev" in given else config.dev_share)
    made: dict[str, list[Row]] = {"train": [], "dev": list(given.get("dev", [])), "test": list(given.get("test", []))}
    for row, test, dev in zip(train, in_test, in_dev, strict=True):
        made["test" if test else "dev" if dev else "train"].append(row)
    for name, part in made.items():
        if not part:
            raise WrongRows(
                f"finetune {config.name!r}: of {len(train):,} rows in {len(set(keys)):,} groups none came into the set"
                f" {name!r}; add rows, change test_share or dev_share, or give the set in `data.{name}`"
            )
    return made


def _large_enough(config: FinetuneConfig, rows: list[Row], findings: Findings) -> list[Row]:
    """``rows`` without those of labels that fewer than ``smallest_class`` rows have."""
    if config.smallest_class is None or not config.of_classes:
        return rows
    counts = Counter(row.values["label"] for row in rows)
    small = {label for label, count in counts.items() if count < config.smallest_class}
    for row in rows:
        if row.values["label"] in small:
            findings.pass_over(
                f"rows of labels with fewer than {config.smallest_class} rows (`smallest_class`)", row.place
            )
    return [row for row in rows if row.values["label"] not in small]


def _sample(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """``count`` rows, chosen by the hash of what they say, in the order of ``rows``."""
    ranked = sorted(
        range(len(rows)),
        key=lambda at: (splits.place(seed, "sample", rows[at].key + repr(rows[at].values)), rows[at].name),
    )
    return [rows[at] for at in sorted(ranked[:count])]


def _table(types: Mapping[str, pa.DataType], rows: list[Row], hidden: frozenset[str]) -> pa.Table:
    """The columns ``types`` of rows, in order of their ids: their own where all have one and no two the same, else file
    and number.
    """
    own = [row.own for row in rows]
    ids = [row.name for row in rows] if None in own or len(set(own)) < len(own) else [id_ or "" for id_ in own]
    order = sorted(range(len(rows)), key=lambda at: ids[at])
    made = {
        "id": [ids[at] for at in order],
        "group": [rows[at].key for at in order],
        "place": [rows[at].place for at in order],
    }
    for name in types:
        made[name] = [rows[at].values[name] for at in order]
        if hidden and name in ("text", "pair"):
            made[name] = [cut_words(text, hidden) for text in made[name]]
    return pa.table({name: pa.array(values, types.get(name, pa.string())) for name, values in made.items()})

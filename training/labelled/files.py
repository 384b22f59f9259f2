"""Labelled rows from files: read, checked, split in three, and looked at before training."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from pipeline.sources.base import value_of
from training.labelled import audit, columns, formats, splits, tags
from training.labelled.columns import MISSING, Names
from training.labelled.findings import Findings
from training.labelled.formats import Given, Record
from training.labelled.hiding import cut_words, words_of
from training.labelled.rows import COLUMNS, Labelled, WrongRows, identity
from training.recipe.finetuning import FinetuneConfig, Task

_ANSWERS = pa.list_(pa.struct([("text", pa.string()), ("start", pa.int32())]))
_TYPES = {
    **{"score": pa.float64(), "answers": _ANSWERS},
    **dict.fromkeys(("labels", "words", "tags"), pa.list_(pa.string())),
}
_HIDING: frozenset[Task] = frozenset({"classify", "multi_label", "regression", "similarity", "text2text"})


@dataclass(frozen=True)
class Row:
    """``key`` decides the split; ``values`` are the columns of the task; ``hidden`` are words to cut."""

    place: str
    name: str
    own: str | None
    key: str
    values: dict[str, Any]
    hidden: frozenset[str] = field(default_factory=frozenset)


def load(config: FinetuneConfig, seed: int) -> Labelled:
    """The rows of ``config.data``. A pure function of the files' content, the config and the seed.

    Raises WrongRows with every kind of fault, its first row and the remedy.
    """
    assert config.data is not None
    if config.hide and config.task not in _HIDING:
        raise WrongRows(f"finetune {config.name!r}: words cannot be hidden from {config.task}; leave out `hide`")
    if config.task == "similarity" and config.pair is None:
        raise WrongRows(f"finetune {config.name!r}: similarity is of two texts; name the second's column in `pair`")
    found = Findings()
    given = formats.sets(config.data, config.task, found)
    rows = {name: _read(config, files, found) for name, files in given.items()}
    found.refuse()
    for name, files in given.items():
        if not rows[name]:
            raise WrongRows(f"{files.option}: no rows take part; see what was passed over: {found.counted()}")
    split = _split(config, rows, seed, found)
    if config.task == "tokens":
        split = _to_iob2(split, found)
    hidden = frozenset(word for part in split.values() for row in part for word in row.hidden)
    tables = {name: _table(config, part, hidden) for name, part in split.items()}
    labels = audit.labels(config.task, tables)
    places = {name: files.option for name, files in given.items()}
    audit.refuse_unknown(config, tables, places)
    seen = audit.of(config, tables, found)
    return Labelled(
        config.task,
        labels,
        **tables,
        fingerprint=identity(config.task, tables),
        audit=seen,
        hidden_words=len(hidden),
    )


def look(config: FinetuneConfig) -> None:
    """Raise WrongRows where a file of ``config.data`` is not there, or its first row lacks a column."""
    assert config.data is not None
    found = Findings()
    for given in formats.sets(config.data, config.task, found).values():
        if given.format == "jsonl":
            continue  # a later row may have what the first has not
        wanted = _wanted(config, columns.names(config, given.format))
        for file in given.files:
            first = next(formats.read(given, file, config.data, found), None)
            missing = {} if first is None else _missing(wanted, first)
            if first is not None and missing:
                raise WrongRows(_lacking(file.path, missing, first))


def _missing(wanted: dict[str, str], record: Record) -> dict[str, str]:
    return {option: name for option, name in wanted.items() if value_of(record.values, name, MISSING) is MISSING}


def _read(config: FinetuneConfig, given: Given, found: Findings) -> list[Row]:
    assert config.data is not None
    at = columns.names(config, given.format)
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
            if (row := _row(config, at, record, own)) is not None:
                rows.append(row)
        if first is not None and missing:
            raise WrongRows(_lacking(file.path, missing, first))
        found.take(own)
    return rows


def _wanted(config: FinetuneConfig, at: Names) -> dict[str, str]:
    """Columns that a file must have, by the option that names them."""
    group = {} if config.group is None else {"group": config.group}
    only = {f"only.{name}": name for name in config.only}
    return {**at.named(), **group, **only, **{f"hide: {name}": name for name in config.hide}}


def _lacking(path: str, missing: dict[str, str], first: Record) -> str:
    there = ", ".join(list(map(str, first.values))[:30])
    return "\n".join(
        f"{path}: no column {column!r}, which `{option.partition(':')[0]}` names; there is {there}"
        for option, column in missing.items()
    )


def _row(config: FinetuneConfig, at: Names, record: Record, found: Findings) -> Row | None:
    for name, value in config.only.items():
        if str(value_of(record.values, name)) != value:
            found.pass_over(f"rows whose {name!r} is not {value!r} (`only`)", record.place)
            return None
    values = columns.values(config, at, record, found)
    if values is None:
        return None
    own = record.values.get("id")
    group = value_of(record.values, config.group) if config.group is not None else None
    text = columns.key(config.task, values)
    return Row(
        place=record.place,
        name=f"{record.name}:{record.number}",
        own=str(own) if isinstance(own, str | int) and str(own) else None,
        key=hashlib.blake2b(text.encode(), digest_size=16).hexdigest() if group is None else str(group),
        values=values,
        hidden=frozenset(words_of(value_of(record.values, name, "") for name in config.hide)),
    )


def _split(config: FinetuneConfig, given: dict[str, list[Row]], seed: int, found: Findings) -> dict[str, list[Row]]:
    """Train, dev and test: those that are given, and the rest of the training rows by the hash of their keys."""
    train = _large_enough(config, given["train"], found)
    if config.documents is not None and len(train) > config.documents:
        found.note(f"{config.documents:,} of {len(train):,} rows, chosen by hash (`documents`)")
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


def _large_enough(config: FinetuneConfig, rows: list[Row], found: Findings) -> list[Row]:
    """``rows`` without those of labels that fewer than ``smallest_class`` rows have."""
    if config.smallest_class is None or config.task != "classify":
        return rows
    counts = Counter(row.values["label"] for row in rows)
    small = {label for label, count in counts.items() if count < config.smallest_class}
    for row in rows:
        if row.values["label"] in small:
            found.pass_over(
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


def _to_iob2(split: dict[str, list[Row]], found: Findings) -> dict[str, list[Row]]:
    scheme = tags.scheme(row.values["tags"] for part in split.values() for row in part)
    changed, first = 0, ""
    made: dict[str, list[Row]] = {}
    for name, part in split.items():
        made[name] = []
        for row in part:
            new, different = tags.to_iob2(row.values["tags"])
            if different and not changed:
                first = row.place
            changed += different
            made[name].append(replace(row, values={**row.values, "tags": new}))
    if changed:
        what = "I- tags that begin an entity" if scheme == "IOB2" else "tags"
        found.note(f"tags by {scheme}: {changed:,} {what} were written as IOB2 has them ({first})")
    else:
        found.note(f"tags by {scheme}")
    return made


def _table(config: FinetuneConfig, rows: list[Row], hidden: frozenset[str]) -> pa.Table:
    """Rows in order of their ids: their own where all have one and no two the same, else file and number."""
    own = [row.own for row in rows]
    ids = [row.name for row in rows] if None in own or len(set(own)) < len(own) else [id_ or "" for id_ in own]
    order = sorted(range(len(rows)), key=lambda at: ids[at])
    made = {
        "id": [ids[at] for at in order],
        "group": [rows[at].key for at in order],
        "place": [rows[at].place for at in order],
    }
    names = [*COLUMNS[config.task]]
    if config.pair is not None and "pair" not in names and config.task in ("classify", "regression"):
        names.append("pair")
    for name in names:
        made[name] = [rows[at].values[name] for at in order]
        if hidden and name in ("text", "pair"):
            made[name] = [cut_words(text, hidden) for text in made[name]]
    return pa.table({name: pa.array(values, _TYPES.get(name, pa.string())) for name, values in made.items()})

"""Labelled rows from the corpus itself: predict a field of a document from its text.

What would make it too easy is taken out. Documents of one group (a Python module) stay in one of the three sets, chosen
by the group's hash. The words of the hidden fields of all documents (the package: its name in a docstring gives the
label away) are cut from every text alike, so that neither a word nor its absence tells. Near-duplicates went at
curation. What remains on purpose is how a field writes: its terms, its idioms (``np.``), its style.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.store import files, shards
from training.labelled import audit, splits
from training.labelled.findings import Findings
from training.labelled.hiding import cut_words, words_of
from training.labelled.kinds import KINDS
from training.labelled.rows import Labelled, identity
from training.recipe.finetuning import FinetuneConfig

#: Rows that a label needs unless the recipe says otherwise: fields of metadata have many rare values.
_SMALLEST_CLASS = 50


class TooFewDocuments(MillError):
    """The corpus does not give two labels with documents for training and for the test."""


class WrongField(MillError):
    """A field that the task goes by is not in the documents, or no label; the message names the fields there are."""


def load(build: Build, config: FinetuneConfig, seed: int) -> Labelled:
    """The rows that ``config`` describes, from the curated corpus of ``build``.

    A pure function of the documents, the config and the seed. Raises WrongField, or TooFewDocuments with the counts
    that were found.
    """
    findings = Findings()
    rows = _rows(build, config, findings)
    counts = Counter(row.label for row in rows)
    smallest = config.smallest_class or _SMALLEST_CLASS
    if len(counts) == 1:
        (only,) = counts
        raise TooFewDocuments(
            f"finetune {config.name!r}: all {len(rows)} documents that take part have the label {only!r} in"
            f" {config.label!r}, and there is nothing to tell apart; take another `label`"
        )
    labels = sorted(label for label, count in counts.items() if count >= smallest)
    kept = set(labels)
    for row in rows:
        if row.label not in kept:
            findings.pass_over(f"documents of labels with fewer than {smallest} documents (`smallest_class`)", row.id)
    rows = [row for row in rows if row.label in kept]
    if config.documents is not None and len(rows) > config.documents:
        findings.note(f"{config.documents:,} of {len(rows):,} documents, chosen by hash (`documents`)")
        rows = sorted(rows, key=lambda row: splits.place(seed, "sample", row.id))[: config.documents]
    rows.sort(key=lambda row: row.id)
    hidden = frozenset(word for row in rows for word in row.hidden)
    groups = [row.group for row in rows]
    in_test = splits.below(seed, "split", groups, config.test_share)
    in_dev = splits.below(seed, "dev", groups, config.dev_share)
    sets: dict[str, list[_Row]] = {"train": [], "dev": [], "test": []}
    for row, test, dev in zip(rows, in_test, in_dev, strict=True):
        sets["test" if test else "dev" if dev else "train"].append(row)
    for name, wanted in (("train", len(labels)), ("dev", 1), ("test", len(labels))):
        present = len({row.label for row in sets[name]})
        if len(labels) < 2 or present < wanted:
            raise TooFewDocuments(
                f"finetune {config.name!r}: {present} of the labels {labels} are in the {_SETS[name]} part, of"
                f" {len(rows)} documents; counts of {config.label!r}: {_shown(counts)}. Lower smallest_class or take a"
                " larger corpus."
            )
    tables = {name: _table(rows, hidden) for name, rows in sets.items()}
    return Labelled(
        "classify",
        labels,
        **tables,
        fingerprint=identity("classify", tables),
        audit=audit.of(config, KINDS["classify"], tables, findings),
        hidden_words=len(hidden),
    )


_SETS = {"train": "training", "dev": "development", "test": "test"}


def _shown(counts: Counter[str]) -> str:
    """The most frequent of ``counts``, and how many more there are."""
    listing = ", ".join(f"{label!r}: {count}" for label, count in counts.most_common(20))
    return f"{{{listing}}}" + (f" and {len(counts) - 20} more" if len(counts) > 20 else "")


@dataclass(frozen=True)
class _Row:
    id: str
    text: str
    label: str
    group: str
    hidden: tuple[str, ...]


def _rows(build: Build, config: FinetuneConfig, findings: Findings) -> list[_Row]:
    rows = []
    known: Counter[str] = Counter()
    matching = 0
    for name in files.read_json(build.path("corpus", "manifest.json"))["shards"]:
        table: pa.Table = shards.read_table(build.path("corpus", name))
        columns = ("id", "text", "source", "domain", "metadata")
        for id_, text, source, domain, metadata in zip(*(table[c].to_pylist() for c in columns), strict=True):
            fields = {**json.loads(metadata or "{}"), "source": source, "domain": domain}
            known.update(name for name, value in fields.items() if value is not None)
            if any(str(fields.get(name)) != value for name, value in config.only.items()):
                findings.pass_over("documents that `only` leaves out", id_)
                continue
            matching += 1
            label = fields.get(config.label)
            if label is None:
                findings.pass_over(f"documents without a value in {config.label!r}", id_)
                continue
            if isinstance(label, list | dict):
                raise WrongField(
                    f"finetune {config.name!r}: {config.label!r} of document {id_!r} is {json.dumps(label)[:80]}, and a"
                    " label is one text, number or truth value; take another `label`"
                )
            words = words_of(fields.get(name, "") for name in config.hide)
            group = str(fields.get(config.group, id_)) if config.group else id_
            rows.append(_Row(id_, text, str(label), group, tuple(sorted(words))))
    _fields_are_there(config, known)
    if not rows:
        raise WrongField(
            f"finetune {config.name!r}: of {matching} documents that `only` ({config.only or 'all'}) leaves, none has"
            f" {config.label!r}; change `only` or `label`. {_fields(known)}"
        )
    return rows


def _fields_are_there(config: FinetuneConfig, known: Counter[str]) -> None:
    """Raise WrongField for the first field of ``config`` that no document has."""
    group = [] if config.group is None else [config.group]
    for option, names in (("label", [config.label]), ("group", group), ("only", config.only), ("hide", config.hide)):
        for name in names:
            if name not in known:
                raise WrongField(
                    f"finetune {config.name!r}: no document has the field {name!r} that `{option}` names."
                    f" {_fields(known)}"
                )


def _fields(known: Counter[str]) -> str:
    return "Fields there are: " + ", ".join(f"{name} (in {count})" for name, count in known.most_common(30))


def _table(rows: list[_Row], hidden: frozenset[str]) -> pa.Table:
    columns = {
        "id": [row.id for row in rows],
        "group": [row.group for row in rows],
        "place": [row.id for row in rows],
        "text": [cut_words(row.text, hidden) for row in rows],
        "label": [row.label for row in rows],
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})

"""What is seen in labelled rows before training, and what is refused there.

What takes a tokenizer stands by itself: which one reads the rows is known only with the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from pipeline.text.formats import several
from training.labelled import kinds, near_copies
from training.labelled.findings import Findings
from training.labelled.kinds.base import Kind
from training.labelled.rows import Labelled, WrongRows
from training.recipe import long_text
from training.recipe.finetuning import FinetuneConfig

Tables = Mapping[str, pa.Table]


def labels(kind: Kind, tables: Tables) -> list[str]:
    """The labels of all rows in sorted order; of tokens O, and B- and I- of each type."""
    if kind.fewest is None:
        return []
    return kind.labels_of([row for table in tables.values() for row in table[kind.label].to_pylist()])


def refuse_unknown(config: FinetuneConfig, kind: Kind, tables: Tables, given: Mapping[str, str]) -> None:
    """Raise WrongRows where training has fewer than two classes or scores, or lacks a label that another set has."""
    if kind.fewest is None:
        _refuse_one_score(config, kind, tables["train"])
        return
    counts = Counter(name for row in tables["train"][kind.label].to_pylist() for name in kind.classes(row))
    if len(counts) < kind.fewest:
        raise WrongRows(
            f"finetune {config.name!r}: the training rows have"
            f" {f'the one label {next(iter(counts))!r}' if counts else 'no label'} in {config.label!r}, and there is"
            " nothing to tell apart; take another `label`"
        )
    lines = []
    for name in ("dev", "test"):
        unknown: Counter[str] = Counter()
        first: dict[str, str] = {}
        for place, row in zip(tables[name]["place"].to_pylist(), tables[name][kind.label].to_pylist(), strict=True):
            for label in kind.classes(row):
                if label not in counts:
                    unknown[label] += 1
                    first.setdefault(label, place)
        remedy = "add training rows with it, or leave its rows out"
        if name not in given and config.of_classes:
            remedy = "add rows with it, or leave rare labels out by `smallest_class`"
        lines += [
            f"{first[label]}: the label {label!r} is in {several(count, f'{name} row')} and in no training row;"
            f" {remedy}"
            for label, count in unknown.most_common(20)
        ]
    if lines:
        raise WrongRows("\n".join(lines))


def _refuse_one_score(config: FinetuneConfig, kind: Kind, train: pa.Table) -> None:
    """Raise WrongRows where the rows of a regression all have one score."""
    if kind.name == "regression" and len(train) and (train["score"].to_numpy() == train["score"][0].as_py()).all():
        raise WrongRows(
            f"finetune {config.name!r}: the training rows all have {train['score'][0].as_py():g} in {config.label!r},"
            " and there is nothing to learn; take another `label`"
        )


def of(config: FinetuneConfig, kind: Kind, tables: Tables, findings: Findings) -> dict[str, Any]:
    """What was seen in ``tables``, as JSON holds it.

    Raises WrongRows where more test rows are near copies of training rows than ``config`` allows.
    """
    texts = {name: shown(kind, table) for name, table in tables.items()}
    return {
        "rows": {name: table.num_rows for name, table in tables.items()},
        "labels": counts(kind, tables),
        "passed_over": findings.counted(),
        "notes": findings.notes,
        "duplicates": duplicates(tables, texts),
        "contradictions": contradictions(kind, tables, texts),
        "near_copies": copies(config, tables, texts),
        "near_copies_of_dev": _copied(tables, texts, "dev"),
    }


def shown(kind: Kind, table: pa.Table) -> list[str]:
    """All that each row says but its label."""
    names = [name for name in (*kind.columns, "pair") if name in table.column_names and name != kind.label]
    return [kind.shown(row) for row in table.select(dict.fromkeys(names)).to_pylist()]


def counts(kind: Kind, tables: Tables) -> dict[str, dict[str, Any]]:
    """For each set its classes with their rows (of tokens: entities); of scores smallest, mean and largest."""
    return {name: seen for name, table in tables.items() if (seen := kind.counts(table)) is not None}


def duplicates(tables: Tables, texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Rows that say what a row before them says, in all sets; ``example`` is a pair of places."""
    first: dict[str, str] = {}
    example: list[str] = []
    repeated = 0
    for name, table in tables.items():
        for place, text in zip(table["place"].to_pylist(), texts[name], strict=True):
            earlier = first.setdefault(text, place)
            if earlier != place:
                repeated += 1
                example = example or [earlier, place]
    return {"rows": repeated, "example": example}


def contradictions(kind: Kind, tables: Tables, texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Equal texts with different labels: how many texts, and the rows of the first."""
    if kind.fewest is None:
        return {"texts": 0, "example": []}
    first: dict[str, tuple[str, Any]] = {}
    wrong: dict[str, list[str]] = {}
    for name, table in tables.items():
        labelled = table[kind.label].to_pylist()
        for place, label, text in zip(table["place"].to_pylist(), labelled, texts[name], strict=True):
            where, other = first.setdefault(text, (place, label))
            if other != label:
                before, now = _apart(other, label)
                wrong.setdefault(text, [f"{where}: {before}", f"{place}: {now}"])
    return {"texts": len(wrong), "example": next(iter(wrong.values()), [])}


def _apart(one: Any, other: Any) -> tuple[str, str]:
    """Two labels that differ, in short: of the tags of words the first two that do."""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        at = next(at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
        return f"word {at + 1} is {one[at]}", f"word {at + 1} is {other[at]}"
    return _short(one), _short(other)


def _short(label: Any) -> str:
    text = str(label)
    return text if len(text) <= 60 else f"{text[:59]}…"


def copies(config: FinetuneConfig, tables: Tables, texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Test rows with a near copy among the training rows; ``ids`` are theirs. Raises WrongRows for too many of files.

    A corpus has its own near-duplicate removal, by the recipe's threshold.
    """
    copied = _copied(tables, texts, "test")
    share, example = copied["share"], copied["example"]
    if config.data is not None and share > config.near_copies and not config.allow_near_copies:
        raise WrongRows(
            f"{example['test']}: near copy of {example['train']} (similarity {example['similarity']})."
            f" {copied['rows']:,} of {tables['test'].num_rows:,} test rows ({share:.1%}) have such a copy in training,"
            f" above near_copies ({config.near_copies:.0%}), and the score would be too good; take them out, name what"
            " they have in common in `group`, or set `allow_near_copies: true` (scores are then given without them,"
            " too)"
        )
    return copied


def _copied(tables: Tables, texts: Mapping[str, Sequence[str]], name: str) -> dict[str, Any]:
    """Rows of the set ``name`` with a near copy among the training rows; the example is the least similar of them."""
    pairs = near_copies.find(texts["train"], texts[name])
    ids, places = (tables[name][column].to_pylist() for column in ("id", "place"))
    example: dict[str, Any] = {}
    if pairs:
        least = min(pairs, key=lambda copy: copy.similarity)
        train = tables["train"]["place"][least.train].as_py()
        example = {name: places[least.test], "train": train, "similarity": round(least.similarity, 3)}
    return {
        "threshold": near_copies.CONFIG.threshold,
        "rows": len(pairs),
        "share": len(pairs) / max(1, tables[name].num_rows),
        "ids": [ids[copy.test] for copy in pairs],
        "example": example,
    }


def truncated(tokens: Sequence[int], sequence_length: int) -> float:
    """The share of rows that have more ``tokens`` than ``sequence_length``, special tokens counted."""
    return float(np.mean(np.asarray(tokens) > sequence_length)) if len(tokens) else 0.0


def extended(config: FinetuneConfig, data: Labelled, tokenizer: Tokenizer) -> dict[str, Any]:
    """The audit of ``data`` and what ``with_tokenizer`` adds to it, where it was not added before."""
    if "not_expressible" in data.audit:
        return data.audit
    reach = long_text.reach(config.long_text, config.sequence_length, tokenizer.num_special_tokens_to_add(False))
    return data.audit | with_tokenizer(kinds.of(config), data, tokenizer, reach)


def with_tokenizer(kind: Kind, data: Labelled, tokenizer: Tokenizer, sequence_length: int) -> dict[str, Any]:
    """By set the share of rows that are ``truncated``, and the labels that are ``not_expressible``.

    ``labels`` of ``of`` labels are not: words without a piece, answers that end inside a piece. ``example`` names the
    first with its row. Of a kind that is read to its end, in windows, nothing is ``truncated``, and so not said to be.
    """
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    made: dict[str, Any] = {"truncated": {}, "not_expressible": {}} if kind.cut else {"not_expressible": {}}
    for name, table in (("train", data.train), ("dev", data.dev), ("test", data.test)):
        encoded = kind.encode(table, tokenizer)
        if kind.cut:
            made["truncated"][name] = truncated([len(encoding.ids) for encoding in encoded], sequence_length)
        if (faults := kind.not_expressible(table, encoded)) is not None:
            wrong, of = faults
            made["not_expressible"][name] = {"labels": len(wrong), "of": of, "example": wrong[0] if wrong else ""}
    return made

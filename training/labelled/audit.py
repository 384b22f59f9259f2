"""What is seen in labelled rows before training, and what is refused there.

The functions that ask for tokens stand by themselves: which tokenizer reads the rows is known only with the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Encoding, Tokenizer

from training.labelled import columns, near_copies
from training.labelled.findings import Findings
from training.labelled.rows import Labelled, WrongRows
from training.recipe.finetuning import FinetuneConfig, Task

Tables = Mapping[str, pa.Table]
_WITH_CLASSES: frozenset[Task] = frozenset({"classify", "multi_label", "tokens"})


def classes(task: Task, value: Any) -> list[str]:
    """The classes that the label of a row names: of tags the types of entities."""
    if task == "tokens":
        return [tag.partition("-")[2] for tag in value if tag != "O"]
    return value if task == "multi_label" else [value]


def _label_column(task: Task) -> str:
    return {"classify": "label", "multi_label": "labels", "tokens": "tags"}[task]


def labels(task: Task, tables: Tables) -> list[str]:
    """The labels of all rows in sorted order; of tokens O, and B- and I- of each type."""
    if task not in _WITH_CLASSES:
        return []
    column = _label_column(task)
    found = {name for table in tables.values() for row in table[column].to_pylist() for name in classes(task, row)}
    return sorted({"O", *(f"{mark}-{kind}" for mark in "BI" for kind in found)} if task == "tokens" else found)


def refuse_unknown(config: FinetuneConfig, tables: Tables, given: Mapping[str, str]) -> None:
    """Raise WrongRows where training has fewer than two classes, or lacks a label that another set has."""
    if config.task not in _WITH_CLASSES:
        return
    column = _label_column(config.task)
    counts = Counter(name for row in tables["train"][column].to_pylist() for name in classes(config.task, row))
    if len(counts) < (2 if config.task == "classify" else 1):
        raise WrongRows(
            f"finetune {config.name!r}: the training rows have {'the one label' if counts else 'no label'}"
            f" {', '.join(map(repr, counts))} in {config.label!r}, and there is nothing to tell apart; take another"
            " `label`"
        )
    lines = []
    for name in ("dev", "test"):
        unknown: Counter[str] = Counter()
        first: dict[str, str] = {}
        for place, row in zip(tables[name]["place"].to_pylist(), tables[name][column].to_pylist(), strict=True):
            for label in classes(config.task, row):
                if label not in counts:
                    unknown[label] += 1
                    first.setdefault(label, place)
        remedy = "add training rows with it, or leave its rows out"
        if name not in given and config.task == "classify":
            remedy = "add rows with it, or leave rare labels out by `smallest_class`"
        lines += [
            f"{first[label]}: the label {label!r} is in {count:,} {name} rows and in no training row; {remedy}"
            for label, count in unknown.most_common(20)
        ]
    if lines:
        raise WrongRows("\n".join(lines))


def of(config: FinetuneConfig, tables: Tables, found: Findings) -> dict[str, Any]:
    """What was seen in ``tables``, as JSON holds it.

    Raises WrongRows where more test rows are near copies of training rows than ``config`` allows.
    """
    texts = {name: shown(config.task, table) for name, table in tables.items()}
    return {
        "rows": {name: table.num_rows for name, table in tables.items()},
        "labels": counts(config.task, tables),
        "passed_over": found.counted(),
        "notes": found.notes,
        "duplicates": duplicates(tables, texts),
        "contradictions": contradictions(config.task, tables, texts),
        "near_copies": copies(config, tables, texts),
    }


def shown(task: Task, table: pa.Table) -> list[str]:
    """All that each row says but its label."""
    names = [name for name in ("text", "pair", "words", "question", "context") if name in table.column_names]
    return [columns.shown(task, row) for row in table.select(names).to_pylist()]


def counts(task: Task, tables: Tables) -> dict[str, dict[str, Any]]:
    """For each set its classes with their rows (of tokens: entities); of scores smallest, mean and largest."""
    made: dict[str, dict[str, Any]] = {}
    for name, table in tables.items():
        if task in _WITH_CLASSES:
            rows = table[_label_column(task)].to_pylist()
            if task == "tokens":
                rows = [[tag for tag in row if tag.startswith("B-")] for row in rows]
            made[name] = dict(sorted(Counter(label for row in rows for label in classes(task, row)).items()))
        elif "score" in table.column_names:
            values = table["score"].to_numpy()
            made[name] = {"smallest": values.min(), "mean": values.mean(), "largest": values.max()}
        elif task == "answers":
            empty = sum(not answers for answers in table["answers"].to_pylist())
            made[name] = {"with an answer": table.num_rows - empty, "without an answer": empty}
    return made


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


def contradictions(task: Task, tables: Tables, texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Equal texts with different labels: how many texts, and the rows of the first."""
    if task not in _WITH_CLASSES:
        return {"texts": 0, "example": []}
    first: dict[str, tuple[str, Any]] = {}
    wrong: dict[str, list[str]] = {}
    for name, table in tables.items():
        labelled = table[_label_column(task)].to_pylist()
        for place, label, text in zip(table["place"].to_pylist(), labelled, texts[name], strict=True):
            where, other = first.setdefault(text, (place, label))
            if other != label:
                wrong.setdefault(text, [f"{where}: {_short(other)}", f"{place}: {_short(label)}"])
    return {"texts": len(wrong), "example": next(iter(wrong.values()), [])}


def _short(label: Any) -> str:
    return str(label)[:60]


def copies(config: FinetuneConfig, tables: Tables, texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Test rows with a near copy among the training rows; ``ids`` are theirs. Raises WrongRows for too many of files.

    A corpus has its own near-duplicate removal, by the recipe's threshold.
    """
    found = near_copies.find(texts["train"], texts["test"])
    ids, places = (tables["test"][name].to_pylist() for name in ("id", "place"))
    share = len(found) / max(1, tables["test"].num_rows)
    example: dict[str, Any] = {}
    if found:
        least = min(found, key=lambda copy: copy.similarity)
        train = tables["train"]["place"][least.train].as_py()
        example = {"test": places[least.test], "train": train, "similarity": round(least.similarity, 3)}
    if config.data is not None and share > config.near_copies and not config.allow_near_copies:
        raise WrongRows(
            f"{example['test']}: near copy of {example['train']} (similarity {example['similarity']}). {len(found):,}"
            f" of {len(ids):,} test rows ({share:.1%}) have such a copy in training, above near_copies"
            f" ({config.near_copies:.0%}), and the score would be too good; take them out, name what they have in"
            " common in `group`, or set `allow_near_copies: true` (scores are then given without them, too)"
        )
    return {
        "threshold": near_copies.CONFIG.threshold,
        "rows": len(found),
        "share": share,
        "ids": [ids[copy.test] for copy in found],
        "example": example,
    }


def encode(data: Labelled, name: str, tokenizer: Tokenizer) -> list[Encoding]:
    """The rows of the set ``name`` as ``tokenizer`` reads them, not cut."""
    table: pa.Table = getattr(data, name)
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if data.task == "tokens":
        return tokenizer.encode_batch(table["words"].to_pylist(), is_pretokenized=True)
    names = ("question", "context") if data.task == "answers" else ("text", "pair")
    parts = [table[name].to_pylist() for name in names if name in table.column_names]
    return tokenizer.encode_batch(parts[0] if len(parts) == 1 else list(zip(*parts, strict=True)))


def truncated(tokens: Sequence[int], sequence_length: int) -> float:
    """The share of rows that have more ``tokens`` than ``sequence_length``, special tokens counted."""
    return float(np.mean(np.asarray(tokens) > sequence_length)) if len(tokens) else 0.0


def not_expressible(data: Labelled, name: str, encoded: Sequence[Encoding]) -> dict[str, Any]:
    """Labels of the set ``name`` that pieces cannot express: words without a piece, answers that end inside a piece.

    ``labels`` of ``of`` labels are such; ``example`` names the first with its row. Other tasks have none.
    """
    table: pa.Table = getattr(data, name)
    wrong: list[str] = []
    count = 0
    if data.task == "tokens":
        for place, words, encoding in zip(table["place"].to_pylist(), table["words"].to_pylist(), encoded, strict=True):
            count += len(words)
            pieces = set(encoding.word_ids)
            wrong += [f"{place}: {word!r}" for number, word in enumerate(words) if number not in pieces]
    elif data.task == "answers":
        for row, encoding in zip(table.select(["place", "context", "answers"]).to_pylist(), encoded, strict=True):
            starts, ends = _edges(row["context"], encoding)
            for answer in row["answers"]:
                count += 1
                text = answer["text"]
                start = answer["start"] + len(text) - len(text.lstrip())
                if start not in starts or start + len(text.strip()) not in ends:
                    wrong.append(f"{row['place']}: {text[:60]!r}")
    return {"labels": len(wrong), "of": count, "example": wrong[0] if wrong else ""}


def _edges(context: str, encoding: Encoding) -> tuple[set[int], set[int]]:
    """Where pieces of the context begin and end, in characters, without the space that a piece may begin with."""
    starts, ends = set(), set()
    for (start, end), part in zip(encoding.offsets, encoding.sequence_ids, strict=True):
        if part == 1:
            piece = context[start:end]
            starts.add(start + len(piece) - len(piece.lstrip()))
            ends.add(end - (len(piece) - len(piece.rstrip())))
    return starts, ends


def extended(data: Labelled, tokenizer: Tokenizer, sequence_length: int) -> dict[str, Any]:
    """The audit of ``data`` and what ``with_tokenizer`` adds to it, where it was not added before."""
    return data.audit if "truncated" in data.audit else data.audit | with_tokenizer(data, tokenizer, sequence_length)


def with_tokenizer(data: Labelled, tokenizer: Tokenizer, sequence_length: int) -> dict[str, Any]:
    """By set the share of rows that are ``truncated``, and the labels that are ``not_expressible``."""
    made: dict[str, Any] = {"truncated": {}, "not_expressible": {}}
    for name in ("train", "dev", "test"):
        encoded = encode(data, name, tokenizer)
        made["truncated"][name] = truncated([len(encoding.ids) for encoding in encoded], sequence_length)
        if data.task in ("tokens", "answers"):
            made["not_expressible"][name] = not_expressible(data, name, encoded)
    return made

"""Rows of a question and a context, with the spans of the context that answer it, or none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from tokenizers import Encoding, Tokenizer

from training.labelled.findings import Findings
from training.labelled.formats import Record
from training.labelled.kinds.base import Kind, Names
from training.recipe.finetuning import FinetuneConfig, Format


class Questions(Kind):
    name = "answers"
    columns = {
        "question": pa.string(),
        "context": pa.string(),
        "answers": pa.list_(pa.struct([("text", pa.string()), ("start", pa.int32())])),
    }
    label = "answers"
    json = "squad"
    cut = False

    def names(self, config: FinetuneConfig, _format: Format, /) -> Names:
        text = "question" if config.text == "text" else config.text
        return Names(text, "context" if config.pair is None else config.pair, config.label)

    def texts(self, at: Names) -> dict[str, str]:
        return {"question": at.text, "context": at.pair or "context"}

    def labelled(
        self,
        _config: FinetuneConfig,
        at: Names,
        record: Record,
        label: Any,
        texts: Mapping[str, str],
        findings: Findings,
    ) -> dict[str, Any] | None:
        context, checked = texts["context"], []
        for answer in _spans(label, context):
            if answer is None or not isinstance(text := answer.get("text"), str) or not text:
                findings.fault(
                    "answer",
                    record.place,
                    f"{at.label!r} is {str(label)[:60]}; write a list of answers, each with `text` and `answer_start`",
                )
                return None
            start = answer.get("answer_start", answer.get("start"))
            if not isinstance(start, int) or start < 0 or context[start : start + len(text)] != text:
                own = f" (id {record.values['id']!r})" if record.values.get("id") else ""
                findings.fault(
                    "answer", record.place, f"the answer {text[:60]!r}{own} {_elsewhere(text, start, context)}"
                )
                return None
            checked.append({"text": text, "start": start})
        return {"answers": checked}

    def key(self, row: Mapping[str, Any]) -> str:
        return row["context"]

    def shown(self, row: Mapping[str, Any]) -> str:
        return f"{row['question']}\n{row['context']}"

    def counts(self, table: pa.Table) -> dict[str, Any]:
        empty = sum(not answers for answers in table["answers"].to_pylist())
        return {"with an answer": table.num_rows - empty, "without an answer": empty}

    def encode(self, table: pa.Table, tokenizer: Tokenizer) -> list[Encoding]:
        return tokenizer.encode_batch(
            list(zip(table["question"].to_pylist(), table["context"].to_pylist(), strict=True))
        )

    def not_expressible(self, table: pa.Table, encoded: Sequence[Encoding], /) -> tuple[list[str], int]:
        """Answers that begin or end inside a piece."""
        wrong: list[str] = []
        count = 0
        for row, encoding in zip(table.select(["place", "context", "answers"]).to_pylist(), encoded, strict=True):
            starts, ends = _edges(row["context"], encoding)
            for answer in row["answers"]:
                count += 1
                text = answer["text"]
                start = answer["start"] + len(text) - len(text.lstrip())
                if start not in starts or start + len(text.strip()) not in ends:
                    wrong.append(f"{row['place']}: {text[:60]!r}")
        return wrong, count


def _elsewhere(text: str, start: Any, context: str) -> str:
    """Why an answer is not at ``start``, and what to do."""
    places = [match.start() for match in re.finditer(re.escape(text), context)]
    if not places:
        return "is not in its context; correct the answer, letter by letter, or leave the question out"
    listed = ", ".join(map(str, places[:5]))
    if start is None:
        return f"is in its context {len(places)} times, at characters {listed}; say which by `answer_start`"
    return (
        f"is not at character {start} of its context but at {listed}; correct `answer_start` (it counts characters from"
        " 0, not bytes)"
    )


def _spans(label: Any, context: str) -> list[dict[str, Any] | None]:
    """Answers as objects: of a list of them, of an object of lists (as datasets has it), or of one text."""
    if isinstance(label, dict) and isinstance(label.get("text"), list):
        starts = label.get("answer_start", label.get("start"))
        if not isinstance(starts, list) or len(starts) != len(label["text"]):
            return [None]
        return [{"text": t, "answer_start": s} for t, s in zip(label["text"], starts, strict=True)]
    listed = label if isinstance(label, list) else [label]
    return [_span(entry, context) for entry in listed]


def _span(entry: Any, context: str) -> dict[str, Any] | None:
    if isinstance(entry, str):
        once = context.count(entry) == 1
        return {"text": entry, "answer_start": context.find(entry) if once else None}
    return entry if isinstance(entry, dict) else None


def _edges(context: str, encoding: Encoding) -> tuple[set[int], set[int]]:
    """Where pieces of the context begin and end, in characters, without the space that a piece may begin with."""
    starts, ends = set(), set()
    for (start, end), part in zip(encoding.offsets, encoding.sequence_ids, strict=True):
        if part == 1:
            piece = context[start:end]
            starts.add(start + len(piece) - len(piece.lstrip()))
            ends.add(end - (len(piece) - len(piece.rstrip())))
    return starts, ends

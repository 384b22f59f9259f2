"""What a row says, by its task: the columns that the recipe names become those that training goes by."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pipeline.sources.base import value_of
from training.labelled import tags
from training.labelled.findings import Findings
from training.labelled.formats import Record
from training.recipe.finetuning import FinetuneConfig, Format, Task

MISSING = object()
_PAIRED: frozenset[Task] = frozenset({"similarity", "answers"})
_OF_LISTS: frozenset[Task] = frozenset({"tokens", "answers"})


class Names(NamedTuple):
    """The columns of a file that a task goes by; ``pair`` is that of the context where the task is ``answers``."""

    text: str
    pair: str | None
    label: str

    def named(self) -> dict[str, str]:
        """Options of the recipe with the columns they name."""
        pair = {} if self.pair is None else {"pair": self.pair}
        return {"text": self.text, **pair, "label": self.label}


def names(config: FinetuneConfig, kind: Format) -> Names:
    """Where the recipe leaves them at their defaults the columns that CoNLL and SQuAD files have."""
    text, pair = config.text, config.pair
    if text == "text" and kind == "conll":
        text = "words"
    if text == "text" and config.task == "answers":
        text = "question"
    if pair is None and config.task == "answers":
        pair = "context"
    return Names(text, pair, config.label)


def values(config: FinetuneConfig, at: Names, record: Record, found: Findings) -> dict[str, Any] | None:
    """The columns of the task, from one row; None where a fault or a row passed over went to ``found``."""
    label = value_of(record.values, at.label, MISSING)
    if label is MISSING or label is None or (label == "" and config.task not in ("multi_label", "text2text")):
        found.pass_over(f"rows without a value in {at.label!r}", record.place)
        return None
    if config.task == "tokens":
        return _tokens(at, record, label, found)
    texts = {"text": at.text} | ({} if at.pair is None else {"pair": at.pair})
    if config.task == "answers":
        texts = {"question": at.text, "context": at.pair or "context"}
    made: dict[str, Any] = {}
    for name, column in texts.items():
        text = value_of(record.values, column, MISSING)
        if isinstance(text, str) and text.strip():
            made[name] = text
            continue
        what = "is empty" if isinstance(text, str) or text in (None, MISSING) else f"is {type(text).__name__}, no text"
        found.fault(f"text {column}", record.place, f"{column!r} {what}; correct the row, or leave it out")
    if len(made) < len(texts):
        return None
    labelled = _LABELS[config.task](config, at, record, label, made, found)
    return None if labelled is None else made | labelled


def _class(
    _config: FinetuneConfig, at: Names, record: Record, label: Any, _made: Mapping[str, str], found: Findings
) -> dict[str, Any] | None:
    if isinstance(label, list | dict):
        found.fault(
            "label",
            record.place,
            f"{at.label!r} is {str(label)[:60]}, and a label is one text, number or truth value; of several labels say"
            " `task: multi_label`",
        )
        return None
    return {"label": name_of(label)}


def name_of(label: Any) -> str:
    """A label as text: 1 and 1.0 (as pandas makes of whole numbers beside gaps) are both ``1``."""
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return str(label).strip()


def _several(
    config: FinetuneConfig, at: Names, record: Record, label: Any, _made: Mapping[str, str], found: Findings
) -> dict[str, Any] | None:
    separator = "," if config.data is None else config.data.separator
    listed = label if isinstance(label, list) else name_of(label).split(separator)
    if isinstance(label, dict) or any(isinstance(entry, list | dict) or entry is None for entry in listed):
        found.fault(
            "labels",
            record.place,
            f"{at.label!r} is {str(label)[:60]}; write a list of texts, or one text with {separator!r}",
        )
        return None
    return {"labels": sorted({name for entry in listed if (name := name_of(entry))})}


def _score(
    config: FinetuneConfig, at: Names, record: Record, label: Any, _made: Mapping[str, str], found: Findings
) -> dict[str, Any] | None:
    try:
        score = float(label)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        found.fault("score", record.place, f"{at.label!r} is {str(label)[:60]!r}, no number; correct the row")
        return None
    if config.task == "similarity" and not 0 <= score <= 1:
        found.fault("score", record.place, f"{at.label!r} is {score:g}, not from 0 to 1; divide by the highest score")
        return None
    return {"score": score}


def _target(
    _config: FinetuneConfig, at: Names, record: Record, label: Any, _made: Mapping[str, str], found: Findings
) -> dict[str, Any] | None:
    if not isinstance(label, str) or not label.strip():
        what = "is empty" if isinstance(label, str) else f"is {type(label).__name__}, no text"
        found.fault("target", record.place, f"{at.label!r} {what}; correct the row, or leave it out")
        return None
    return {"target": label}


def _tokens(at: Names, record: Record, label: Any, found: Findings) -> dict[str, Any] | None:
    words = value_of(record.values, at.text, MISSING)
    if not isinstance(words, list) or not isinstance(label, list):
        found.fault(
            "lists",
            record.place,
            f"{at.text!r} and {at.label!r} must be lists, of words and of their tags; a CoNLL file has them, or JSON"
            " lines",
        )
        return None
    if len(words) != len(label):
        found.fault("lengths", record.place, f"{len(words)} words and {len(label)} tags; give each word one tag")
        return None
    if not words:
        found.fault("text", record.place, f"{at.text!r} is empty; correct the row, or leave it out")
        return None
    for number, (word, tag) in enumerate(zip(words, label, strict=True)):
        place = record.place
        if record.lines is not None:
            place = f"{record.place.rpartition(':')[0]}:{record.lines[number]}"
        if not isinstance(word, str) or not word.strip():
            found.fault("word", place, f"word {number + 1} is {word!r}; a word is a text that is not empty")
            return None
        if not isinstance(tag, str) or not tags.is_known(tag):
            found.fault(
                "tag", place, f"unknown tag {tag!r} of {word!r}; tags are O, B-TYPE and I-TYPE (IOB1, IOB2), or BIOES"
            )
            return None
    return {"words": words, "tags": label}


def _answers(
    _config: FinetuneConfig, at: Names, record: Record, label: Any, made: Mapping[str, str], found: Findings
) -> dict[str, Any] | None:
    context, checked = made["context"], []
    for answer in _spans(label, context):
        if answer is None or not isinstance(text := answer.get("text"), str) or not text:
            found.fault(
                "answer",
                record.place,
                f"{at.label!r} is {str(label)[:60]}; write a list of answers, each with `text` and `answer_start`",
            )
            return None
        start = answer.get("answer_start", answer.get("start"))
        if not isinstance(start, int) or start < 0 or context[start : start + len(text)] != text:
            own = f" (id {record.values['id']!r})" if record.values.get("id") else ""
            found.fault("answer", record.place, f"the answer {text[:60]!r}{own} {_elsewhere(text, start, context)}")
            return None
        checked.append({"text": text, "start": start})
    return {"answers": checked}


def _elsewhere(text: str, start: Any, context: str) -> str:
    """Why an answer is not at ``start``, and what to do."""
    places = [match.start() for match in re.finditer(re.escape(text), context)]
    if not places:
        return "is not in its context; correct the answer, letter by letter, or leave the question out"
    there = ", ".join(map(str, places[:5]))
    if start is None:
        return f"is in its context {len(places)} times, at characters {there}; say which by `answer_start`"
    return (
        f"is not at character {start} of its context but at {there}; correct `answer_start` (it counts characters from"
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


_Reader = Callable[[FinetuneConfig, Names, Record, Any, Mapping[str, str], Findings], dict[str, Any] | None]
_LABELS: dict[Task, _Reader] = {
    **{"classify": _class, "multi_label": _several, "regression": _score, "similarity": _score},
    **{"answers": _answers, "text2text": _target},
}


def key(task: Task, row: Mapping[str, Any]) -> str:
    """What rows have in common that must stay on one side of a split: the text, without case and width of gaps.

    Of questions it is the context, of pairs the first text.
    """
    text = " ".join(row["words"]) if task == "tokens" else row["context"] if task == "answers" else row["text"]
    return " ".join(text.split()).casefold()


def shown(task: Task, row: Mapping[str, Any]) -> str:
    """All that a row says but its label, as one text: equal for rows that differ in their label alone."""
    if task == "tokens":
        return " ".join(row["words"])
    if task == "answers":
        return f"{row['question']}\n{row['context']}"
    pair = row.get("pair")
    return row["text"] if pair is None else f"{row['text']}\n{pair}"

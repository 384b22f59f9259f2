"""SQuAD's JSON, versions 1.1 and 2.0: articles of paragraphs, each with questions; offsets count characters.

Rajpurkar et al. 2016, "SQuAD"; 2018, "Know What You Don't Know": ``is_impossible`` marks questions without an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from training.labelled.findings import Findings
from training.labelled.rows import WrongRows


def read(data: bytes, name: str, findings: Findings) -> Iterator[tuple[int, dict[str, Any]]]:
    """The questions in ``data``, numbered from 1: ``id``, ``title``, ``question``, ``context``, ``answers``."""
    try:
        articles = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise WrongRows(f"{name}:{error.lineno}: invalid JSON: {error.msg}; take the whole file again") from error
    articles = articles.get("data") if isinstance(articles, dict) else None
    if not isinstance(articles, list):
        raise WrongRows(
            f'{name}: no JSON object with a list "data", as SQuAD has it; of one object a line say `format: jsonl`'
        )
    number = plausible = 0
    for article in articles:
        for paragraph in _list(article, "paragraphs", name, number):
            context = _get(paragraph, "context", str, name, number)
            for entry in _list(paragraph, "qas", name, number):
                number += 1
                plausible += bool(isinstance(entry, dict) and entry.get("plausible_answers"))
                yield number, _question(entry, article, context, name, number, findings)
    if plausible:
        findings.note(
            f"{name}: the plausible (wrong) answers of {plausible:,} questions without an answer are not read"
        )


def _question(
    entry: Any, article: dict[str, Any], context: str, name: str, number: int, findings: Findings
) -> dict[str, Any]:
    question = _get(entry, "question", str, name, number)
    impossible = bool(entry.get("is_impossible", False))
    given = entry.get("answers") or []
    answers = [] if impossible else _list({"answers": given}, "answers", name, number)
    if not answers and not impossible:
        findings.fault(
            "no answer",
            f"{name}:{number}",
            f'question {entry.get("id")!r} has no answer; add one, or "is_impossible": true',
        )
    return {
        "id": entry.get("id"),
        "title": article.get("title"),
        "question": question,
        "context": context,
        "answers": answers,
    }


def _list(value: Any, key: str, name: str, number: int) -> list[Any]:
    return _get(value, key, list, name, number)


def _get(value: Any, key: str, kind: type, name: str, number: int) -> Any:
    inner = value.get(key) if isinstance(value, dict) else None
    if not isinstance(inner, kind):
        raise WrongRows(f'{name}: near question {number} an object has no {kind.__name__} "{key}"; correct the file')
    return inner

"""Labelled rows: three tables with the columns of their kind.

Every table has ``id`` (string, unique in it), ``group`` (string: rows of one group stay in one of the tables) and
``place`` (string, for messages: ``reviews.csv:17`` or the id of a document), and by its kind (``kinds``):

    classify     text, label (string); pair (string) where two texts are told apart
    multi_label  text, labels (list of string)
    regression   text, score (double); pair (string) where two texts are scored
    tokens       words, tags (lists of string of equal length; tags by IOB2)
    answers      question, context, answers (list of struct: text string, start int32, in characters of the context;
                 an empty list where the context holds none)
    text2text    text, target (string)
    similarity   text, pair, score (double, from 0 to 1: how alike the two are)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import orjson
import pyarrow as pa

from pipeline import MillError


class WrongRows(MillError):
    """Labelled rows that cannot be trained on. The message names file, row and column, and the remedy."""


@dataclass(frozen=True)
class Labelled:
    """Rows to train on, to choose by (``dev``) and to be judged by (``test``), each in order of ``id``.

    ``task`` names the kind of the rows. ``labels`` are the classes in sorted order (of tokens: the tags); empty where
    there are none.
    ``fingerprint`` names the rows and how they were split; ``audit`` is what was seen in them, for report and terminal.
    """

    task: str
    labels: list[str]
    train: pa.Table
    dev: pa.Table
    test: pa.Table
    fingerprint: str
    audit: dict
    hidden_words: int = 0


def identity(task: str, sets: Mapping[str, pa.Table]) -> str:
    """The fingerprint of rows and of how they were split, whatever file they stood in."""
    digest = hashlib.blake2b(task.encode(), digest_size=16)
    for name, table in sets.items():
        for column in sorted(set(table.column_names) - {"place"}):
            digest.update(f"\0{name}\0{column}\0".encode())
            for chunk in table[column].chunks:
                for value in chunk.to_pylist():
                    digest.update(orjson.dumps(value))
                    digest.update(b"\n")
    return digest.hexdigest()


def texts(table: pa.Table) -> tuple[list[str], list[str] | None]:
    """What a model reads of each row of ``table``: its text, and the second one where a row is a pair."""
    if "words" in table.column_names:
        return [" ".join(words) for words in table["words"].to_pylist()], None
    first, second = ("question", "context") if "question" in table.column_names else ("text", "pair")
    return table[first].to_pylist(), table[second].to_pylist() if second in table.column_names else None

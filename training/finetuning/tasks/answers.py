"""The answer to a question as a span of a context, or none.

Devlin et al. 2019, sections 4.2 and 4.3: each token scores as the first and as the last of the answer; the first token
of the sequence stands for no answer. A context that is longer than the model reads is read in windows that overlap.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch.nn.functional as F
from tokenizers import Encoding
from torch import Tensor, nn
from transformers import AutoModelForQuestionAnswering, PreTrainedModel

from training.finetuning import scores, squad
from training.finetuning.encoded import Encoded, Reader, encoded
from training.finetuning.forward import inputs
from training.finetuning.scores import Measure
from training.finetuning.tasks.base import Task
from training.loop.log import Metrics

#: The token that stands for no answer.
NULL = 0
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Span:
    """``text`` is the context's from character ``start`` up to ``end``; ``score`` is the sum of both logits."""

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Answer:
    """The best spans of a context, best first, and how much better no answer scores than the best of them."""

    spans: list[Span]
    lead_of_none: float

    def text(self, threshold: float) -> str:
        """The best span's text; empty where no answer leads by more than ``threshold``."""
        return "" if not self.spans or self.lead_of_none > threshold else self.spans[0].text


class Answers(Task):
    """Predictions are an ``Answer`` for each row; outputs are float32 [length, 2], logits of first and last token."""

    auto = AutoModelForQuestionAnswering
    main = "f1"
    #: Above which lead of no answer none is given: chosen on the development rows.
    threshold = np.inf

    def fields(self) -> dict[str, Any]:
        return {}

    def encode(self, reader: Reader, table: pa.Table) -> Encoded:
        questions, cut = _cut(reader, table["question"].to_pylist())
        contexts = table["context"].to_pylist()
        encodings, row = [], []
        overlap = self.config.answers.overlap
        overlap = reader.length // 4 if overlap is None else overlap
        for at, encoding in enumerate(reader.windows(questions, contexts, overlap)):
            windows = [encoding, *encoding.overflowing]
            encodings += windows
            row += [at] * len(windows)
        places = [_places(encoding, contexts[at]) for encoding, at in zip(encodings, row, strict=True)]
        unread = {"questions cut to half of sequence_length": cut} if cut else {}
        targets: dict[str, list[np.ndarray]] = {}
        if "answers" in table.column_names:
            targets, lost = _targets(table["answers"].to_pylist(), row, places)
            unread |= {"answers that no window holds whole": lost} if lost else {}
        made = encoded(encodings, reader.pad, targets, np.array(row, np.int64))
        return replace(made, places=places, unread=unread)

    def loss(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The mean cross-entropy of first and last token, in nats."""
        outputs = model(**inputs(model, arrays))
        sides = ((outputs.start_logits, arrays["first"]), (outputs.end_logits, arrays["last"]))
        hidden = arrays["mask"] == 0
        nats = [
            F.cross_entropy(logits.float().masked_fill(hidden, -1e4), target, reduction="sum")
            for logits, target in sides
        ]
        return {"loss": (nats[0] + nats[1]) / 2}

    def outputs(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> list[np.ndarray]:
        ends = model(**inputs(model, arrays))
        return list(np.stack([ends.start_logits.float().cpu(), ends.end_logits.float().cpu()], axis=2))

    def predictions(self, outputs: list[np.ndarray], data: Encoded, table: pa.Table, /) -> list[Answer]:
        options = self.config.answers
        spans: list[dict[tuple[int, int], float]] = [{} for _ in range(len(table))]
        null = np.full(len(table), np.inf)
        for row, output, place in zip(data.row, outputs, data.places, strict=True):
            null[row] = min(null[row], output[NULL].sum())
            for start, end, score in best_spans(output[: len(place)], place, options.longest, options.n_best):
                spans[row][start, end] = max(score, spans[row].get((start, end), -np.inf))
        return [
            _answer(candidates, context, float(none), options.n_best)
            for candidates, context, none in zip(spans, table["context"].to_pylist(), null, strict=True)
        ]

    def measures(self, predictions: list[Answer], table: pa.Table) -> list[Measure]:
        return _measures([answer.text(self.threshold) for answer in predictions], table)

    def parts(self, predictions: list[Answer], table: pa.Table) -> dict[str, list[Measure]]:
        """The measures of the questions that have an answer and of those that have none, where there are both."""
        has = [bool(answers) for answers in table["answers"].to_pylist()]
        if all(has) or not any(has):
            return {}
        texts = np.array([answer.text(self.threshold) for answer in predictions], object)
        sides = {"with an answer": np.array(has), "without an answer": ~np.array(has)}
        return {name: _measures(list(texts[side]), table.filter(pa.array(side))) for name, side in sides.items()}

    def judge(self, model: PreTrainedModel, dev: Encoded, /) -> Metrics:
        self.finish(model, dev)
        return self.measured(model, dev, self.rows.dev)

    def finish(self, model: PreTrainedModel, dev: Encoded, /) -> dict[str, Any]:
        """Choose the threshold, where some rows have no answer; otherwise each question is answered."""
        gold = [[answer["text"] for answer in answers] for answers in self.rows.dev["answers"].to_pylist()]
        if all(gold):
            return {}
        predicted = self.predict(model, dev, self.rows.dev, self.config.batch_size)
        answered = np.array(
            [squad.f1(answer.text(np.inf), texts) for answer, texts in zip(predicted, gold, strict=True)]
        )
        empty = np.array([squad.f1("", texts) for texts in gold])
        lead = np.array([answer.lead_of_none for answer in predicted])
        self.threshold = squad.best_threshold(lead, answered, empty)
        return {"threshold_of_no_answer": self.threshold}

    def baselines(self) -> dict[str, list[Answer]]:
        """The most frequent answer of the training rows, and the sentence with the most words of the question."""
        gold = [answers[0]["text"] if answers else "" for answers in self.rows.train["answers"].to_pylist()]
        counts = Counter(map(squad.normalised, gold))
        most = min(counts, key=lambda text: (-counts[text], text))
        rows = self.rows.test.select(["question", "context"]).to_pylist()
        return {
            "majority": [_said(most) for _ in rows],
            "sentence": [_said(_sentence(row["question"], row["context"])) for row in rows],
        }


def _said(text: str) -> Answer:
    return Answer([Span(text, 0, len(text), 0.0)], -np.inf)


def _cut(reader: Reader, questions: list[str]) -> tuple[list[str], int]:
    """``questions`` cut to half of what the model reads, so that there is room for the context; how many were cut."""
    half = reader.length // 2 - reader.tokenizer.num_special_tokens_to_add(is_pair=True)
    made, cut = [], 0
    for question, encoding in zip(questions, reader.read(questions, length=half), strict=True):
        ends = [end for of, (_, end) in zip(encoding.sequence_ids, encoding.offsets, strict=True) if of is not None]
        made.append(question[: max(ends, default=0)] if encoding.overflowing else question)
        cut += bool(encoding.overflowing)
    return made, cut


def _places(encoding: Encoding, context: str) -> np.ndarray:
    """The first character and the end of each token in ``context`` without white space around; -1 of others.

    Int64 [length, 2].
    """
    made = np.full((len(encoding.ids), 2), -1, np.int64)
    for at, (of, (start, end)) in enumerate(zip(encoding.sequence_ids, encoding.offsets, strict=True)):
        text = context[start:end]
        if of == 1 and text.strip():
            made[at] = start + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())
    return made


def _targets(
    answers: list[list[dict]], row: list[int], places: list[np.ndarray]
) -> tuple[dict[str, list[np.ndarray]], int]:
    """First and last token of the first answer in each window that holds it, else NULL; how many none holds."""
    first, last, inside = [], [], set()
    for at, place in zip(row, places, strict=True):
        span = (NULL, NULL)
        if answers[at]:
            start = answers[at][0]["start"]
            tokens = span_of(place, start, start + len(answers[at][0]["text"]))
            inside |= {at} if tokens else set()
            span = tokens or span
        first.append(np.array(span[0], np.int64))
        last.append(np.array(span[1], np.int64))
    return {"first": first, "last": last}, sum(map(bool, answers)) - len(inside)


def span_of(places: np.ndarray, start: int, end: int) -> tuple[int, int] | None:
    """The tokens at ``places`` [length, 2] that the characters from ``start`` to ``end`` begin and end in.

    None where the window does not hold them all.
    """
    inside = np.flatnonzero((places[:, 0] >= 0) & (places[:, 1] > start) & (places[:, 0] < end))
    if not len(inside) or places[inside[0], 0] > start or places[inside[-1], 1] < end:
        return None
    return int(inside[0]), int(inside[-1])


def best_spans(logits: np.ndarray, places: np.ndarray, longest: int, count: int) -> list[tuple[int, int, float]]:
    """The ``count`` spans with the highest sum of logits: first character, end, score; best first.

    ``logits`` [length, 2] of first and last; a span ends where it begins or later, and has up to ``longest`` tokens.
    """
    inside = places[:, 0] >= 0
    start, end = (np.where(inside, logits[:, side].astype(np.float64), -np.inf) for side in (0, 1))
    length = len(places)
    ends = np.arange(length)[:, None] + np.arange(min(longest, length))  # [first, tokens - 1]
    sums = start[:, None] + np.where(ends < length, end[np.minimum(ends, length - 1)], -np.inf)
    order = np.argsort(-sums, axis=None, kind="stable")[:count]
    firsts, tokens = np.unravel_index(order, sums.shape)
    return [
        (int(places[first, 0]), int(places[first + more, 1]), float(sums[first, more]))
        for first, more in zip(firsts, tokens, strict=True)
        if np.isfinite(sums[first, more])
    ]


def _answer(candidates: Mapping[tuple[int, int], float], context: str, null: float, count: int) -> Answer:
    ordered = sorted(candidates.items(), key=lambda item: (-item[1], item[0]))[:count]
    spans = [Span(context[start:end], start, end, score) for (start, end), score in ordered]
    return Answer(spans, null - spans[0].score if spans else np.inf)


def _measures(texts: Sequence[str], table: pa.Table) -> list[Measure]:
    gold = [[answer["text"] for answer in answers] for answers in table["answers"].to_pylist()]
    rows = [(squad.f1(text, of), squad.exact(text, of), 1) for text, of in zip(texts, gold, strict=True)]
    sums = scores.by_group(np.array(rows, np.float64), table["group"].to_pylist())
    return [
        Measure("f1", sums[:, ::2], scores.ratio),
        Measure("exact_match", sums[:, 1:], scores.ratio),
    ]


def _sentence(question: str, context: str) -> str:
    asked = set(squad.normalised(question).split())
    sentences = _SENTENCE_END.split(context)
    return max(sentences, key=lambda sentence: len(asked & set(squad.normalised(sentence).split())))

"""Faults between labelled rows and the loss: each is found before a model takes its first step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from transformers import PreTrainedModel

from pipeline.tokenization.token_account import TokensLost
from tests.helpers import foreign_models
from tests.helpers.foreign_models import job, rows
from tests.training.conftest import NAMES, VERBS, sentences
from training.finetuning import bases, conservation, finetune
from training.finetuning.encoded import IGNORED, Encoded, Order, Reader
from training.finetuning.long_text import pooling
from training.finetuning.tasks import task_of
from training.finetuning.tasks.base import Task
from training.labelled import audit

LONG = " ".join(f"the {NAMES[at % 4]} {VERBS[at % 3]} it ." for at in range(20))
TEXTS = [f"the {NAMES[at % 4]} {VERBS[at % 3]} the {NAMES[at % 3]}." * (1 + at % 3) for at in range(11)] + [LONG]


def given(kind: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Labels, and a row for each text."""
    match kind.split()[0]:
        case "pairs":
            return ["no", "yes"], [
                {"text": text, "pair": f"a {NAMES[at % 4]}", "label": ["no", "yes"][at % 2]}
                for at, text in enumerate(TEXTS)
            ]
        case "multi_label":
            return ["a", "b", "c"], [{"text": text, "labels": ["abc"[at % 3], "c"][: 1 + at % 2]}
                                     for at, text in enumerate(TEXTS)]  # fmt: skip
        case "regression":
            return [], [{"text": text, "score": at / 3} for at, text in enumerate(TEXTS)]
        case "similarity":
            return [], [{"text": text, "pair": TEXTS[at - 2], "score": float(at % 2)} for at, text in enumerate(TEXTS)]
        case "text2text":
            return [], [{"text": text, "target": VERBS[at % 3]} for at, text in enumerate(TEXTS)]
        case "tokens":
            words = [text.split() for text in TEXTS]
            return ["A", "B", "C"], [{"words": part, "tags": ["ABC"[at % 3] for at in range(len(part))]}
                                     for part in words]  # fmt: skip
        case "answers":
            found = [{"text": text.split()[1], "start": 4} for text in TEXTS]
            return [], [
                # of any length up to half a window and beyond, where they are cut; that of the long text is short
                {"question": "who " * ((at + 1) % len(TEXTS)) + "?", "context": text, "answers": [answer][: at % 4]}
                for at, (text, answer) in enumerate(zip(TEXTS, found, strict=True))
            ]
        case _:
            return ["a", "b"], [{"text": text, "label": "ab"[at % 2]} for at, text in enumerate(TEXTS)]


class Start(NamedTuple):
    task: Task
    reader: Reader
    table: pa.Table
    data: Encoded
    model: PreTrainedModel

    def check(self) -> None:
        audited = audit.extended(self.task.config, self.task.rows, self.reader.tokenizer)
        sets = {"train": (self.table, self.data)}
        conservation.check(self.task, self.reader, sets, self.model, audited.get("truncated", {}))


_HOW: dict[str, dict[str, Any]] = {
    "chunks": {"long_text": "chunks"}, "tail": {"long_text": "tail"}, "head_tail": {"long_text": "head_tail"},
    "answers": {"answers": {"overlap": 8}},
    "text2text": {"text2text": {"prefix": "short: ", "target_length": 8}},
}  # fmt: skip
KINDS = (
    "classify", "pairs", "multi_label", "regression", "similarity", "text2text", "tokens", "answers", "chunks", "tail",
    "head_tail",
)  # fmt: skip


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Start]:
    root = tmp_path_factory.mktemp("conservation")
    made: dict[str, Start] = {}
    folders = {"bert": foreign_models.bert(root / "bert", sentences(100))}

    def start(kind: str) -> Start:
        if kind not in made:
            labels, contents = given(kind)
            name = kind if kind in ("multi_label", "regression", "similarity", "text2text", "tokens", "answers") else ""
            labelled = rows(name or "classify", labels, contents, contents[:4], contents[:4])
            base = folders["bert"]
            if kind == "text2text":
                base = folders.setdefault("t5", foreign_models.t5(root / "t5", sentences(100)))
            config = job(root / kind, base, labelled, **_HOW.get(kind, {})).config
            task, reader = task_of(config, labelled), bases.reader(base, base, 32)
            model = bases.load(task.auto, base, task.fields(), 0.0, 0)
            task.prepare(model)
            data = task.encode(reader, labelled.train)
            pooling.attach(model, config.long_text, 0.0, 0)
            made[kind] = Start(task, reader, labelled.train, data, model)
        return made[kind]

    return start


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_fault_every_task_starts(starts: Callable[[str], Start], kind: str) -> None:
    start = starts(kind)
    assert max(len(part) for part in start.data.tokens) >= 32  # some text is cut, or read in windows
    start.check()


# Faults of the examples: what is done to each example's tokens, or to a target

Change = Callable[[Encoded], Encoded]


def tokens(change: Callable[[np.ndarray], Any]) -> Change:
    def changed(data: Encoded) -> Encoded:
        parts = [np.array(change(part.copy())) for part in data.tokens]
        return replace(data, tokens=parts, types=[np.resize(t, len(p)) for t, p in zip(data.types, parts, strict=True)])

    return changed


def target(name: str, change: Callable[[list[np.ndarray]], list[Any]]) -> Change:
    return lambda data: replace(
        data, targets={**data.targets, name: [np.array(p) for p in change([*map(np.copy, data.targets[name])])]}
    )


def kept(rows_kept: Callable[[int], list[int]]) -> Change:
    def changed(data: Encoded) -> Encoded:
        chosen = rows_kept(len(data))
        parts = {name: [of[at] for at in chosen] for name, of in data.targets.items()}
        row = data.row[chosen] if len(chosen) != len(data) else data.row
        return replace(data, tokens=[data.tokens[at] for at in chosen], types=[data.types[at] for at in chosen],
                       row=row, targets=parts)  # fmt: skip

    return changed


def other(part: np.ndarray) -> np.ndarray:
    part[len(part) // 2] += 1 if part[len(part) // 2] < 20 else -1
    return part


def rolled(parts: list[np.ndarray]) -> list[np.ndarray]:
    return [*parts[1:], parts[0]]


FAULTS: dict[str, tuple[str, Change]] = {
    "a row lost": ("classify", kept(lambda count: list(range(count - 1)))),
    "a row twice": ("classify", kept(lambda count: [0, *range(count)])),
    "rows swapped": ("classify", kept(lambda count: [1, 0, *range(2, count)])),
    "labels shifted by one row": ("classify", target("labels", rolled)),
    "label beyond the labels": ("classify", target("labels", lambda parts: [np.int64(2), *parts[1:]])),
    "a label lost": ("classify", target("labels", lambda parts: parts[:-1])),
    "no CLS": ("classify", tokens(lambda part: part[1:])),
    "no SEP": ("classify", tokens(lambda part: part[:-1])),
    "double SEP": ("classify", tokens(lambda part: np.append(part, part[-1]))),
    "SEP lost where a text is cut": ("classify", tokens(lambda part: [*part[:31], 5] if len(part) == 32 else part)),
    "cut earlier than it must be": ("classify", tokens(lambda part: [*part[:9], 3] if len(part) > 10 else part)),
    "a token changed": ("classify", tokens(other)),
    "an id beyond the vocabulary": ("classify", tokens(lambda part: part + 10**6 * (part > 4))),
    "one type for both texts of a pair": ("pairs", lambda data: replace(data, types=[0 * part for part in data.types])),
    "the second text of a pair lost": ("pairs", tokens(lambda part: part[: np.flatnonzero(part == 3)[0] + 1])),
    "the beginning read for the end": ("tail", tokens(lambda part: np.roll(part, 3) if len(part) == 32 else part)),
    "the last chunk lost": ("chunks", lambda data: replace(
        data, tokens=[part[: of[0]] for part, of in zip(data.tokens, data.targets["windows"], strict=True)],
        types=[part[: of[0]] for part, of in zip(data.types, data.targets["windows"], strict=True)],
        targets={**data.targets, "windows": [of[:1] for of in data.targets["windows"]]})),
    "one of several labels lost": ("multi_label", target("labels", lambda parts: [part * [1, 1, 0] for part in parts])),
    "scores of other rows": ("regression", target("scores", rolled)),
    "a score as a whole number": ("regression", target("scores", lambda parts: [np.floor(part) for part in parts])),
    "the second texts of other rows": ("similarity", target("other", rolled)),
    "targets without their end": ("text2text", target("labels", lambda parts: [part[:-1] for part in parts])),
    "targets shifted by one token": ("text2text", target("labels", lambda parts: [np.roll(part, 1) for part in parts])),
    "no end of the text to rewrite": ("text2text", tokens(lambda part: part[:-1])),
    "tags shifted by one token": ("tokens", target("tags", lambda parts: [np.roll(part, 1) for part in parts])),
    "a tag on a special token": ("tokens", target("tags", lambda parts: [np.append(part[:-1], 0) for part in parts])),
    "the last tag lost": ("tokens", target("tags", lambda parts: [[*part[:-2], IGNORED, IGNORED] for part in parts])),
    "answers shifted by one token": ("answers", lambda data: replace(data, targets={
        name: [part + (part > 0) for part in of] for name, of in data.targets.items()})),
    "answers learned as none": ("answers", lambda data: replace(data, targets={
        name: [0 * part for part in of] for name, of in data.targets.items()})),
    "the last window lost": ("answers", kept(lambda count: list(range(count - 1)))),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_examples_is_found(starts: Callable[[str], Start], fault: str) -> None:
    kind, change = FAULTS[fault]
    start = starts(kind)
    with pytest.raises(TokensLost, match=r"train rows:.*please report it"):
        start._replace(data=change(start.data)).check()


# Faults of batches, of their order, and of what the model sees


def wrong_batch(change: Callable[[Encoded, np.ndarray, dict[str, np.ndarray]], None]) -> Callable[..., Any]:
    right = Encoded.arrays

    def arrays(self: Encoded, chosen: np.ndarray) -> dict[str, np.ndarray]:
        made = right(self, chosen)
        change(self, chosen, made)
        return made

    return arrays


def seen_padding(_data: Encoded, _chosen: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
    arrays["mask"][:] = 1


def learned_padding(_data: Encoded, _chosen: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
    for name in {"tags", "labels"} & arrays.keys():
        arrays[name] = np.where(arrays[name] == IGNORED, arrays["mask"][:, : arrays[name].shape[1]] * 0, arrays[name])


def other_padding(_data: Encoded, _chosen: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
    arrays["tokens"] = np.where(arrays["mask"] == 0, 3, arrays["tokens"])


BATCHES = {
    "padding is seen": ("classify", seen_padding),
    "padding is learned": ("tokens", learned_padding),
    "padding of a target is learned": ("text2text", learned_padding),
    "padding is of another token": ("classify", other_padding),
}


@pytest.mark.parametrize("fault", BATCHES)
def test_a_fault_of_the_batches_is_found(
    starts: Callable[[str], Start], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    kind, change = BATCHES[fault]
    start = starts(kind)
    monkeypatch.setattr(Encoded, "arrays", wrong_batch(change))
    with pytest.raises(TokensLost, match=r"padding|of the batch are not those of the example"):
        start.check()


@pytest.mark.parametrize("kind", ["classify", "similarity"])
def test_a_model_that_sees_padding_is_found(
    starts: Callable[[str], Start], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    start = starts(kind)
    model = copy.deepcopy(start.model)
    for parameter in model.parameters():
        if parameter.dim() == 2:  # new weights attend to all alike, and what they see hardly counts
            parameter.data *= 4
    start = start._replace(model=model)
    start.check()
    right = model.forward

    def forward(**given: Any) -> Any:
        return right(**{name: value for name, value in given.items() if name != "attention_mask"})

    monkeypatch.setattr(model, "forward", forward)
    with pytest.raises(TokensLost, match="padding is seen"):
        start.check()


def test_an_example_that_no_step_reads_is_found(
    starts: Callable[[str], Start], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = starts("classify")
    order = Order(start.data.lengths, 4, 0)
    conservation.check_epoch("run", start.table, start.data, order)
    right = Order.rows
    monkeypatch.setattr(Order, "rows", lambda self, step: right(self, step)[:-1])
    with pytest.raises(TokensLost, match="is read 0 times in an epoch"):
        conservation.check_epoch("run", start.table, start.data, order)
    monkeypatch.setattr(Order, "rows", lambda self, step: right(self, step * 0))
    with pytest.raises(TokensLost, match="times in an epoch"):
        conservation.check_epoch("run", start.table, start.data, order)


def test_a_fine_tuning_with_a_fault_takes_no_step(
    starts: Callable[[str], Start], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = starts("classify").task
    monkeypatch.setattr(finetune.loop, "train", lambda *_: pytest.fail("a step was taken"))
    monkeypatch.setattr(type(task), "indices", lambda _self, table: np.zeros(len(table), np.int64))
    with pytest.raises(TokensLost, match="is learned as 'a', and is 'b'"):
        finetune.run(job(tmp_path, task.config.base, task.rows))

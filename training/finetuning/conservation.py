"""Before the first step of a fine-tuning: no row and no label is lost or changed between the rows and the loss.

Worked out from the rows here, and not by the code that makes examples:

- each row of each set has its example (of answers: its windows), with a target, and an epoch reads every one once;
- its tokens are those that ``tokenizers`` alone gives for the whole text, framed by its special tokens: all of them
  where they fit, else as many as fit, from the part that the recipe says; more texts are not cut than the audit counts;
- classes, scores, tags, answers and targets are the row's own, of as many tokens as are stated;
- padding is masked, has no target, and changes no loss.

Of targets every row is looked at, of tokens some rows of each set: the first, the last, the longest and some drawn by
hash. A breach raises TokensLost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedModel

from pipeline.text.hashing import document_hash
from pipeline.tokenization.token_account import TokensLost, difference
from training.finetuning.encoded import IGNORED, Encoded, Order, Reader
from training.finetuning.tasks import TASKS
from training.finetuning.tasks.base import Task, pairs
from training.finetuning.tasks.similarity import ALIKE
from training.recipe.long_text import Chunks, HeadTail, Hierarchical, Tail

Sets = Mapping[str, tuple[pa.Table, Encoded]]

_DRAWN, _LONGEST = 16, 8  # rows of a set whose texts are encoded again, beside the first and the last
_CLOSE = 1e-4  # of a loss, whose order of summing differs with the padding
_REMEDY = "please report it with the recipe: the model would learn of other rows than it was given"


@dataclass(frozen=True)
class _At:
    """The set of rows that a law is checked for."""

    run: str
    name: str
    table: pa.Table

    def fail(self, fault: str, row: Any = None) -> NoReturn:
        place = "" if row is None else f" {self.table['place'][int(row)].as_py()}:"
        raise TokensLost(f"finetune {self.run!r}, {self.name} rows:{place} {fault}; {_REMEDY}")


class _Whole(NamedTuple):
    """All tokens and token types of a row, and of each token which text it is of (-1: a special token)."""

    ids: list[int]
    types: list[int]
    of: list[int]
    offsets: list[tuple[int, int]]

    def part(self, text: int) -> list[int]:
        return [token for token, of in zip(self.ids, self.of, strict=True) if of == text]

    def frame(self) -> tuple[list[int], list[int], list[int]]:
        """The special tokens before, between (of a pair) and after the texts."""
        own = [at for at, of in enumerate(self.of) if of >= 0]
        if not own:
            return self.ids, [], []
        between = [self.ids[at] for at in range(own[0], own[-1]) if self.of[at] < 0]
        return self.ids[: own[0]], between, self.ids[own[-1] + 1 :]


def check(
    task: Task, reader: Reader, sets: Sets, model: PreTrainedModel, truncated: Mapping[str, float]
) -> dict[str, int]:
    """Raise TokensLost where rows or labels would be lost or changed in the run; returns what was looked at.

    ``sets`` are tables and their examples by name, ``train`` among them; ``truncated`` is the audit's share of cut
    rows, by set. The laws of tokens and targets are those of the program's tasks, and of plug-ins
    that make examples as these do.
    """
    own = type(task).encode is TASKS[task.config.like].encode
    tokenizer = Tokenizer.from_str(reader.tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    entries: Any = model.get_input_embeddings().num_embeddings
    looked_at = 0
    for name, (table, data) in sets.items():
        at = _At(task.config.name, name, table)
        _rows(at, data, min(entries, tokenizer.get_vocab_size()), windows=task.config.like == "answers" or not own)
        chosen = _chosen(table, data)
        looked_at += len(chosen)
        if own:
            wholes = dict(zip(chosen, _wholes(task, tokenizer, table.take(pa.array(chosen)), reader), strict=True))
            cut = _texts(at, task, reader, data, wholes)
            if task.config.like != "text2text" and cut > (counted := round(truncated.get(name, 1) * len(table))):
                at.fail(f"{cut} of {len(wholes)} texts are cut, and the audit counts {counted} of all")
            _targets(at, task, reader, tokenizer, data, wholes)
        _batch(at, task, data, chosen, own)
    if task.config.task not in task.config.added:
        table, data = sets["train"]
        _padding(_At(task.config.name, "train", table), task, data, model)
    return {"rows": sum(len(table) for table, _ in sets.values()), "encoded again": looked_at}


def check_epoch(run: str, table: pa.Table, data: Encoded, order: Order) -> None:
    """Raise TokensLost unless ``order`` reads each example of ``data``, which is made of ``table``, once an epoch."""
    read = np.concatenate([order.rows(step) for step in range(order.steps_per_epoch)])
    times = np.bincount(read, minlength=len(data))
    for wrong in np.flatnonzero(times[: len(data)] != 1)[:1].tolist():
        _At(run, "train", table).fail(f"is read {times[wrong]} times in an epoch", data.row[wrong])
    if len(times) != len(data):
        _At(run, "train", table).fail(f"{len(times):,} examples are read of {len(data):,}")


def _rows(at: _At, data: Encoded, entries: int, windows: bool) -> None:
    """Each row has its examples, in order, whose parts are of one length and of the vocabulary."""
    rows = len(at.table)
    missing = np.setdiff1d(np.arange(rows), data.row)
    if len(missing):
        at.fail(f"has no example ({len(missing):,} of {rows:,} rows have none)", missing[0])
    if (np.diff(data.row) < 0).any() or data.row.max(initial=-1) >= rows or (not windows and len(data.row) != rows):
        at.fail(f"{len(data.row):,} examples, not in the order of the {rows:,} rows")
    sizes = {name: len(parts) for name, parts in data.targets.items()}
    sizes |= {"types": len(data.types), "rows": len(data.row)}
    for name, size in sizes.items():
        if size != len(data):
            at.fail(f"{len(data):,} examples have {size:,} {name}")
    for row, tokens, types in zip(data.row.tolist(), data.tokens, data.types, strict=True):
        if len(tokens) != len(types):
            at.fail(f"{len(tokens)} tokens have {len(types)} token types", row)
        if len(tokens) and not 0 <= tokens.min() <= tokens.max() < entries:
            at.fail(f"tokens from {tokens.min()} to {tokens.max()} of a vocabulary of {entries}", row)


def _chosen(table: pa.Table, data: Encoded) -> list[int]:
    hashes = document_hash(table["id"].cast(pa.string()).combine_chunks(), 0)
    longest = data.row[np.argsort(-data.lengths, kind="stable")[:_LONGEST]]
    drawn = np.argsort(hashes, kind="stable")[:_DRAWN]
    return sorted({0, len(table) - 1, *longest.tolist(), *drawn.tolist()})


def _whole(encoding: Encoding, end: int | None = None) -> _Whole:
    """``end`` closes what the tokenizer leaves open."""
    of = [-1 if part is None else part for part in encoding.sequence_ids]
    made = _Whole(encoding.ids, encoding.type_ids, of, encoding.offsets)
    if end is None or (made.ids and made.ids[-1] == end):
        return made
    return _Whole([*made.ids, end], [*made.types, 0], [*made.of, -1], [*made.offsets, (0, 0)])


def _wholes(task: Task, tokenizer: Tokenizer, table: pa.Table, reader: Reader) -> list[_Whole]:
    seconds, end = None, None
    match task.config.like:
        case "tokens":
            texts = [" ".join(words) for words in table["words"].to_pylist()]
        case "answers":
            texts, seconds = table["question"].to_pylist(), table["context"].to_pylist()
        case "similarity":  # the other text is a target
            texts = table["text"].to_pylist()
        case "text2text":
            texts, end = [task.config.text2text.prefix + text for text in table["text"].to_pylist()], reader.end
        case _:
            texts, seconds = table["text"].to_pylist(), pairs(table)
    read = tokenizer.encode_batch(texts if seconds is None else list(zip(texts, seconds, strict=True)))
    return [_whole(encoding, end) for encoding in read]


def _texts(at: _At, task: Task, reader: Reader, data: Encoded, wholes: Mapping[int, _Whole]) -> int:
    """The tokens of a row are all of its text that fits, from where the recipe says; how many are cut."""
    cut = 0
    for row, whole in wholes.items():
        examples = np.flatnonzero(data.row == row)
        tokens = [data.tokens[example].tolist() for example in examples]
        if len(examples) == 1 and len(tokens[0]) == len(whole.ids) <= reader.length:
            if tokens[0] != whole.ids:
                at.fail(difference(tokens[0], whole.ids), row)
            if data.types[examples[0]].tolist() != whole.types:
                at.fail("has other token types than the tokenizer gives", row)
            continue
        if task.config.like == "answers" and _is_question_cut(reader, whole):
            continue  # it is counted
        if len(whole.ids) <= reader.length:
            at.fail(f"{len(whole.ids)} tokens fit into {reader.length}, and {sum(map(len, tokens))} are read", row)
        if task.config.like == "answers":
            _contexts(at, task, reader, whole, tokens, row)
        elif "windows" in data.targets:
            parts = np.split(data.tokens[examples[0]], np.cumsum(data.targets["windows"][examples[0]])[:-1])
            _chunks(at, task, reader, whole, [part.tolist() for part in parts], row)
        elif len(tokens[0]) != reader.length:
            at.fail(f"{reader.length} tokens have room, and {len(tokens[0])} of {len(whole.ids)} are read", row)
        elif not _is_cut(task, whole, tokens[0]):
            at.fail("its tokens are not those of the part of the text that is read, in their special tokens", row)
        else:
            cut += 1
    return cut


def _is_cut(task: Task, whole: _Whole, tokens: list[int]) -> bool:
    before, between, after = whole.frame()
    room = len(tokens) - len(before) - len(between) - len(after)
    first, second = whole.part(0), whole.part(1)
    if second or between:  # the longer text is cut first, until both are of one length
        return any(
            tokens == [*before, *first[:size], *between, *second[: room - size], *after]
            for size in range(max(0, room - len(second)), min(room, len(first)) + 1)
        )
    match task.config.long_text:
        case HeadTail(head=head):
            head = round(room * 128 / 510) if head is None else head  # Sun et al. 2019
            read = [*first[:head], *first[len(first) - room + head :]]
        case Tail():
            read = first[-room:]
        case _:
            read = first[:room]
    return tokens == [*before, *read, *after]


def _chunks(at: _At, task: Task, reader: Reader, whole: _Whole, parts: list[list[int]], row: int) -> None:
    """Chunks begin half a chunk after one another, and end with the text or where the recipe says."""
    before, _, after = whole.frame()
    options, text = task.config.long_text, whole.part(0)
    assert isinstance(options, Chunks | Hierarchical)
    room = reader.length - len(before) - len(after)
    stride = 2 * (room // 4)
    wanted = min(options.most, -(-(len(text) - room) // stride) + 1)
    if len(parts) != wanted:
        at.fail(f"is read in {len(parts)} chunks, not {wanted}", row)
    for number, part in enumerate(parts):
        if part != [*before, *text[number * stride : number * stride + room], *after]:
            at.fail(f"chunk {number} is not that part of the text in its special tokens", row)


def _is_question_cut(reader: Reader, whole: _Whole) -> bool:
    """Whether it does not fit into what is left of half a window by a pair's special tokens and by its own."""
    half = reader.length // 2 - sum(map(len, whole.frame()))
    return len(whole.part(0)) > half - reader.tokenizer.num_special_tokens_to_add(is_pair=False)


def _contexts(at: _At, task: Task, reader: Reader, whole: _Whole, parts: list[list[int]], row: int) -> None:
    """Windows behind the question hold the whole context, each with the stated overlap."""
    before, between, after = whole.frame()
    question, context = whole.part(0), whole.part(1)
    overlap = task.config.answers.overlap
    overlap = reader.length // 4 if overlap is None else overlap
    opening = [*before, *question, *between]
    start = 0
    for number, part in enumerate(parts):
        size = len(part) - len(opening) - len(after)
        start = start - overlap if number else 0
        if part != [*opening, *context[start : start + size], *after]:
            at.fail(f"window {number} is not that part of its context behind its question", row)
        start += size
    if start != len(context):
        at.fail(f"its windows hold {start} of {len(context)} tokens of the context", row)


def _targets(
    at: _At, task: Task, reader: Reader, tokenizer: Tokenizer, data: Encoded, wholes: Mapping[int, _Whole]
) -> None:
    """What is learned of each row is what the row says."""
    targets, table = data.targets, at.table
    match task.config.like:
        case "classify":
            _same(at, _named(at, task, np.array(targets["labels"])), table["label"].to_pylist())
        case "multi_label":
            marks = np.stack(targets["labels"]) if targets["labels"] else np.zeros((0, len(task.labels)))
            if marks.shape != (len(table), len(task.labels)):
                at.fail(f"{marks.shape} marks of {len(table)} rows with {len(task.labels)} labels")
            named = [[task.labels[label] for label in np.flatnonzero(row)] for row in marks]
            _same(at, named, [sorted(set(row)) for row in table["labels"].to_pylist()])
        case "regression":
            _same(at, *_scores(targets, table))
        case "similarity":
            _same(at, *_scores(targets, table))
            others = tokenizer.encode_batch([table["pair"][row].as_py() for row in wholes])
            _written(at, dict(zip(wholes, others, strict=True)), targets["other"], reader.length, None)
        case "text2text":
            others = tokenizer.encode_batch([table["target"][row].as_py() for row in wholes])
            most = task.config.text2text.target_length
            _written(at, dict(zip(wholes, others, strict=True)), targets["labels"], most, reader.end)
        case "tokens":
            _tags(at, task, data, wholes)
        case "answers":
            _spans(at, data, wholes)


def _scores(targets: Mapping[str, list[np.ndarray]], table: pa.Table) -> tuple[list[float], list[float]]:
    return np.array(targets["scores"]).tolist(), np.array(table["score"].to_pylist(), np.float32).tolist()


def _named(at: _At, task: Task, labels: np.ndarray) -> list[str]:
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(task.labels):
        at.fail(f"labels from {labels.min()} to {labels.max()} of {len(task.labels)}")
    return [task.labels[label] for label in labels.tolist()]


def _same(at: _At, actual: Sequence[Any], wanted: Sequence[Any]) -> None:
    for row, (here, present) in enumerate(zip(actual, wanted, strict=True)):
        if here != present:
            at.fail(f"is learned as {here!r}, and is {present!r}", row)


def _written(at: _At, others: Mapping[int, Encoding], targets: list[np.ndarray], most: int, end: int | None) -> None:
    """Tokens that are targets are all of their text, or as many as fit, closed as the whole is."""
    for row, encoding in others.items():
        whole, actual = _whole(encoding, end), targets[row].tolist()
        before, _, after = whole.frame()
        cut = [*before, *whole.part(0)[: most - len(before) - len(after)], *after]
        if actual != (whole.ids if len(whole.ids) <= most else cut):
            at.fail(f"the tokens of its other text: {difference(actual, whole.ids)}", row)


def _tags(at: _At, task: Task, data: Encoded, wholes: Mapping[int, _Whole]) -> None:
    """Every word that is read has its tag once, on the token that it begins with; special tokens have none."""
    labelled_cells = np.array([(part != IGNORED).sum() for part in data.targets["tags"]])
    words = np.array([len(row) for row in at.table["tags"].to_pylist()])
    if (more := labelled_cells > words).any():
        at.fail("has more tags than words", int(np.flatnonzero(more)[0]))
    if labelled_cells.sum() + sum(data.unread.values()) != words.sum():
        at.fail(
            f"{labelled_cells.sum():,} tags are learned of {words.sum():,}, and {data.unread} are counted as unread"
        )
    for part in data.targets["tags"]:
        _named(at, task, part[part != IGNORED])
    for row, whole in wholes.items():
        own, tags = at.table["words"][row].as_py(), at.table["tags"][row].as_py()
        text = " ".join(own)
        starts = np.cumsum([0, *(len(word) + 1 for word in own[:-1])])
        seen = set()
        targets = data.targets["tags"][row]
        content = len(targets) - len(whole.frame()[2])
        if (targets[content:] != IGNORED).any():
            at.fail("a special token has a tag", row)
        for place in np.flatnonzero(targets[:content] != IGNORED).tolist():
            label = int(targets[place])
            start, end = whole.offsets[place]
            start += len(text[start:end]) - len(text[start:end].lstrip())
            word = int(np.searchsorted(starts, start, "right")) - 1
            if whole.of[place] < 0 or start >= end or word in seen or tags[word] != task.labels[label]:
                at.fail(f"token {place} is learned as {task.labels[label]!r}, which its word is not, or not again", row)
            seen.add(word)


def _spans(at: _At, data: Encoded, wholes: Mapping[int, _Whole]) -> None:
    """An answer is learned as the tokens that it is made of, in a window or counted as in none."""
    first, last = (np.array(data.targets[name]) for name in ("first", "last"))
    if (wrong := (first > last) | (last >= data.lengths) | (first < 0)).any():
        at.fail("an answer ends before it begins, or outside its window", data.row[np.flatnonzero(wrong)[0]])
    answers = at.table["answers"].to_pylist()
    has = {row for row, given in enumerate(answers) if given}
    learned = set(data.row[last > 0].tolist())
    lost = data.unread.get("answers that no window holds whole", 0)
    if learned - has or len(learned) + lost != len(has):
        at.fail(f"{len(learned):,} answers are learned of {len(has):,}, and {lost:,} are counted as in no window")
    for row, whole in wholes.items():
        if row not in has:
            continue
        start = answers[row][0]["start"]
        end = start + len(answers[row][0]["text"])
        wanted = [
            token
            for token, of, (low, high) in zip(whole.ids, whole.of, whole.offsets, strict=True)
            if of == 1 and low < high and high > start and low < end
        ]
        for example in np.flatnonzero((data.row == row) & (last > 0)):
            actual = data.tokens[example][first[example] : last[example] + 1].tolist()
            if actual != wanted[-len(actual) :]:  # a token of white space before it is not of the answer
                at.fail(f"its answer is learned as the tokens {actual}, and is {wanted}", row)


def _batch(at: _At, task: Task, data: Encoded, chosen: list[int], own: bool) -> None:
    """Padding is masked, of the padding token, and has no target; what is stated is there."""
    rows = np.flatnonzero(np.isin(data.row, chosen))
    batch, lengths = task.batch(data, rows), data.lengths[rows]
    arrays = batch.arrays
    width = arrays["tokens"].shape[1]
    inside = np.arange(width) < lengths[:, None]
    if (arrays["mask"].astype(bool) != inside).any():
        at.fail("padding is taken for text, or text for padding")
    if (arrays["tokens"][~inside] != data.pad).any() or (arrays["types"][~inside] != 0).any():
        at.fail("padding is not of the padding token")
    for at_row, row in enumerate(rows):
        for name, array in {"tokens": data.tokens, "types": data.types, **data.targets}.items():
            part, cells = np.asarray(array[row]), arrays[name][at_row]
            whole = cells[: len(part)] if part.ndim else cells
            if (np.asarray(whole) != part).any():
                at.fail(f"{name} of the batch are not those of the example", data.row[row])
            if part.ndim and name not in ("tokens", "types") and (cells[len(part) :] != IGNORED).any():
                at.fail(f"padding has {name}", data.row[row])
    if batch.tokens != lengths.sum():
        at.fail(f"a batch of {lengths.sum():,} tokens is stated to have {batch.tokens:,}")
    if own:
        wanted = _counted(task, data, rows)
        if any(batch.counts[name] != wanted for name, weight in task.weights.items() if weight):
            at.fail(f"the loss is divided by {batch.counts}, of {wanted} targets")


def _counted(task: Task, data: Encoded, rows: np.ndarray) -> int:
    """The targets of ``rows`` that the loss is a mean over."""
    match task.config.like:
        case "tokens":
            return sum(int((data.targets["tags"][row] != IGNORED).sum()) for row in rows)
        case "text2text":
            return sum(len(data.targets["labels"][row]) for row in rows)
        case "similarity" if task.config.similarity.contrast != "cosine":
            return sum(int(data.targets["scores"][row] >= ALIKE) for row in rows)
        case _:
            return len(rows)


@torch.no_grad()
def _padding(at: _At, task: Task, data: Encoded, model: PreTrainedModel) -> None:
    """Two examples of other lengths cost together what each costs alone: padding is not seen, and costs nothing."""
    by_length = np.argsort(data.lengths, kind="stable")
    short, longer = by_length[0], by_length[len(by_length) // 2]
    if data.lengths[short] == data.lengths[longer]:
        return
    training = model.training
    model.eval()
    try:
        whole = _costs(task, data, model, [short, longer])
        apart = [_costs(task, data, model, [row]) for row in (short, longer)]
    finally:
        model.train(training)
    for name, value in whole.items():
        alone = np.concatenate([part[name] for part in apart])
        alone = alone if len(value) > 1 else alone.sum(keepdims=True)
        if (np.abs(alone - value) > _CLOSE * np.maximum(1, np.abs(value))).any():
            at.fail(f"padding is seen: {name} is {value[0]:.6g} with it and {alone[0]:.6g} without", data.row[short])


def _costs(task: Task, data: Encoded, model: PreTrainedModel, rows: list[Any]) -> dict[str, np.ndarray]:
    """The parts of the loss; of contrasts, which others of a batch change, the vectors."""
    arrays = {name: torch.from_numpy(part).to(model.device) for name, part in data.arrays(np.array(rows)).items()}
    if task.config.like == "similarity":
        return {"vectors": np.concatenate([part.ravel() for part in task.outputs(model, arrays)])}
    parts = task.loss(model, arrays)
    return {name: parts[name].reshape(1).cpu().numpy() for name, weight in task.weights.items() if weight}

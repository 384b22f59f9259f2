"""Before the first step of a run: no token is lost or changed between the packed files and the loss.

What is packed must belong to the tokenizer that is published, and add up. Token canaries, whose ids ``tokenizers``
alone gives, must be in their files; then one whole epoch of them, and the first windows of the run, must hold what the
laws below say, which are worked out from the documents here and not by the code that makes batches:

- every piece of a document in a window is a run of its tokens, framed by the objective's special tokens;
- an epoch reads each document as often as it repeats, but for what fills no last window;
- examples hold the tokens of their window, each target at its place, and none in padding or on a special token;
- segments part documents, places count from 0 in each;
- a window costs what its documents cost alone: none sees another.

A breach raises TokensLost.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn, cast

import numpy as np
import pyarrow.compute as pc
import torch
from torch import nn

from pipeline.build.build import Build
from pipeline.store import files, packed_tokens, shards
from pipeline.store.packed_tokens import PackedTokens
from pipeline.tokenization import pack, token_canaries
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.token_account import TokensLost
from training import objectives
from training.batches.batch import Batch
from training.batches.best_fit import FittedOrder
from training.batches.segment_pairs import PairOrder
from training.batches.windows import IGNORE, NOTHING, Order, Reader, SentenceWindows, Windows
from training.models.published_tokenizer import Known
from training.objectives.base import Objective, Task
from training.recipe.objectives import PAIRED

_LENGTH = 128  # tokens of a window of canaries, at most
_SHARDS, _DOCUMENTS = 4, 8  # of the corpus, whose texts the published tokenizer must read as they are packed
_FIRST = 16  # windows of the run that are looked at
_ALONE = 4  # windows whose examples a plug-in's objective makes again, one by one
_SENTINELS = 10**6  # at most, which come behind the vocabulary
_REMEDY = "please report it with the recipe: the run would be trained on other tokens than the corpus holds"
_REPACK = "delete the build's `tokens` folder and run the build again"
_CLOSE = 2e-5  # of the sum of losses, whose order of summing differs


@dataclass(frozen=True)
class _At:
    """Where a law is checked: for messages."""

    objective: str
    what: str
    packed: PackedTokens

    def fail(self, fault: str, window: int | None = None, document: int | None = None) -> NoReturn:
        place = "" if window is None else f", window {window}"
        if document is not None and document >= 0:
            place += f", document {self.packed.documents['id'][int(document)].as_py()!r}"
        raise TokensLost(f"{self.packed.folder}: {self.what}{place}: {fault} (objective {self.objective}); {_REMEDY}")


def check(
    objective: Objective, task: Task, packed: PackedTokens, order: Reader, module: nn.Module, tokenizer: str, seed: int,
    trained: bool = False,
) -> dict[str, int]:  # fmt: skip
    """Raise TokensLost where tokens would be lost or changed in the run; returns what was looked at.

    ``order`` reads ``packed`` in the run; ``tokenizer`` is the folder of the tokenizer that is published; ``trained``
    says that the weights of ``module`` are not new.
    """
    _belongs(packed, tokenizer)
    _adds_up(packed)
    canaries = planted(packed, tokenizer)
    length = min(_LENGTH, task.config.sequence_length)
    small = Task(**{**vars(task), "config": task.config.model_copy(update={"sequence_length": length})})
    reader = objective.order(small, canaries, seed, True)
    if not isinstance(reader, Order | FittedOrder | PairOrder):  # a plug-in's, whose laws are its own
        return {"canaries": len(canaries.documents), "windows": 0}
    epoch = _At(objective.name, "token canaries", canaries)
    windows = reader.read(np.arange(reader.windows_per_epoch))
    _pieces(epoch, small, windows, reader)
    _epoch(epoch, small, windows, reader)
    run = _At(objective.name, "the first windows", packed)
    first = order.read(np.arange(min(_FIRST, task.config.batch_size)))
    _pieces(run, task, first, order)
    _epoch_size(run, task, order)
    like = objective.like or objective.name
    for at, part, read in ((epoch, small, windows), (run, task, first)):
        batch = objective.examples(part, read)
        if objective.plugin is None or objective.examples is objectives.load(like).examples:
            _examples(at, part, read, batch, like)
        else:
            _plugins_examples(at, objective, part, read, batch, int(like == "causal"))
    if objective.plugin is None:
        alone(epoch, objective, small, windows, module, trained)
    return {"canaries": len(canaries.documents), "windows": len(windows.tokens) + len(first.tokens)}


def planted(packed: PackedTokens, tokenizer: str) -> PackedTokens:
    """The canaries beside ``packed``, found as ``tokenizer`` encodes them; packed now in a build without any."""
    folder = files.join(packed.folder.rstrip("/").rpartition("/")[0], token_canaries.FOLDER)
    digest, path = packed.manifest["tokenizer"], files.join(tokenizer, "tokenizer.json")
    reference = pack.load(path)
    if not token_canaries.are_current(folder, digest):
        token_canaries.write(folder, Encoder(pack.load(path)), packed.special_ids, digest)
    canaries = PackedTokens(folder)
    if canaries.special_ids != packed.special_ids or canaries.dtype != packed.dtype:
        raise TokensLost(f"{folder}: packed with other special tokens than {packed.folder}; {_REPACK}")
    token_canaries.check(canaries, reference)
    return canaries


def known(build: Build[Any], packed: PackedTokens, tokenizer: str) -> list[Known]:
    """Texts of the canaries and, where the corpus is there, of some packed documents, with the ids that they have."""
    canaries = planted(packed, tokenizer)
    texts = token_canaries.texts(pack.load(files.join(tokenizer, "tokenizer.json")))
    rows = dict(zip(canaries.documents["id"].to_pylist(), texts, strict=True))
    actual = _with_ids(canaries, rows)
    manifest = build.path("corpus", "manifest.json")
    names = files.read_json(manifest)["shards"] if files.exists(manifest) else []
    for at, name in list(enumerate(names))[:: max(1, len(names) // _SHARDS)]:
        first = int(np.searchsorted(packed.starts, packed.bounds[at]))
        ids = packed.documents["id"].slice(first, _DOCUMENTS)
        table = shards.read_table(build.path("corpus", name), ["id", "text"])
        mine = table.filter(pc.is_in(table["id"], ids.combine_chunks()))
        actual += _with_ids(packed, dict(zip(mine["id"].to_pylist(), mine["text"].to_pylist(), strict=True)), first)
    return actual


def _with_ids(packed: PackedTokens, texts: Mapping[str, str], first: int = 0) -> list[Known]:
    closing = int("eos" in packed.special_ids)
    rows = packed.documents["id"].slice(first, max(len(texts), _DOCUMENTS)).to_pylist()
    actual = []
    for row, name in enumerate(rows, first):
        if name in texts:
            ids = packed.tokens(int(packed.starts[row]), int(packed.starts[row + 1]) - closing)
            actual.append(Known(name, texts[name], ids.astype(np.int64).tolist()))
    return actual


def _belongs(packed: PackedTokens, tokenizer: str) -> None:
    """The tokens were packed with this tokenizer, and their special tokens are its own."""
    path = files.join(tokenizer, "tokenizer.json")
    if files.file_digest(path) != packed.manifest["tokenizer"]:
        raise TokensLost(
            f"{packed.folder}: packed with another tokenizer than {path}, which the model is published with; run the"
            " build again, which packs the corpus with it"
        )
    actual = pack.load(path)
    dtype = packed_tokens.token_dtype(packed.vocab_size)
    if actual.get_vocab_size() != packed.vocab_size or packed.dtype != dtype:
        raise TokensLost(
            f"{packed.folder}: {packed.vocab_size} entries as {packed.dtype} where {path} has"
            f" {actual.get_vocab_size()}; {_REPACK}"
        )
    beside = files.join(tokenizer, "tokenizer_config.json")
    named = files.read_json(beside) if files.exists(beside) else {}
    for role, index in packed.special_ids.items():
        token = named.get(f"{role}_token")
        token = token["content"] if isinstance(token, dict) else token
        if token is not None and actual.token_to_id(token) != index:
            raise TokensLost(
                f"{packed.folder}: its {role} token is {index}, and {token!r} is {actual.token_to_id(token)} in {path};"
                f" {_REPACK}"
            )


def _adds_up(packed: PackedTokens) -> None:
    """Documents, tokens and repeats come to what the manifest states, of every domain."""
    lengths, repeats = np.diff(packed.starts), packed.repeats.astype(np.int64)
    manifest = packed.manifest
    actual = {
        "documents": len(lengths),
        "tokens": int(lengths.sum()),
        "repeated_tokens": int((lengths * repeats).sum()),
    }
    for name, value in actual.items():
        domains = sum(entry[name] for entry in manifest["domains"].values())
        if not value == manifest[name] == domains:
            raise TokensLost(
                f"{packed.folder}: {value:,} {name.replace('_', ' ')} are in its shards, {manifest[name]:,} in its"
                f" manifest and {domains:,} in its domains; {_REPACK}"
            )


def _frame(task: Task) -> tuple[int | None, int | None]:
    """The tokens that the objective puts around a document (None: none), the end token that is packed with it apart."""
    known = task.vocabulary
    if task.config.like in ("causal", "span_corruption"):
        return None, None
    return known.opening, known.sep if known.eos is None else None


def _pieces(at: _At, task: Task, windows: Windows, reader: Reader) -> None:
    """Every run of a document in a window is a run of the document's tokens, in its frame."""
    before, after = _frame(task)
    paired, packed = task.config.like in PAIRED, at.packed
    eos = packed.special_ids.get("eos")
    contents: dict[int, np.ndarray] = {}
    for window in range(len(windows.tokens)):
        tokens, documents = windows.tokens[window], windows.documents[window]
        marks = windows.segments[window].astype(np.int64)
        for low, high in _runs(documents, marks):
            row = int(documents[low])
            if row == NOTHING:
                continue
            if row not in contents:
                contents[row] = packed.tokens(int(packed.starts[row]), int(packed.starts[row + 1])).astype(np.int64)
                if eos is not None and (len(contents[row]) == 0 or contents[row][-1] != eos):
                    at.fail("the document does not end with the end-of-text token", window, row)
            piece = tokens[low:high]
            opens = bool(windows.first[window, low])
            if paired:
                if low == 0 or tokens[0] != before or high >= len(tokens) or tokens[high] != _separator(task):
                    at.fail("a segment is not framed by its special tokens", window, row)
            elif before is not None and (opens or isinstance(reader, FittedOrder)):
                if piece[0] != before:
                    at.fail(f"a document begins with token {piece[0]} and not with {before}", window, row)
                piece = piece[1:]
            whole = contents[row]
            if after is not None and not paired and len(piece) and piece[-1] == after:
                piece = piece[:-1]
            elif after is not None and not paired and high < len(tokens):
                at.fail(
                    f"a document ends with token {piece[-1] if len(piece) else None} and not with {after}", window, row
                )
            in_order = isinstance(reader, Order)
            if _find(whole[: len(piece)] if opens and in_order else whole, piece) < 0:
                at.fail("tokens are not those of the document", window, row)
            if in_order and low > 0 and not opens:
                at.fail("a document begins inside the window, and not with its first token", window, row)


def _separator(task: Task) -> int | None:
    return task.vocabulary.eos if task.vocabulary.sep is None else task.vocabulary.sep


def _runs(*rows: np.ndarray) -> list[tuple[int, int]]:
    """Where runs of cells that are equal in all ``rows`` start and stop."""
    changes = np.zeros(len(rows[0]) - 1, bool)
    for row in rows:
        changes |= np.diff(row) != 0
    edges = [0, *(np.flatnonzero(changes) + 1).tolist(), len(rows[0])]
    return list(pairwise(edges))


def _find(whole: np.ndarray, part: np.ndarray) -> int:
    """Where ``part`` begins in ``whole``; -1 if it is no run of it."""
    if len(part) == 0:
        return 0
    text, sought = whole.astype("<i8").tobytes(), part.astype("<i8").tobytes()
    at = text.find(sought)
    while at >= 0 and at % 8:
        at = text.find(sought, at + 1)
    return at // 8 if at >= 0 else -1


def _epoch(at: _At, task: Task, windows: Windows, reader: Reader) -> None:
    """The epoch reads each document as often as it repeats, but for what fills no last window."""
    _epoch_size(at, task, reader)
    if task.config.like in PAIRED:
        return
    width = windows.tokens.shape[1] - reader.length
    cells = windows.documents[:, width:]
    read = np.bincount(cells[cells != NOTHING], minlength=len(at.packed.repeats))
    frame = sum(token is not None for token in _frame(task))
    lengths = np.diff(at.packed.starts)
    wanted = (lengths + frame) * at.packed.repeats
    if isinstance(reader, FittedOrder):
        length = reader.length - frame
        if task.config.packing != "full_sentences":  # each piece has a frame, and how often it is cut is known
            wanted = (lengths + frame * -(-lengths // length)) * at.packed.repeats
            for row in np.flatnonzero(read != wanted)[:1].tolist():
                at.fail(f"{read[row]} tokens of it are read in an epoch, not {wanted[row]}", document=row)
        return
    for row in np.flatnonzero(read > wanted)[:1].tolist():
        at.fail(f"{read[row]} tokens of it are read in an epoch, more than {wanted[row]}", document=row)
    if wanted.sum() - read.sum() >= reader.length:
        at.fail(f"{wanted.sum() - read.sum():,} tokens are not read in an epoch, and a window has {reader.length}")


def _epoch_size(at: _At, task: Task, reader: Reader) -> None:
    """As many windows as the repeated documents fill."""
    if not isinstance(reader, Order):
        return
    frame = sum(token is not None for token in _frame(task))
    total = int(((np.diff(at.packed.starts) + frame) * at.packed.repeats.astype(np.int64)).sum())
    if reader.tokens_per_epoch != total or reader.windows_per_epoch != total // reader.length:
        at.fail(
            f"an epoch has {reader.tokens_per_epoch:,} tokens in {reader.windows_per_epoch:,} windows; its documents,"
            f" repeated, have {total:,}, which fill {total // reader.length:,}"
        )


def _examples(at: _At, task: Task, windows: Windows, batch: Batch, like: str) -> None:
    """Examples hold the tokens of their windows, and targets where there is something to predict."""
    arrays = batch.arrays
    width = int(like == "causal")  # its windows show the token before them
    tokens, segments = windows.tokens[:, width:], windows.segments[:, width:]
    inside = segments != NOTHING
    own = arrays.get("decoder_segments", arrays["segments"])
    if like not in ("span_corruption",):
        _segments(at, windows, own, width)
        places = arrays.get("decoder_positions", arrays["positions"])
        if (places != _counted(own))[inside].any():
            at.fail("places do not count from 0 in each document", _where(places != _counted(own), inside))
    match like:
        case "causal":
            targets = _causal(at, task, windows, arrays)
        case "denoising":
            targets = _written(at, task, windows, arrays)
        case "span_corruption":
            targets = _spans(at, task, windows, arrays)
        case _:
            targets = _masked(at, task, tokens, inside, arrays, like)
    stated = batch.counts.get(like, batch.counts.get("mlm", batch.counts.get("spans")))
    if stated != targets or batch.tokens != inside.sum():
        at.fail(f"{stated} targets and {batch.tokens} tokens are stated; there are {targets} and {inside.sum()}")
    labels = arrays["labels"][arrays["labels"] != IGNORE]
    size = task.vocabulary.size + (_SENTINELS if like == "span_corruption" else 0)
    if len(labels) and not 0 <= labels.min() <= labels.max() < size:
        at.fail(f"targets from {labels.min()} to {labels.max()} of a vocabulary of {task.vocabulary.size}")


def _plugins_examples(at: _At, objective: Objective, task: Task, windows: Windows, batch: Batch, width: int) -> None:
    """What holds of any objective: examples are made of their window alone, and what is stated of them is there."""
    inside = windows.segments[:, width:] != NOTHING
    if batch.tokens != inside.sum():
        at.fail(f"{batch.tokens} tokens are stated; there are {inside.sum()}")
    if missing := objective.weights(task).keys() - batch.counts.keys():
        at.fail(f"how many targets there are is not stated of {', '.join(sorted(missing))}")
    for window in range(min(_ALONE, len(inside))):
        single = objective.examples(task, windows.take(np.array([window]))).arrays
        for name, array in batch.arrays.items():
            mine, beside = np.asarray(single[name])[0], np.asarray(array)[window]
            size = min(len(mine), len(beside)) if mine.ndim else None  # they may be filled up to the longest
            if not np.array_equal(mine[:size], beside[:size]):
                at.fail(f"its example alone has other {name} than beside those of others", window)
    labels = np.asarray(batch.arrays.get("labels", np.zeros((0, 0), np.int64)))
    stated, most = labels[labels != IGNORE], task.vocabulary.size + _SENTINELS * (objective.like == "span_corruption")
    if labels.dtype.kind == "i" and len(stated) and not 0 <= stated.min() <= stated.max() < most:
        at.fail(f"targets from {stated.min()} to {stated.max()} of a vocabulary of {task.vocabulary.size}")
    if labels.shape == inside.shape and "picked" not in batch.arrays and (labels != IGNORE)[~inside].any():
        at.fail("padding has labels", _where(labels != IGNORE, ~inside))


def _where(wrong: np.ndarray, inside: np.ndarray) -> int:
    return int(np.flatnonzero((wrong & inside).any(1))[0])


def _segments(at: _At, windows: Windows, segments: np.ndarray, width: int) -> None:
    """Segments change where a document ends, and nowhere else; padding is none."""
    documents, first = windows.documents[:, width:], windows.first[:, width:]
    read = windows.segments[:, width:]
    if (wrong := (segments == NOTHING) != (read == NOTHING)).any():
        at.fail("padding is taken for text, or text for padding", _where(wrong, np.ones_like(wrong)))
    if hasattr(windows, "types"):
        return  # a pair is one segment of two documents
    changes = (np.diff(documents, axis=1) != 0) | first[:, 1:]
    parted = np.diff(segments, axis=1) != 0
    if (wrong := changes & ~parted).any():
        at.fail("two documents share a segment, and would see each other", _where(wrong, np.ones_like(wrong)))
    if (wrong := parted & (np.diff(read, axis=1) == 0)).any():
        at.fail("a document is parted where it goes on", _where(wrong, np.ones_like(wrong)))


def _counted(segments: np.ndarray) -> np.ndarray:
    """Places from 0 in each segment."""
    place = np.broadcast_to(np.arange(segments.shape[1]), segments.shape)
    opens = np.concatenate([np.ones((len(segments), 1), bool), np.diff(segments, axis=1) != 0], axis=1)
    return place - np.maximum.accumulate(np.where(opens, place, 0), axis=1)


def _causal(at: _At, task: Task, windows: Windows, arrays: Mapping[str, Any]) -> int:
    """Each token of the window is the label at its place; its input is the token before it in its document."""
    tokens, labels = arrays["tokens"], arrays["labels"]
    inside = windows.segments[:, 1:] != NOTHING
    if (wrong := (labels != windows.tokens[:, 1:]) & inside).any():
        at.fail("a label is not the token at its place", _where(wrong, inside))
    if (labels != IGNORE)[~inside].any():
        at.fail("padding has labels", _where(labels != IGNORE, ~inside))
    begins = windows.first[:, 1:]
    if (wrong := begins & (tokens != task.vocabulary.opening)).any():
        at.fail(f"a document is not begun by token {task.vocabulary.opening}", _where(wrong, begins))
    goes_on = inside & ~begins
    if (wrong := goes_on & (tokens != windows.tokens[:, :-1])).any():
        at.fail("an input is not the token before its label", _where(wrong, goes_on))
    return int(inside.sum())


def _masked(at: _At, task: Task, tokens: np.ndarray, inside: np.ndarray, arrays: Mapping[str, Any], like: str) -> int:
    """With the labels put back, the inputs are the window, its ends framed; what is picked is text."""
    labels, picked = arrays["labels"], arrays["picked"]
    wanted = tokens.copy()
    if like not in PAIRED:  # a document that a window cuts is framed there, too
        wanted[:, 0] = task.vocabulary.opening
        wanted[inside[:, -1], -1] = task.vocabulary.closing
    rows, slots = np.nonzero(labels != IGNORE)
    actual = arrays["tokens"].copy()
    actual[rows, picked[rows, slots]] = labels[rows, slots]
    if (wrong := (actual != wanted) & inside).any():
        at.fail("an input or a label is not the token at its place", _where(wrong, inside))
    if "original" in arrays and (wrong := (arrays["original"] != wanted) & inside).any():
        at.fail("the original is not the window", _where(wrong, inside))
    chosen = np.zeros(inside.shape, np.int64)
    np.add.at(chosen, (rows, picked[rows, slots]), 1)
    if (wrong := (chosen > 1) | ((chosen > 0) & (~inside | np.isin(wanted, task.vocabulary.special)))).any():
        at.fail("a label stands on padding, on a special token, or twice", _where(wrong, np.ones_like(wrong)))
    present = (inside & ~np.isin(wanted, task.vocabulary.special)).sum(1)
    share, slack = present.sum() * task.config.mask_share, len(present) + 1
    least, most = share - slack, share + slack
    if like == "mlm_sop":  # whole words, as many as hold the share on average; of long ones fewer fit
        least, most = share / 2 - slack, labels.size
    if (chosen.sum(1) == 0)[present > 0].any() or not least <= chosen.sum() <= most:
        at.fail(f"{chosen.sum()} of {present.sum()} tokens are predicted, not a share of {task.config.mask_share}")
    return len(rows)


def _written(at: _At, task: Task, windows: Windows, arrays: Mapping[str, Any]) -> int:
    """The decoder writes each document that its encoder reads; its inputs are the labels before."""
    labels, segments = arrays["labels"], arrays["decoder_segments"]
    inside = windows.segments != NOTHING
    wanted = windows.tokens.copy()
    wanted[:, 0] = task.vocabulary.opening
    wanted[inside[:, -1], -1] = task.vocabulary.closing
    labelled = labels != IGNORE
    if (wrong := labelled & (~inside | (labels != wanted))).any():
        at.fail("a label is not the token at its place", _where(wrong, np.ones_like(wrong)))
    shown = [set(row.tolist()) for row in arrays["segments"]]
    answered = np.array([[segment in of for segment in row] for row, of in zip(segments.tolist(), shown, strict=True)])
    if (wrong := inside & answered & ~labelled).any():
        at.fail("a token that its document's noise leaves an encoder input for has no label", _where(wrong, inside))
    same = np.zeros_like(inside)
    same[:, 1:] = (segments[:, 1:] == segments[:, :-1]) & inside[:, 1:]
    before = np.roll(wanted, 1, axis=1)
    if (wrong := same & (arrays["decoder_tokens"] != before)).any():
        at.fail("an input of the decoder is not the token before its label", _where(wrong, same))
    for window in range(len(wanted)):
        _spoilt(at, task, windows, arrays, wanted[window], window)
    return int(labelled.sum())


def _spoilt(at: _At, task: Task, windows: Windows, arrays: Mapping[str, Any], wanted: np.ndarray, window: int) -> None:
    """The encoder reads each document's own tokens in its frame, in order but where sentences changed places."""
    mask, frame = task.vocabulary.mask, (task.vocabulary.opening, task.vocabulary.closing)
    marks, sentences = windows.segments[window].astype(np.int64), cast(SentenceWindows, windows).sentences[window]
    for low, high in _runs(marks):
        whole = wanted[low:high]
        source = arrays["tokens"][window][arrays["segments"][window] == marks[low]]
        if marks[low] == NOTHING or not len(source):
            continue
        if any(whole[end] in frame and source[end] != whole[end] for end in (0, -1)):
            at.fail("an input of the encoder lacks the frame of its document", window)
        if Counter(source[source != mask].tolist()) - Counter(whole.tolist()):
            at.fail("an input of the encoder is not a token of its document", window)
        neighbours = set(pairwise(whole.tolist()))
        parted = sum(mask not in pair and pair not in neighbours for pair in pairwise(source.tolist()))
        seams = int(sentences[low:high].sum()) + 3  # sentences that moved, the frame's ends, and a rotation
        if task.config.denoising.noise == "deletion":
            seams += len(whole) - len(source)
        if parted > seams:
            at.fail(f"inputs of the encoder are parted in {parted} places, and at most {seams} are seams", window)


def _spans(at: _At, task: Task, windows: Windows, arrays: Mapping[str, Any]) -> int:
    """Inputs and targets, put together at their sentinels, are the window."""
    size, closing = task.vocabulary.size, task.vocabulary.closing
    for window in range(len(windows.tokens)):
        inside = windows.segments[window] != NOTHING
        raw = windows.tokens[window][inside]
        source = arrays["tokens"][window][arrays["segments"][window] != NOTHING].tolist()
        present = arrays["decoder_segments"][window] != NOTHING
        labels = arrays["labels"][window][present].tolist()
        if len(raw) < 2:
            continue
        if source[-1] != closing or labels[-1] not in (closing, IGNORE):
            at.fail("inputs or targets do not end with the end token", window)
        kept = [token for token in source[:-1] if token < size]
        spans = sum(token >= size for token in source)
        removed = len(labels) - 1 - spans
        if len(kept) + removed != len(raw):
            at.fail(f"{len(kept)} tokens stay and {removed} go of {len(raw)}", window)
        place, label, labelled = 0, 0, labels[:-1]
        for token in source[:-1]:
            if token < size:
                if place >= len(raw) or raw[place] != token:
                    at.fail("an input is not the token at its place", window)
                place += 1
                continue
            if label >= len(labelled) or labelled[label] not in (token, IGNORE):
                at.fail("the sentinels of inputs and targets differ", window)
            label += 1
            while label < len(labelled) and labelled[label] < size and place < len(raw):
                if labelled[label] != IGNORE and labelled[label] != raw[place]:
                    at.fail("a target is not the token at its place", window)
                elif labelled[label] == IGNORE and _kept_next(source, token, raw, place, size):
                    break  # the next sentinel, of what no input answers
                label, place = label + 1, place + 1
    return int((arrays["labels"] != IGNORE).sum())


def _kept_next(source: list[int], sentinel: int, raw: np.ndarray, place: int, size: int) -> bool:
    """Whether what stays behind ``sentinel`` goes on at ``place`` of the raw text."""
    rest = source[source.index(sentinel) + 1 : -1]
    stop = next((at for at, token in enumerate(rest) if token >= size), len(rest))
    return stop > 0 and rest[:stop] == raw[place : place + stop].tolist()


def alone(at: _At, objective: Objective, task: Task, windows: Windows, module: nn.Module, trained: bool) -> None:
    """A window of two or three documents costs what each costs alone; a model of pairs sees both, by intent."""
    if task.config.like in PAIRED:
        return
    counts = [len(set(row.tolist()) - {NOTHING}) for row in windows.segments]
    chosen = next((row for row, count in enumerate(counts) if count in (2, 3)), None)
    if chosen is None:
        return
    arrays = objective.examples(task, windows.take(np.array([chosen]))).arrays
    target = arrays.get("decoder_segments", arrays["segments"])
    with contextlib.nullcontext() if trained else _sharp(module):
        whole = _cost(objective, module, arrays)
        parts = [_cost(objective, module, _only(arrays, segment)) for segment in set(target[0].tolist()) - {NOTHING}]
    for name, value in whole.items():
        total = sum(part[name] for part in parts)
        if "accuracy" not in name and abs(total - value) > _CLOSE * max(1.0, abs(value)):
            at.fail(f"documents see each other: {name} is {value:.6g} together and {total:.6g} apart", chosen)


@contextlib.contextmanager
def _sharp(module: nn.Module) -> Iterator[None]:
    """In the block matrices are 4 times as large: new weights attend to all alike, and what they see hardly counts.

    A power of two, so that they are afterwards what they were, to the bit.
    """
    matrices = [parameter for parameter in module.parameters() if parameter.dim() == 2]
    with torch.no_grad():
        for matrix in matrices:
            matrix.mul_(4)
    try:
        yield
    finally:
        with torch.no_grad():
            for matrix in matrices:
                matrix.mul_(0.25)


def _cost(objective: Objective, module: nn.Module, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            parts = objective.loss(module, {name: torch.from_numpy(array) for name, array in arrays.items()})
    finally:
        module.train(training)
    return {name: float(value) for name, value in parts.items()}


def _only(arrays: Mapping[str, np.ndarray], segment: int) -> dict[str, np.ndarray]:
    """The arrays as if the other documents were padding, and of other tokens."""
    changed = {name: array.copy() for name, array in arrays.items()}
    owner = arrays.get("decoder_segments", arrays["segments"])
    if "picked" in arrays:
        owner = np.take_along_axis(arrays["segments"], arrays["picked"], axis=1)
    changed["labels"][owner != segment] = IGNORE
    for prefix in ("", "decoder_"):
        if f"{prefix}segments" in changed:
            others = arrays[f"{prefix}segments"] != segment
            changed[f"{prefix}segments"][others] = NOTHING
            changed[f"{prefix}tokens"][others] = arrays[f"{prefix}tokens"][0, 0]
            if not prefix and "original" in changed:
                changed["original"][others] = arrays["original"][0, 0]
    return changed

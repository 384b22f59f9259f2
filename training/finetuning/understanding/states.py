"""What each layer of a base makes of labelled rows: a vector a text, or one a word, computed once and kept on disk.

Only batches are in memory while they are computed, and one layer of one set while it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from transformers import AutoModel

from pipeline.store import files
from pipeline.text.hashing import document_hash
from training.finetuning import bases
from training.finetuning.encoded import Encoded, Reader, encoded
from training.finetuning.job import Job
from training.finetuning.tasks.base import inputs, pairs
from training.finetuning.tasks.tokens import first_pieces
from training.labelled.rows import Labelled
from training.loop import hardware

VERSION = 1
#: Vectors of each set at most: of a layer no more are in memory.
MOST = {"train": 2_000, "dev": 1_000, "test": 2_000}
#: Ways to make one vector of a text's last states, beside the mean, which is the last layer's vector.
POOLED = ("first", "max")
_BATCH = 32
_DECODERS = ("gpt2", "llama", "qwen3")


@dataclass(frozen=True)
class Vectors:
    """A set's vectors and what is known of them.

    ``states`` float32 [layers + 1, n, width], layer 0 being the embeddings, then POOLED where a vector is a text's;
    mapped from a file. ``labels`` int64 [n]; ``types`` are what each vector is of: a text, or a word; ``groups`` the
    group of its row.
    """

    states: np.ndarray
    labels: np.ndarray
    types: list[str]
    groups: list[str]
    of_texts: bool = True

    @property
    def layers(self) -> int:
        """Layers, the embeddings being one."""
        return len(self.states) - (len(POOLED) if self.of_texts else 0)

    def layer(self, at: int) -> np.ndarray:
        """The vectors of a layer: float32 [n, width]."""
        return np.array(self.states[at])

    def pooled(self, way: str) -> np.ndarray:
        """The vectors that texts have in the last layer by one of POOLED, or by mean: float32 [n, width]."""
        return self.layer(self.layers - 1 if way == "mean" else self.layers + POOLED.index(way))


@dataclass(frozen=True)
class Base:
    """The encoder of a base, in evaluation mode, and how it reads."""

    model: nn.Module
    reader: Reader

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def decoder(self) -> bool:
        """Whether a token sees only those before it: then the last one, not the first, has seen the text."""
        return self.config.model_type in _DECODERS


def base_of(job: Job, attention: str = "sdpa") -> Base:
    """The base of ``job``, as it was before fine-tuning; its attention is computed as ``attention`` says."""
    model: Any = bases.load(AutoModel, job.base, {}, 0.0, 0)
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    model.set_attn_implementation(attention)
    return Base(model.to(hardware.device()).eval(), reader_of(job))


def reader_of(job: Job) -> Reader:
    """How the base of ``job`` reads."""
    return bases.reader(job.base, bases.tokenizer_folder(job.base, job.work), job.config.sequence_length)


def sampled(table: pa.Table, most: int) -> pa.Table:
    """At most ``most`` rows of ``table``, those whose ids have the least hashes, in the table's order."""
    if len(table) <= most:
        return table
    hashes = document_hash(table["id"].combine_chunks(), 0)
    return table.take(np.sort(np.argsort(hashes, kind="stable")[:most]))


def vectors(job: Job) -> dict[str, Vectors]:
    """The vectors of each set (train, dev, test) in the base of ``job``, of texts or, of task tokens, of words."""
    rows, reader, base = job.rows, reader_of(job), None
    of_words = rows.task == "tokens"
    made = {}
    for side, table in (("train", rows.train), ("dev", rows.dev), ("test", rows.test)):
        table = _words_sampled(table, MOST[side]) if of_words else sampled(table, MOST[side])
        data, places = _read(reader, table, of_words)
        made_by = files.fingerprint(
            VERSION, job.started_from, rows.fingerprint, side, MOST[side], job.config.sequence_length
        )
        folder = files.join(job.features or job.work, "understanding", f"{side}-{made_by[:16]}")
        path = files.join(folder, "states.npy")
        if not files.exists(path):
            base = base or base_of(job)
            with files.replacing_folder(folder) as aside:
                _write(aside / "states.npy", base, data, places)
        files.check(path)
        states = np.load(files.local(path), mmap_mode="r", allow_pickle=False)
        made[side] = Vectors(states, *_known(table, rows, places), of_texts=not of_words)
    return made


def _words_sampled(table: pa.Table, most: int) -> pa.Table:
    """Rows of ``table``, chosen as ``sampled`` does, with ``most`` words at most; one row in any case."""
    order = np.argsort(document_hash(table["id"].combine_chunks(), 0), kind="stable")
    words = np.array([len(words) for words in table["words"].to_pylist()])
    kept = max(1, int(np.searchsorted(np.cumsum(words[order]), most, side="right")))
    return table.take(np.sort(order[:kept]))


def _read(reader: Reader, table: pa.Table, of_words: bool) -> tuple[Encoded, list[np.ndarray] | None]:
    """The rows as examples, and of words the places of their first pieces in each."""
    if not of_words:
        return encoded(reader.read(table["text"].to_pylist(), pairs(table)), reader.pad, {}), None
    sentences = table["words"].to_pylist()
    encodings = reader.read([" ".join(words) for words in sentences])
    places = [first_pieces(words, encoding) for words, encoding in zip(sentences, encodings, strict=True)]
    return encoded(encodings, reader.pad, {}), places


def _known(table: pa.Table, rows: Labelled, places: list[np.ndarray] | None) -> tuple[np.ndarray, list[str], list[str]]:
    """Labels, types and groups of the vectors of ``table``: of its texts, or of the words at ``places``."""
    index = {label: at for at, label in enumerate(rows.labels)}
    groups = table["group"].to_pylist()
    if places is None:
        texts = table["text"].to_pylist()
        types = texts if (second := pairs(table)) is None else [f"{a}\n{b}" for a, b in zip(texts, second, strict=True)]
        return np.array([index[label] for label in table["label"].to_pylist()], np.int64), types, groups
    labels, types, of = [], [], []
    columns = table.select(["words", "tags"]).to_pylist()
    for row, place, group in zip(columns, places, groups, strict=True):
        for word in place[place >= 0].tolist():
            labels.append(index[row["tags"][word]])
            types.append(row["words"][word])
            of.append(group)
    return np.array(labels, np.int64), types, of


@torch.no_grad()
def _write(path: Path, base: Base, data: Encoded, places: list[np.ndarray] | None) -> None:
    """The states of ``data`` in every layer, as ``Vectors.states`` has them, batch by batch into the file ``path``."""
    counts = [1 if places is None else int((places[at] >= 0).sum()) for at in range(len(data))]
    starts = np.cumsum([0, *counts])
    whole: np.ndarray | None = None
    for chosen, tensors, layers in _forward(base, data):
        if whole is None:
            kinds = len(layers) + (0 if places is not None else len(POOLED))
            shape = (kinds, int(starts[-1]), layers[0].shape[-1])
            whole = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        mask = tensors["mask"][..., None]
        for at, layer in enumerate(layers):
            if places is None:
                whole[at, starts[chosen]] = _mean(layer, mask).cpu().numpy()
            else:
                values = layer.cpu().numpy()
                for row, states in zip(chosen, values, strict=True):
                    whole[at, starts[row] : starts[row + 1]] = states[: len(places[row])][places[row] >= 0]
        if places is None:
            for at, way in enumerate(POOLED, len(layers)):
                whole[at, starts[chosen]] = pooled(way, layers[-1], mask, base.decoder).cpu().numpy()
    assert whole is not None
    whole.flush()  # type: ignore[attr-defined]


def _forward(base: Base, data: Encoded) -> Iterator[tuple[np.ndarray, dict[str, Tensor], list[Tensor]]]:
    """Examples, their arrays and their states float32 [n, length, width] in each layer, in batches by length."""
    order = np.argsort(data.lengths, kind="stable")
    device = next(base.model.parameters()).device
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        tensors = {name: torch.from_numpy(part).to(device) for name, part in data.arrays(chosen).items()}
        layers = base.model(**inputs(base.model, tensors), output_hidden_states=True).hidden_states
        yield chosen, tensors, [layer.float() for layer in layers]


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    return (states * mask).sum(1) / mask.sum(1).clamp(min=1)


def pooled(way: str, states: Tensor, mask: Tensor, decoder: bool = False) -> Tensor:
    """One vector of each text's ``states`` [n, length, width], where ``mask`` [n, length, 1] is 1: float32 [n, width].

    ``way``: mean, max, or the first token's state ([CLS]), in a ``decoder`` the last one's.
    """
    if way == "mean":
        return _mean(states, mask)
    if way == "max":
        return states.masked_fill(mask == 0, -torch.inf).amax(1)
    last = mask.sum(1).clamp(min=1) - 1 if decoder else torch.zeros_like(mask[:, 0])
    return states.gather(1, last[..., None].expand(-1, 1, states.shape[-1]))[:, 0]
